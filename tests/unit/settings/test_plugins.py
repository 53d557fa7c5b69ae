"""Tables of plugins: whatever stands in them, shown to nobody, given to the plugin alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from skipper.errors import SettingsError
from skipper.settings.handover import dump, restore
from skipper.settings.loading import load
from skipper.settings.plugins import PluginTable
from skipper.settings.schema import leaves
from skipper.settings.urls import SECRET_MASK

TABLE = """[plugins.vault]
url = "https://vault.example.com"
token = "SESAME"
retries = 3
"dotted.name" = true

[plugins.vault.headers]
"X-Key" = "SESAME"
"""
VALUES = {
    "url": "https://vault.example.com",
    "token": "SESAME",
    "retries": 3,
    "dotted.name": True,
    "headers": {"X-Key": "SESAME"},
}
HOOK = """
[webhooks.ops]
url = "https://ops.example.com/hooks"
secret = "whsec_%s"
""" % ("c2Vz" * 8)  # "ses" eight times


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = tmp_path / "proj"
    folder.mkdir()
    return folder


def write(project: Path, text: str) -> None:
    (project / "skipper.toml").write_text(text)


def error_of(project: Path, text: str) -> str:
    write(project, text)
    with pytest.raises(SettingsError) as caught:
        load(project)
    return str(caught.value)


def test_a_plugin_has_a_table_of_whatever_it_likes(project: Path) -> None:
    write(project, TABLE)
    settings, origins = load(project)
    assert settings.table_of("vault") == PluginTable(title="plugins.vault", values=VALUES)
    assert origins["plugins.vault.token"] == "skipper.toml:3"
    assert origins["plugins.vault.headers"] == "skipper.toml:7"


def test_nothing_of_it_is_shown(project: Path) -> None:
    write(project, TABLE)
    settings, _ = load(project)
    shown = {name: value for name, value in leaves(settings) if name.startswith("plugins.")}
    assert shown == {f"plugins.vault.{name}": SECRET_MASK for name in VALUES}
    assert "SESAME" not in f"{settings} {settings!r} {settings.table_of('vault')!r}"


def test_it_is_handed_on_whole(project: Path) -> None:
    write(project, TABLE)
    settings, _ = load(project)
    dump(settings, project / "settings.json")
    again = restore(project / "settings.json")
    assert again == settings
    assert again.table_of("vault") == settings.table_of("vault")


def test_a_plugin_is_given_its_own_table_and_no_other(project: Path) -> None:
    settings, _ = load(project)
    assert settings.set_up_plugins == frozenset()
    write(project, TABLE + "[plugins.empty]\n" + HOOK + "[gateway]\nkeys = ['SESAME-0123456789']\n")
    settings, _ = load(project)
    assert settings.set_up_plugins == {"vault", "empty", "webhooks"}
    assert settings.table_of("empty") == PluginTable(title="plugins.empty", values={})
    for other in ("functions", "gateway", "project_dir", "plugins", "webhooks.ops", ""):
        assert settings.table_of(other) is None


def test_the_webhooks_plugin_is_given_the_tables_of_webhooks(project: Path) -> None:
    write(project, HOOK)
    table = load(project)[0].table_of("webhooks")
    assert table is not None
    assert table.title == "webhooks"
    secret, url = table.values["ops"]["secret"], table.values["ops"]["url"]
    assert (secret, url) == ("whsec_" + "c2Vz" * 8, "https://ops.example.com/hooks")


def test_a_variable_sets_a_member_of_a_table_that_stands_in_the_file(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, "[plugins.my-vault]\nToken = 1\n")
    monkeypatch.setenv("SKIPPER_PLUGINS_MY_VAULT_TOKEN", "a,b")
    monkeypatch.setenv("SKIPPER_PLUGINS_MY_VAULT_ROOT_KEY", "SESAME")
    settings, origins = load(project)
    table = settings.table_of("my-vault")
    assert table is not None
    assert table.values == {"Token": "a,b", "root_key": "SESAME"}
    assert origins["plugins.my-vault.root_key"] == "$SKIPPER_PLUGINS_MY_VAULT_ROOT_KEY"
    monkeypatch.setenv("SKIPPER_PLUGINS_OTHER_KEY", "SESAME")
    assert "no setting SKIPPER_PLUGINS_OTHER_KEY" in error_of(project, "[plugins.my-vault]\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[plugins]\nvault = 'SESAME'", "skipper.toml:2: plugins.vault: Input should be a valid"),
        ("plugins = 'SESAME'", "skipper.toml:1: plugins holds tables: write [plugins.NAME]."),
        ("[plugins.vault]\nday = 2026-01-01", "skipper.toml:2: plugins.vault.day: write what JSON"),
        (
            "[plugins.vault]\nx = ['SESAME', nan]",
            "skipper.toml:2: plugins.vault.x: write what JSON",
        ),
        ("[plugins.'a b']\nx = 1", "plugins.a b: use letters, digits, - and _, at most 40."),
        (
            "[plugins.webhooks]\nx = 'SESAME'",
            "plugins.webhooks: these have tables of their own: write [webhooks.NAME].",
        ),
    ],
)
def test_what_no_table_can_be_is_told_with_its_place_and_without_its_value(
    project: Path, text: str, words: str
) -> None:
    message = error_of(project, text)
    assert words in message
    assert "SESAME" not in message
