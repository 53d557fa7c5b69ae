"""Servers that answer and refuse: reported in one sentence, by the launcher and by each role."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from skipper.errors import StartError
from skipper.launcher.reach import check
from skipper.settings.handover import dump, make_run_dir
from skipper.settings.model import Settings
from tests.integration.services import project_name


def settings(**sections: Any) -> Settings:
    own = {"project_dir": "/p", "project": {"name": project_name()}}
    return Settings.model_validate(own | sections)


async def test_servers_that_let_us_in_are_reached(
    rabbitmq_url: str, redis_url: str, postgres_url: str
) -> None:
    for url in (rabbitmq_url, redis_url):
        await check(settings(broker={"url": url}, database={"url": postgres_url}), 0)


@pytest.mark.parametrize(
    "section",
    [
        {"broker": {"url": "amqp://u:{}@127.0.0.1:1/v"}},
        {"broker": {"url": "redis://:{}@127.0.0.1:1/0"}},
        {"broker": {"url": "redis+socket://:{}@/nowhere/v.sock"}},
        {"broker": {"url": "rediss://127.0.0.1:1/0?ssl_password={}"}},
        {"broker": {"url": "amqp://u:{}@nowhere.invalid/v"}},
        {"database": {"url": "postgresql://u:{}@127.0.0.1:1/d"}},
        {"database": {"url": "postgresql://u:{}@nowhere.invalid/d"}},
        {"database": {"url": "postgresql://u@127.0.0.1:1/d?sslpassword={}&password={}"}},
        {"database": {"url": "postgresql://u@127.0.0.1:1/d?nonsense={}"}},
    ],
)
async def test_no_library_says_a_password(section: dict[str, dict[str, str]]) -> None:
    ((name, table),) = section.items()
    for password in ("open-SESAME-1", "SESAME%2FSESAME%3F1", "SESAME%23%25SESAME"):
        told = await refusal(**{name: {"url": table["url"].replace("{}", password)}})
        assert "SESAME" not in told.upper()


async def refusal(**sections: Any) -> str:
    with pytest.raises(StartError) as seen:
        await check(settings(**sections), 0)
    assert seen.value.code == 9
    assert "\n" not in str(seen.value)
    return str(seen.value)


async def test_wrong_credentials_and_a_wrong_vhost_are_told(rabbitmq_url: str) -> None:
    wrong = rabbitmq_url.replace("guest:guest", "guest:not-this-one")
    detail = await refusal(broker={"url": wrong})
    assert "ACCESS_REFUSED" in detail
    assert "not-this-one" not in detail
    nowhere = rabbitmq_url.rstrip("/") + "/no-such-vhost"
    assert "no-such-vhost" in await refusal(broker={"url": nowhere})


async def test_a_database_that_does_not_exist_is_told(postgres_url: str) -> None:
    missing = re.sub("/[^/]+$", "/no_such_database", postgres_url)
    assert "no_such_database" in await refusal(database={"url": missing})


@pytest.mark.parametrize(
    "role", [("gateway",), ("scheduler",), ("pool", "--pool", "cpu")], ids=lambda role: role[0]
)
def test_a_role_whose_database_refuses_it_says_so_in_one_line(
    tmp_path: Path, postgres_url: str, role: tuple[str, ...]
) -> None:
    url = re.sub("/[^/]+$", "/no_such_database", postgres_url)
    made = settings(project_dir=tmp_path, database={"url": url}, gateway={"port": 0})
    make_run_dir(made)
    dump(made, tmp_path / "settings.json")
    module, *more = role
    command = [sys.executable, "-m", f"skipper.{module}", "--settings", "settings.json"]
    done = subprocess.run(
        [*command, "--name", module, *more],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=dict(os.environ),
        timeout=60,
    )
    assert done.returncode == 9, done.stderr
    assert "no_such_database" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stdout + done.stderr
