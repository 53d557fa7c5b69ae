"""A plugin is given its table; what is wrong with it is told without its values."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from skipper.errors import SettingsError
from skipper.instance.jobs import Job, JobKind, SourceInfo
from skipper.instance.plugin_settings import hand_over, unread
from skipper.instance.plugins import Plugins
from skipper.settings.plugins import PluginTable

TAKES = """
    import skipper

    taken = {}

    @skipper.hook
    def skipper_settings(settings, source):
        taken[source] = settings
"""
CHECKS = """
    import pydantic
    import skipper

    class Settings(pydantic.BaseModel, extra="forbid"):
        limit: int
        level: pydantic.SecretStr = ""
        kind: list[pydantic.Json] = []

        @pydantic.field_validator("level")
        @classmethod
        def is_known(cls, value):
            if value.get_secret_value() == "high":
                return value
            raise ValueError(f"{value.get_secret_value()} is no level")

    @skipper.hook
    def skipper_settings(settings):
        Settings.model_validate(settings)
"""


@pytest.fixture
def plugins(tmp_path: Path) -> Iterator[Callable[..., Plugins]]:
    """Loads a project with these plugin files, whose modules a later test forgets."""

    def load(without: tuple[str, ...] = (), **files: str) -> Plugins:
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(dedent(text))
        return Plugins(tmp_path, without=without)

    before = set(sys.modules)
    yield load
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def job(plugin: str, **values: Any) -> Job:
    source = SourceInfo(
        name="made",
        file=Path("made.py"),
        module="made",
        origin="mine",
        plugin=plugin,
        code="0",
        libraries=(),
        pools=None,
    )
    table = PluginTable(title=f"plugins.{plugin}", values=values)
    return Job(kind=JobKind.SERVE, project_dir=Path("/p"), source=source, settings=table)


def refusal(plugins: Plugins, plugin: str, **values: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        hand_over(plugins, job(plugin, **values))
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


def test_the_plugin_that_named_the_source_is_given_its_table(
    plugins: Callable[..., Plugins],
) -> None:
    loaded = plugins(mine=TAKES, other=TAKES)
    given = Job.model_validate_json(job("mine", token="SESAME").model_dump_json())
    hand_over(loaded, given)
    assert sys.modules["mine"].taken == {"made": {"token": "SESAME"}}
    assert sys.modules["other"].taken == {}


def test_without_a_table_nobody_is_asked(plugins: Callable[..., Plugins]) -> None:
    loaded = plugins(mine=TAKES)
    hand_over(loaded, job("mine").model_copy(update={"settings": None}))
    assert sys.modules["mine"].taken == {}


def test_a_plugin_that_takes_no_settings_is_not_in_the_way(
    plugins: Callable[..., Plugins],
) -> None:
    hand_over(plugins(mine="import skipper"), job("mine", x=1))


def test_a_plugin_that_is_left_out_serves_nothing_with_settings(
    plugins: Callable[..., Plugins],
) -> None:
    message = refusal(plugins(("mine",), mine=TAKES), "mine", x=1)
    assert message == "plugins.mine: the plugin 'mine' is not loaded"


def test_what_a_model_refuses_is_told_setting_by_setting(plugins: Callable[..., Plugins]) -> None:
    loaded = plugins(mine=CHECKS)
    hand_over(loaded, job("mine", limit=3, level="high"))
    assert refusal(loaded, "mine", limit="many", tokn="x", kind=["4711"], level="SESAME") == (
        "plugins.mine.limit: Input should be a valid integer, unable to parse string as an integer"
        "; plugins.mine.level: ******** is no level"
        "; plugins.mine.tokn: Extra inputs are not permitted"
    )
    assert refusal(loaded, "mine") == "plugins.mine.limit: Field required"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("raise ValueError(f'odd: {settings}')", "plugins.mine: odd: {'a': '********', 'b': "),
        ("raise ValueError('write ' + settings['a'])", "plugins.mine: write ********"),
        ("settings['c']", "plugins.mine: KeyError: 'c' ("),
        ("{settings['a']: 1}[0]", "plugins.mine: KeyError: 0 ("),
        ("raise SystemExit(settings['b'][0])", "plugins.mine: SystemExit: it called"),
        ("int(settings['a'])", "invalid literal for int() with base 10: '********'"),
    ],
)
def test_whatever_a_plugin_raises_no_value_is_told(
    plugins: Callable[..., Plugins], text: str, told: str
) -> None:
    loaded = plugins(mine=f"import skipper\n@skipper.hook\ndef skipper_settings(settings): {text}")
    message = refusal(loaded, "mine", a="SESAME", b=["SESAME-2", 4711, {"c": "SESAME-3"}])
    assert told in message
    assert "SESAME" not in message
    assert "4711" not in message
    if message.endswith(")") and "Error:" in message:
        assert message.endswith("mine.py:3)")


# --- tables that nobody reads ---


def test_a_table_that_no_plugin_takes_is_told_of(plugins: Callable[..., Plugins]) -> None:
    loaded = plugins(vault=TAKES, plain="import skipper", bad="1 / 0")
    known = ", ".join(sorted({"bad", *loaded.names} - {"functions"}))
    assert list(unread(loaded, ["bad", "plain", "valt", "vault", "zzz"])) == [
        "skipper.toml has settings of the plugin 'plain', which takes none.",
        "skipper.toml has settings of a plugin 'valt', which is not there; did you mean 'vault'?",
        f"skipper.toml has settings of a plugin 'zzz', which is not there; there are {known}.",
    ]


def test_of_a_plugin_that_is_left_out_nothing_is_told(plugins: Callable[..., Plugins]) -> None:
    loaded = plugins(("vault",), vault=TAKES)
    assert list(unread(loaded, ["vault"])) == []
