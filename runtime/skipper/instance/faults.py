"""What is wrong with a file or a call, described alike for functions and plugins."""

from __future__ import annotations

import difflib
import re
import sys
import traceback
from pathlib import Path

from skipper.instance import moved
from skipper.settings.redaction import Redactor
from skipper.spec import BrokenFile

_home: list[re.Pattern[str]] = []
_redactors: list[Redactor] = []
# Of this process, an instance, which has one job.


def at_home_in(folder: Path) -> None:
    """From now on, write the paths of what lies in the project's ``folder`` as paths in it.

    What goes wrong is told to callers, who are not to learn where on the machine a project lies.
    """
    _home[:] = [re.compile(re.escape(str(folder)) + r"(?:/|(?![\w.-]))")]


def keep_back(redactor: Redactor) -> None:
    """From now on, leave out what this takes out."""
    _redactors[:] = [redactor]


def _without_secrets(text: str) -> str:
    for redactor in _redactors:
        text = redactor(text)
    return text


def in_project(text: str) -> str:
    """``text`` with the paths of what lies in the project as paths in it."""
    for home in _home:
        text = home.sub(lambda found: "" if found[0].endswith("/") else ".", text)
    return text


def describe(error: BaseException, file: Path) -> BrokenFile:
    """Where and why a file could not be loaded, from the frames of the user's own files alone."""
    line = getattr(error, "line", None)
    if isinstance(error, SyntaxError) and _same_file(error.filename or str(file), file):
        line = error.lineno
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _same_file(frame.filename, file)]
    if line is None and own:
        line = own[-1].lineno
    return BrokenFile(
        file=str(getattr(error, "file", None) or file),
        line=line,
        error=shown(error),
        hint=_hint(error),
        traceback=user_traceback(error),
    )


_LONGEST = 2000
"""Characters of an exception's text that are shown."""
MAX_CAUSES = 20
"""Causes of an exception that its traceback shows: a chain of 100,000 would take seconds."""


def class_of(error: BaseException) -> str:
    """The name of an exception's class, bounded: it may have been made up at run time."""
    return type(error).__name__[:200]


def shown(error: BaseException) -> str:
    """``NameError: name 'np' is not defined``, of at most 2,000 characters.

    Raises nothing, whatever the exception's own ``__str__`` does.
    """
    kind = class_of(error)
    try:
        if isinstance(error, SystemExit):
            return f"SystemExit: it called sys.exit({error.code!r:.200})"
        text = str(error)
    except BaseException as inner:  # noqa: BLE001 - the exception's class is the user's own code
        text = f"<its text cannot be shown: {type(inner).__name__}>"
    # Cut only then, because half of a secret is not known as one.
    shown = _without_secrets(text[: 32 * _LONGEST])
    return f"{kind}: {in_project(shown)}"[:_LONGEST] if text else kind


def user_traceback(error: BaseException, limit: int = 8000) -> str:
    """The traceback without Skipper's own frames; of one longer than ``limit`` both ends."""
    own = str(Path(__file__).parents[1])
    try:
        _cut_causes(error)
        summary = traceback.TracebackException.from_exception(error, limit=-40, compact=True)
        outer: traceback.TracebackException | None = summary
        while outer is not None:
            outer.stack = traceback.StackSummary.from_list(
                [frame for frame in outer.stack if not frame.filename.startswith((own, "<frozen"))]
            )
            outer = outer.__cause__ or outer.__context__
        text = _without_secrets("".join(summary.format()))
    except BaseException as inner:  # noqa: BLE001 - as in `shown`
        text = f"<its traceback cannot be shown: {type(inner).__name__}>"
    return text if len(text) <= limit else text[: limit // 2] + "\n…\n" + text[-limit // 2 :]


def _cut_causes(error: BaseException) -> None:
    """Take the causes beyond the bound from an exception, in place: nobody else looks at it."""
    seen: set[int] = set()
    while len(seen) < MAX_CAUSES:
        seen.add(id(error))
        cause = error.__cause__
        if cause is None and not error.__suppress_context__:
            cause = error.__context__
        if cause is None or id(cause) in seen:
            return
        error = cause
    error.__cause__ = error.__context__ = None


def _same_file(name: str, file: Path) -> bool:
    return name == str(file) or name.endswith(f"/{file.parent.name}/{file.name}")


_ALIASES = {
    "np": "import numpy as np",
    "pd": "import pandas as pd",
    "tf": "import tensorflow as tf",
}


def _hint(error: BaseException) -> str:
    if isinstance(error, NameError) and error.name in _ALIASES:
        return f"add `{_ALIASES[error.name]}`"
    if instead := moved.advice(error):
        return instead
    if isinstance(error, ModuleNotFoundError) and error.name:
        if own := _own_module(error.name):
            return own
        top = error.name.partition(".")[0]
        return f"install the package that provides `{top}` into the environment Skipper runs in"
    return ""


def _own_module(name: str) -> str:
    """Which file of ``functions/`` may be meant by a module that is not found."""
    top, last = name.partition(".")[0], name.rpartition(".")[2]
    folder = next(iter(getattr(sys.modules.get("functions"), "__path__", ())), None)
    if folder is None:
        return ""
    found = {f.stem: f.relative_to(folder) for f in sorted(Path(folder).rglob("*.py"))}
    for match in difflib.get_close_matches(last, found, 1, cutoff=0.8):
        module = ".".join(("functions", *found[match].with_suffix("").parts))
        return f"did you mean `{module}`, the file functions/{found[match]}?"
    return f"there is no file of that name in {Path(folder).name}/" if top == "functions" else ""
