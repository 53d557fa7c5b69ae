"""Whether what is elsewhere can be used. How real servers refuse is tests/integration's."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from skipper.errors import StartError
from skipper.launcher.reach import check
from skipper.settings.model import Settings


def settings(**sections: Any) -> Settings:
    return Settings.model_validate({"project_dir": "/p", **sections})


async def test_what_runs_here_needs_no_check() -> None:
    await check(settings())


@pytest.mark.parametrize(
    ("what", "url"),
    [
        ("broker", "amqp://me:secret@127.0.0.1:{port}//"),
        ("broker", "redis://me:secret@127.0.0.1:{port}/0"),
        ("database", "postgresql://me:secret@127.0.0.1:{port}/x"),
    ],
)
async def test_a_server_that_is_not_there_is_told_without_its_password(what: str, url: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening
        place = {"url": url.format(port=closed.getsockname()[1])}
        with pytest.raises(StartError, match=rf"^The {what} \w+://me:.*cannot be used: ") as seen:
            await check(settings(**{what: place}), 0)
    assert "refused" in str(seen.value)
    assert "secret" not in str(seen.value)
    assert seen.value.code == 9
