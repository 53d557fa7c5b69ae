"""A process that has only imported libraries, and forks instances that have them already.

``python -m skipper.instance.template FD HOST_PID LIBRARY…``. It does no work and opens no device:
native thread pools are held to one thread by the environment that the host gives it, so that
forking is safe (it refuses to fork while it has more than one thread). A fork is orphaned at once,
so that the host, the sub-reaper, is its parent and the template's own death touches no instance.

The host writes one message for each fork, with three descriptors (the instance's socket, standard
output and error), and reads one JSON object: first what was imported, then each fork's pid, 0 where
it was refused.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import sys
import traceback
from pathlib import Path

from skipper.failpoints import enable, failpoint
from skipper.instance.child import run
from skipper.settings.environment import failpoints_folder
from skipper.system import die_with_parent

_MAX_REQUEST = 64
_INSTALLED_IN = ("site-packages", "dist-packages")


def main() -> None:
    """Import, report that, then fork on request until the host hangs up."""
    control = socket.socket(fileno=int(sys.argv[1]))
    host_pid, libraries = int(sys.argv[2]), sys.argv[3:]
    die_with_parent(host_pid)
    enable(failpoints_folder(), "template")
    for signum in (signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    missing = _import(["skipper.instance.runner", "skipper.instance.models", *libraries])
    gc.collect()
    gc.freeze()  # because the collector would touch, and so copy, shared pages in every fork
    hello = {"threads": _threads(), "missing": missing, "files": _files(libraries)}
    with contextlib.suppress(ConnectionError):  # the host has ended in the meantime
        control.send(json.dumps(hello).encode())
    while True:
        try:
            request, descriptors, _, _ = socket.recv_fds(control, _MAX_REQUEST, 3)
        except ConnectionError:
            return
        if not request:
            return
        if (threads := _threads()) == 1:
            failpoint("template.forking")
            pid = _fork(control, descriptors, host_pid)
        else:
            pid = 0
        control.send(b'{"pid":%d,"threads":%d}' % (pid, threads))
        for descriptor in descriptors:
            os.close(descriptor)


def _import(names: list[str]) -> list[str]:
    """Import what can be imported. What is missing is an error where the file itself imports it."""
    missing = []
    for name in names:
        try:
            importlib.import_module(name)
        except BaseException as error:  # noqa: BLE001 - a library may raise anything
            missing.append(f"{name}: {type(error).__name__}: {error}"[:500])
    return missing


def _files(libraries: list[str]) -> list[tuple[str, int]]:
    """The libraries' own files, and the folders that packages are installed in, with their times.

    Another time of a file means another version. That of a folder changes with every installation,
    also of what a library imports itself, or of what was missing.
    """
    tops = {name.partition(".")[0] for name in libraries}
    files = [getattr(sys.modules.get(top), "__file__", None) for top in sorted(tops)]
    folders = [path for path in sys.path if Path(path).name in _INSTALLED_IN]
    watched = [path for path in files if path] + (folders if tops else [])
    return [(path, Path(path).stat().st_mtime_ns) for path in watched if Path(path).exists()]


def _threads() -> int:
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def _fork(control: socket.socket, descriptors: list[int], host_pid: int) -> int:
    """Fork twice; the instance's pid. The middle process ends at once, so the host adopts it."""
    reader, writer = os.pipe()
    middle = os.fork()
    if middle:
        os.close(writer)
        os.waitpid(middle, 0)
        pid = int(os.read(reader, 32))
        os.close(reader)
        return pid
    if instance := os.fork():
        os.write(writer, b"%d" % instance)
        os._exit(0)
    code = 1
    try:
        os.close(reader)
        os.close(writer)
        control.close()
        with contextlib.suppress(SystemExit):  # SIGTERM to an idle instance
            _become_instance(descriptors, host_pid)
        code = 0
    except BaseException:  # noqa: BLE001 - it must not get back into the template's own loop
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _become_instance(descriptors: list[int], host_pid: int) -> None:
    sock, stdout, stderr = descriptors
    # A group of its own, because the host kills an instance together with what its function starts.
    os.setsid()
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.close(stdout)
    os.close(stderr)
    die_with_parent(host_pid)
    run(socket.socket(fileno=sock))


if __name__ == "__main__":
    main()
