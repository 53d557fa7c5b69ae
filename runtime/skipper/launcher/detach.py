"""`skipper up --detach`: the launcher goes on as a daemon; its starter waits for its messages."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from skipper.errors import SkipperError, StartError

Report = Callable[[], None]
"""Called by the work when it is ready."""


def detached(work: Callable[[Report], int]) -> int:
    """Run ``work`` in a daemon; return 0 once it has reported, else what it returned.

    Raises the :class:`StartError` that ``work`` raised before it reported. Call it before any
    thread was started. A Ctrl-C here stops the daemon.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        _become_daemon(work, write_end)
    os.close(write_end)
    os.waitpid(pid, 0)
    daemon = 0
    try:
        with os.fdopen(read_end, encoding="utf-8") as channel:
            for line in channel:
                message = json.loads(line)
                if "pid" not in message:
                    return _outcome(message)
                daemon = message["pid"]
    except KeyboardInterrupt:
        if daemon:
            os.kill(daemon, signal.SIGTERM)
        raise
    raise StartError("The detached launcher ended before it was ready; see .skipper/logs.")


def _outcome(message: dict[str, Any]) -> int:
    if error := message.get("error"):
        raise StartError(error, code=message["code"])
    return int(message["code"])


def _become_daemon(work: Callable[[Report], int], fd: int) -> NoReturn:
    os.setsid()
    if os.fork():  # no leader of a session, so that it can never be given a terminal
        os._exit(0)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    os._exit(_work(work, fd))


def _work(work: Callable[[Report], int], fd: int) -> int:
    channel = os.fdopen(fd, "w", encoding="utf-8", buffering=1)

    def send(**message: Any) -> None:
        try:
            channel.write(json.dumps(message) + "\n")
        except OSError:  # the starter did not wait
            return

    send(pid=os.getpid())
    try:
        code = work(lambda: send(code=0))
    except SkipperError as error:
        code = getattr(error, "code", 1)
        send(error=str(error), code=code)
    except BaseException:  # noqa: BLE001 - a daemon has no other way to report it
        code = 1
        send(error=traceback.format_exc(), code=code)
    else:
        send(code=code)
    return code
