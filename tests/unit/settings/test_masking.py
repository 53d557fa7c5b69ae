"""No secret is shown: not in a value, not in an error about itself, however it is written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, Secret, SecretBytes, SecretStr

from skipper.errors import SettingsError
from skipper.settings import schema
from skipper.settings.loading import load
from skipper.settings.masking import SecretUrl, in_clear, masked, without_values
from skipper.settings.schema import Setting, leaves
from skipper.settings.urls import SECRET_MASK
from skipper.settings.webhooks import ReceiverUrl

CANARY = re.compile("SESAME|4711", re.IGNORECASE)
TEXT = "zz://user:SESAME@host"
"""As a text anything but a URL is a wrong URL; as a URL it has a password."""
WRONG: list[tuple[str, Any]] = [
    (json.dumps(TEXT), TEXT),
    (f"['{TEXT}']", [TEXT]),
    ("[['SESAME'], 'SESAME']", [["SESAME"], "SESAME"]),
    ("{ inner = 'SESAME' }", {"inner": "SESAME"}),
    ("{ SESAME = 1 }", {"SESAME": 1}),
    ("[{ x = 'SESAME' }]", [{"x": "SESAME"}]),
    ("47114711", 47114711),
    ("[4711]", [4711]),
    ("-4711.4711", -4711.4711),
    ("4711-04-11", None),
]
"""A secret that is written wrongly: in TOML, and as a flag's value."""
TABLES = {
    "plugins": "[plugins.ops]\nother = 1\n",
    "webhooks": """[webhooks.ops]
url = "https://ops.example.com/hooks"
secret = "whsec_c2VzYW1lc2VzYW1lc2VzYW1lc2VzYW1l"
""",
}


def secrets_of_the_model() -> list[str]:
    paths = schema.paths([(section, "ops") for section in TABLES])
    found = [(path, schema.at(path)) for path in (*paths, ("plugins", "ops", "token"))]
    return [".".join(path) for path, each in found if isinstance(each, Setting) and each.is_secret]


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """All that is shown of a project with these lines in its file: of what is wrong, or of all."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

    def run(text: str, flags: dict[str, Any] | None = None) -> str:
        (tmp_path / "skipper.toml").write_text(text)
        try:
            settings, origins = load(tmp_path, flags)
        except SettingsError as error:
            return f"{error} {error!r}"
        return f"{settings} {settings!r} {dict(leaves(settings))} {origins}"

    return run


def around(name: str, line: str = "") -> str:
    """A file in which only ``name`` stands otherwise than it must."""
    section, _, member = name.rpartition(".")
    table = TABLES.get(name.partition(".")[0], f"[{section}]\n")
    kept = [each for each in table.splitlines() if not each.startswith(f"{member} =")]
    return "\n".join([*kept, line]) + "\n"


def test_the_secrets_of_the_model_are_found() -> None:
    assert {
        "gateway.keys",
        "broker.url",
        "database.url",
        "storage.url",
        "webhooks.ops.url",
        "webhooks.ops.secret",
    } <= set(secrets_of_the_model())


@pytest.mark.parametrize("name", secrets_of_the_model())
@pytest.mark.parametrize(("text", "value"), WRONG)
def test_a_secret_occurs_in_no_message(
    shown: Callable[..., str], name: str, text: str, value: Any
) -> None:
    member = name.rpartition(".")[2]
    in_file = shown(around(name, f"{member} = {text}"))
    assert not CANARY.search(in_file)
    assert name in in_file
    if isinstance(value, dict):
        assert not CANARY.search(shown(around(name) + f"[{name}]\n{text.strip('{ }')}\n"))
    if value is not None:
        assert not CANARY.search(shown(around(name), {name: value}))


@pytest.mark.parametrize("name", secrets_of_the_model())
@pytest.mark.parametrize("text", [TEXT, f"{TEXT},{TEXT}", '{"a": "zz://:SESAME@"}'])
def test_a_secret_in_the_environment_occurs_in_no_message(
    shown: Callable[..., str], monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    monkeypatch.setenv("SKIPPER_" + name.upper().replace(".", "_"), text)
    found = shown(around(name))
    assert not CANARY.search(found.replace("whsec_", ""))
    assert name in found


@pytest.mark.parametrize(
    "text",
    [
        "[webhooks]\nops = 'SESAME'",
        "[webhooks]\nsecret = 'SESAME'",
        "webhooks = 'SESAME'",
        "gateway = 'SESAME'",
        "[gateway]\nkey = 'SESAME'",
        "[broker]\nuri = 'SESAME'",
        "[plugins]\ntoken = 'SESAME'",
        "[plugins.'a b']\ntoken = 'SESAME'",
    ],
)
def test_a_secret_that_is_written_in_the_wrong_place_occurs_in_no_message(
    shown: Callable[..., str], text: str
) -> None:
    assert not CANARY.search(shown(text))


def test_the_path_of_a_receiver_is_not_shown(shown: Callable[..., str]) -> None:
    found = shown(around("webhooks.ops.url", "url = 'https://ops.example.com/SESAME?4711'"))
    assert not CANARY.search(found)
    assert f"https://ops.example.com/{SECRET_MASK}" in found


# --- what a secret is ---


class Inner(BaseModel):
    key: SecretBytes | None = None
    plain: dict[str, int] = {}


class Outer(BaseModel):
    many: tuple[SecretStr, ...] = ()
    listed: list[tuple[int, SecretUrl]] = []
    number: Secret[Annotated[int, Field(gt=0)]] | None = None
    words: tuple[str, ...] = ()
    word: str = ""
    inner: Inner = Inner()
    named: dict[str, Inner] = {}


def test_lists_secrets_and_tables_follow_from_annotations() -> None:
    found = schema.declared_by(Outer)
    inner = {
        "key": Setting(is_list=False, is_secret=True),
        "plain": {"*": Setting(is_list=False, is_secret=False)},
    }
    assert found == {
        "many": Setting(is_list=True, is_secret=True),
        "listed": Setting(is_list=True, is_secret=True),
        "number": Setting(is_list=False, is_secret=True),
        "words": Setting(is_list=True, is_secret=False),
        "word": Setting(is_list=False, is_secret=False),
        "inner": inner,
        "named": {"*": inner},
    }
    assert {name: schema.holds_secrets(each) for name, each in found.items()} == {
        "many": True,
        "listed": True,
        "number": True,
        "words": False,
        "word": False,
        "inner": True,
        "named": True,
    }


# --- how it is shown ---


@pytest.mark.parametrize(
    ("url", "shown_url"),
    [
        ("amqp://guest:gu/e@st@127.0.0.1:5672//", "amqp://guest:********@127.0.0.1:5672//"),
        ("redis://:pw@host/0", "redis://:********@host/0"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        (
            "postgresql://u@h:5432/d?password=pw&port=1",
            "postgresql://u@h:5432/d?password=********&port=1",
        ),
        ("embedded", "embedded"),
    ],
)
def test_of_a_url_the_password_alone_is_masked(url: str, shown_url: str) -> None:
    assert masked(SecretUrl(url)) == shown_url
    assert "pw" not in f"{SecretUrl(url)} {SecretUrl(url)!r}"


@given(st.text("ab:/@?%#"))
def test_no_password_is_ever_shown(noise: str) -> None:
    password = f"{noise}SESAME{noise}"
    assert "SESAME" not in str(masked(SecretUrl(f"amqp://user:{password}@host:5672/v")))


def test_any_other_secret_is_masked_whole() -> None:
    secrets = (SecretStr("a://b"), SecretBytes(b"ab"), Secret[int](3), ReceiverUrl("https://h/x"))
    assert masked(secrets) == [SECRET_MASK] * 3 + [f"https://h/{SECRET_MASK}"]
    assert masked(["a", (1, None)]) == ["a", [1, None]]


def test_in_clear_is_what_a_process_needs() -> None:
    model = Outer(many=(SecretStr("a"),), number=Secret[int](3), named={"x": Inner()})
    assert in_clear(model) == {
        "many": ["a"],
        "listed": [],
        "number": 3,
        "words": [],
        "word": "",
        "inner": {"key": None, "plain": {}},
        "named": {"x": {"key": None, "plain": {}}},
    }


@given(st.recursive(st.text("SEAM", min_size=4) | st.integers(1000), st.lists, max_leaves=5))
def test_words_about_values_are_left_without_them(values: Any) -> None:
    text = f"what was found: {values}; write something else"
    left = without_values(text, {"values": values})
    assert not re.search("[0-9]{4}|[SEAM]{4}", left)
    assert left.endswith("; write something else")
