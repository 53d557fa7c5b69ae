"""The process environment, for all of Skipper: nothing else reads it."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

SOCKET_PATH_LIMIT = 107  # sun_path of unix(7), less its closing NUL
_OTHER_VARIABLES = {
    "SKIPPER_VALKEY_BIN",
    "SKIPPER_URL",
    "SKIPPER_API_KEY",
    "SKIPPER_TREE",
    "SKIPPER_FAILPOINTS",
    "SKIPPER_TRUST",
}
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_MAX_THREADS",
    "LOKY_MAX_CPU_COUNT",
)
_OTHER_PREFIXES = ("SKIPPER_TEST_",)


def settings_variables() -> Iterator[tuple[str, str]]:
    """Every ``SKIPPER_*`` variable that is to be a setting, by name, with its text."""
    for variable, text in sorted(os.environ.items()):
        is_other = variable in _OTHER_VARIABLES or variable.startswith(_OTHER_PREFIXES)
        if variable.startswith("SKIPPER_") and not is_other:
            yield variable, text


def runtime_base() -> Path:
    """A short folder for sockets in which nobody else can put theirs in the place of ours."""
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    is_short = 0 < len(base) < SOCKET_PATH_LIMIT - 40
    if is_short and os.access(base, os.W_OK) and _is_safe(base):
        return Path(base)
    temporary = tempfile.gettempdir()
    if len(temporary) > SOCKET_PATH_LIMIT - 50 or not _is_safe(temporary):
        temporary = "/tmp"  # noqa: S108 - the folder in it is made 0700 and checked below
    return Path(temporary) / f"skp-{os.getuid()}"


def _is_safe(folder: str) -> bool:
    """Whether it is ours or root's, and what is ours in it cannot be renamed by others."""
    found = os.stat(folder)  # noqa: PTH116 - a variable's text
    is_sticky = bool(found.st_mode & stat.S_ISVTX)
    is_ours = found.st_uid in (0, os.geteuid())
    return stat.S_ISDIR(found.st_mode) and is_ours and (is_sticky or not found.st_mode & 0o022)


def client_environment() -> tuple[str | None, str | None]:
    """``$SKIPPER_URL`` and ``$SKIPPER_API_KEY``, for clients outside a project."""
    return os.environ.get("SKIPPER_URL"), os.environ.get("SKIPPER_API_KEY")


def trusted_folders() -> frozenset[Path]:
    """``$SKIPPER_TRUST``: projects that are run whoever may write them, parted as ``$PATH`` is."""
    listed = os.environ.get("SKIPPER_TRUST", "").split(os.pathsep)
    return frozenset(Path(each).resolve() for each in listed if each.strip())


def valkey_binary() -> str | None:
    """``$SKIPPER_VALKEY_BIN``."""
    return os.environ.get("SKIPPER_VALKEY_BIN")


def tree_mark() -> str:
    """``$SKIPPER_TREE``: which process tree this process belongs to."""
    return os.environ.get("SKIPPER_TREE", "")


def failpoints_folder() -> str:
    """``$SKIPPER_FAILPOINTS``: where fault campaigns arm failpoints; empty in ordinary life."""
    return os.environ.get("SKIPPER_FAILPOINTS", "")


def child_environment(tree: str, **extra: str) -> dict[str, str]:
    """The environment of a child process: this one's without Skipper's settings, and a mark.

    The mark names its tree: by it the guard finds every descendant after the tree is gone.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SKIPPER_")}
    if folder := failpoints_folder():
        kept["SKIPPER_FAILPOINTS"] = folder
    if trusted := trusted_folders():  # as they are meant here: a child stands in another folder
        kept["SKIPPER_TRUST"] = os.pathsep.join(sorted(map(str, trusted)))
    return kept | {"SKIPPER_TREE": tree} | extra


def thread_limits(threads: int) -> dict[str, str]:
    """Variables that hold native thread pools to ``threads``, for libraries yet to be loaded.

    The last is what joblib takes for the number of cores (``n_jobs=-1``), and reads each time.
    """
    # OpenMP's idle threads spin by default, which on shared cores takes time from those that work.
    limits = dict.fromkeys(_THREADS, str(threads)) | {"OMP_WAIT_POLICY": "PASSIVE"}
    # Arrow, which pandas imports where it is there, starts a thread that only tidies memory up; a
    # template with two threads cannot fork.
    return limits | {"JE_ARROW_MALLOC_CONF": "background_thread:false"}


def change_thread_limits(threads: int) -> None:
    """Set those of :func:`thread_limits` in this very process that all say the same still.

    What a function's file or a plugin has set to something else is left as it is.
    """
    values = [os.environ.get(name, "") for name in _THREADS]
    usual = max(set(values), key=values.count)
    os.environ.update(
        {name: str(threads) for name in _THREADS if os.environ.get(name, "") == usual}
    )


def adopt_environment(variables: Mapping[str, str]) -> None:
    """Set variables of this very process: an instance does so before it imports anything."""
    os.environ.update(variables)


def environment() -> dict[str, str]:
    """The variables of this very process, but for those that say how many threads to compute on.

    Those follow what the machine does, also while a function runs.
    """
    return {name: text for name, text in os.environ.items() if name not in _THREADS}


def put_back_environment(variables: Mapping[str, str]) -> None:
    """Have :func:`environment` be this again."""
    for name in environment().keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)


def wants_colour(is_terminal: bool) -> bool:
    """Whether to write in colour: on a terminal, but NO_COLOR, FORCE_COLOR and TERM come first."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return os.environ["FORCE_COLOR"] != "0"
    return is_terminal and os.environ.get("TERM") not in (None, "", "dumb")


def wants_animation(is_terminal: bool) -> bool:
    """Whether to draw what moves: on a terminal that can, with a person before it."""
    is_capable = os.environ.get("TERM") not in (None, "", "dumb")
    return is_terminal and is_capable and not os.environ.get("CI")
