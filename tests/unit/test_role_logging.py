import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from skipper import role


@pytest.fixture(autouse=True)
def root() -> Iterator[logging.Logger]:
    """Logging as it was before."""
    root, own = logging.getLogger(), logging.getLogger("skipper")
    before = root.handlers[:], root.level, own.level
    yield root
    root.handlers[:], root.level, own.level = before
    own.setLevel(before[2])


def line(**given: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"msg": "hello %s", "args": ("you",), "levelno": logging.WARNING}
    record = logging.makeLogRecord(values | {"levelname": "WARNING", "name": "skipper.x"} | given)
    text = role.JsonFormatter("cpu").format(record)
    assert "\n" not in text
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_record_is_one_object_with_its_role_and_its_extras() -> None:
    found = line(function="f.f", task="t")
    assert found["ts"] > 1_000_000_000
    del found["ts"]
    assert found == {
        "level": "warning",
        "name": "cpu",
        "logger": "skipper.x",
        "message": "hello you",
        "function": "f.f",
        "task": "t",
    }


def test_a_message_of_several_lines_stays_one_line() -> None:
    assert line(msg="one\ntwo", args=())["message"] == "one\ntwo"


def test_what_is_not_json_is_logged_as_text() -> None:
    assert line(odd={1, 2} - {2})["odd"] == "{1}"


def test_an_exception_is_logged_with_its_traceback() -> None:
    try:
        raise ValueError("no")
    except ValueError:
        found = line(exc_info=sys.exc_info())
    assert found["traceback"].startswith("Traceback")
    assert found["traceback"].endswith("ValueError: no")


def test_our_own_lines_are_logged_from_their_level_on_and_others_when_they_warn(
    capsys: pytest.CaptureFixture[str],
) -> None:
    role.set_up_logging("gateway", "debug")
    for name in ("skipper.a", "elsewhere.b"):
        for level in (logging.DEBUG, logging.INFO, logging.WARNING):
            logging.getLogger(name).log(level, "%s %s", name, level)
    found = [json.loads(text) for text in capsys.readouterr().err.splitlines()]
    assert [item["message"] for item in found] == [
        "skipper.a 10",
        "skipper.a 20",
        "skipper.a 30",
        "elsewhere.b 30",
    ]
    assert {item["name"] for item in found} == {"gateway"}
