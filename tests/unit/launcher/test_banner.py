"""The banner, as people see it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from skipper.launcher.banner import View, banner, device_text
from skipper.settings.model import Settings

SETTINGS = Settings.model_validate({"project_dir": "/srv/proj", "run": {"reload": True}})
FUNCTION = {"name": "a.b", "kind": "data", "pool": "cpu", "file": "functions/a.py"}


def shown(settings: Settings = SETTINGS, **more: Any) -> str:
    facts: dict[str, Any] = {"version": "0.1.0", "took_s": 1.234}
    facts |= {"shown_pools": tuple(settings.pools)} | more
    return banner(View(settings=settings, **facts), colour=False)


def test_addresses_broker_and_pools() -> None:
    pools = (
        {"pool": "cpu", "slots": 4, "devices": []},
        {"pool": "gpu", "slots": 1, "devices": [{"name": "NVIDIA T4"}]},
    )
    lines = [line.rstrip() for line in shown(broker_version="9.1.2", pools=pools).splitlines()]
    assert lines[1].startswith("  Skipper 0.1.0   /srv/proj")
    assert lines[1].endswith("up in 1.2 s")
    assert "  REST       http://127.0.0.1:8000/v1/functions" in lines
    assert "  API docs   http://127.0.0.1:8000/docs" in lines
    assert f"  Broker     embedded valkey 9.1.2 (unix:{SETTINGS.run_dir}/v.sock)" in lines
    assert "  Pools      cpu ×4   gpu ×1 (NVIDIA T4)" in lines  # noqa: RUF001 - as it is shown
    assert "  Watching   functions/   (Ctrl-C stops)" in lines


def test_functions_and_broken_files() -> None:
    broken = {"file": "/srv/proj/functions/c.py", "line": 12, "error": "NameError: \x1bnp"}
    stale = FUNCTION | {"name": "boston.train", "state": "stale"}
    functions = (FUNCTION | {"state": "live"}, stale)
    text = shown(functions=functions, broken=(broken,), reading=("digits",))
    assert "  Functions  1 live, 1 stale, 1 broken, reading digits\n" in text
    assert "    POST /v1/functions/a.b/invoke           data  cpu  functions/a.py\n" in text
    assert "    POST /v1/functions/boston.train/invoke  data  cpu  functions/a.py  stale\n" in text
    assert "    ✗ broken   functions/c.py:12   NameError: \\x1bnp\n" in text


def test_an_empty_project_is_told_what_to_do() -> None:
    assert "  Functions  none yet: save one in functions/\n" in shown()


def test_many_functions_are_counted_not_listed() -> None:
    text = shown(functions=tuple(FUNCTION | {"name": f"a.f{n}"} for n in range(30)))
    assert text.count("POST") == 20
    assert "… and 10 more: skipper functions" in text


def test_a_password_is_not_shown() -> None:
    broker = {"url": "amqp://me:secret@rabbit//"}
    settings = Settings.model_validate({"project_dir": Path("/p"), "broker": broker})
    assert "amqp://me:********@rabbit//" in shown(settings)


def test_a_tree_without_gateway_has_no_addresses() -> None:
    text = shown(is_answering=False, shown_pools=("gpu",))
    assert "http" not in text
    assert "  Pools      gpu (starting)\n" in text


def test_a_pool_with_devices_says_where_it_runs() -> None:
    assert device_text("gpu", {}) == " (no GPU found: gpu functions run on the CPU)"
    assert device_text("big", {"devices": []}) == " (no GPU found: big functions run on the CPU)"
    assert device_text("gpu", {"devices": [{"name": "T4"}, {"name": "T4"}]}) == " (T4, T4)"


def test_only_a_pool_that_is_given_devices_speaks_of_them() -> None:
    pools = {"gpu": {"devices": False}, "big": {"devices": True}, "many": {}}
    settings = Settings.model_validate({"project_dir": "/p", "pools": pools})
    answers = tuple({"pool": name, "slots": 2, "devices": []} for name in settings.pools)
    big = "big ×2 (no GPU found: big functions run on the CPU)"  # noqa: RUF001 - as it is shown
    assert f"cpu ×2   gpu ×2   {big}   many ×2\n" in shown(settings, pools=answers)  # noqa: RUF001 - as it is shown


def test_a_pool_that_cannot_be_reached_yet_is_starting() -> None:
    pools = ({"pool": "cpu", "reachable": False, "error": "?"},)
    assert "cpu (starting)" in shown(pools=pools, shown_pools=("cpu",))
