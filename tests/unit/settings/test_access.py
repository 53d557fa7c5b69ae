"""Settings that say who is let in: what is wrong with one is told, and nothing of a key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skipper.errors import SettingsError
from skipper.settings.loading import load

KEY = "0a1b2c3d4e5f6789"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SKIPPER_GATEWAY_KEYS", raising=False)


def error_of(folder: Path, text: str = "", **flags: Any) -> str:
    (folder / "skipper.toml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        load(folder, {name.replace("_", "."): value for name, value in flags.items()})
    return str(caught.value)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("\\t\\n", "is empty"),
        ("\u3000", "is empty"),
        (f" {KEY}", "begins or ends with a blank"),
        (f"{KEY}\\n", "begins or ends with a blank"),
        (KEY[:15], "has 15 characters"),
        ("changeme", "has 8 characters"),
        ("${SKIPPER_KEY_OF_PRODUCTION}", "template"),
        ("$SKIPPER_KEY_OF_PRODUCTION", "template"),
        ("{{ vault.skipper.key }}", "template"),
        ("<put-the-key-in-here>", "template"),
        ("a" * 40, "can be guessed"),
        ("0101010101010101", "can be guessed"),
        (f"{KEY[:8]} {KEY[8:]}", "not visible ASCII"),
        (f"{KEY},{KEY}", "a comma"),
        (f"{KEY}\u0117", "not visible ASCII"),
        (f"{KEY}\\u0000", "not visible ASCII"),
        (KEY * 40, "at most 512"),
    ],
)
def test_a_key_that_lets_anybody_in_is_refused_with_its_line(
    tmp_path: Path, key: str, words: str
) -> None:
    message = error_of(tmp_path, f'[gateway]\nhost = "0.0.0.0"\nkeys = [\n  "{key}",\n]')
    assert message.startswith("skipper.toml:3: gateway.keys: key 1 of 1 ")
    assert words in message
    assert len(key.strip()) < 8 or key.strip() not in message


def test_one_wrong_key_among_right_ones_is_named_by_its_place(tmp_path: Path) -> None:
    assert "key 2 of 2 is empty" in error_of(tmp_path, f'[gateway]\nkeys = ["{KEY}", ""]')
    assert "key 3 of 3 is key 1 once more" in error_of(tmp_path, gateway_keys=[KEY, KEY[::-1], KEY])


@pytest.mark.parametrize("text", ["", ",", f"{KEY},", f",{KEY}", " ", f"{KEY}, {KEY[::-1]}"])
def test_a_variable_that_a_template_left_empty_takes_no_key_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("SKIPPER_GATEWAY_KEYS", text)
    message = error_of(tmp_path, f'[gateway]\nkeys = ["{KEY}"]')
    assert message.startswith("$SKIPPER_GATEWAY_KEYS: gateway.keys: key ")
    assert KEY not in message


@pytest.mark.parametrize("key", [KEY, "A-_.~+/=:;!#%&*()", "x" * 508 + "abcd"])
def test_a_key_that_cannot_be_guessed_is_taken(tmp_path: Path, key: str) -> None:
    settings, _ = load(tmp_path, {"gateway.keys": [key], "gateway.host": "0.0.0.0"})
    assert [each.get_secret_value() for each in settings.gateway.keys] == [key]
