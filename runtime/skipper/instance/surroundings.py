"""What a function finds around it: the same in every process and for every call.

What one call changes there is put back after it, so that it does not reach the next. A library may
set such things up when it is first imported: what a call changes that imports any stays, but for
the working folder.
"""

from __future__ import annotations

import contextlib
import locale
import os
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path

from skipper.settings.environment import environment, put_back_environment

_EVENTS = frozenset({"os.chdir", "os.putenv", "os.unsetenv"})
"""Events by which Python tells of such a change: looking after each call would cost more."""
_main: list[types.ModuleType | None] = []
"""Kept, because the functions of what has been the main module go on."""


def arrange(file: Path | None) -> None:
    """Have what runs here find neither the arguments nor the main module of the process.

    They would be those of a template or of an instance, as the process was started.
    """
    sys.argv[:] = [str(file or "")]
    _main.append(sys.modules.get("__main__"))
    sys.modules["__main__"] = types.ModuleType("__main__")


class Surroundings:
    """What is there before the first call. With ``is_told`` a change is printed, once."""

    def __init__(self, *, is_told: bool = False) -> None:
        self._is_told = is_told
        self._told: set[str] = set()
        self._folder = str(Path.cwd())
        self._note()
        self._is_touched = False
        sys.addaudithook(self._hear)

    def put_back(self, *, looks_closely: bool = False) -> None:
        """A call has ended, and none runs: put back what it has changed.

        Locale and mode mask are looked at where somebody ``looks_closely`` or is told.
        """
        looks_closely |= self._is_told
        if not (self._is_touched or looks_closely or warnings.filters != self._filters):
            return
        for what in self._put_back(looks_closely=looks_closely):
            if self._is_told and what not in self._told:
                self._told.add(what)
                sys.stderr.write(f"a call has changed {what}, which is put back for the next one\n")
        self._is_touched = False

    def _put_back(self, *, looks_closely: bool) -> Iterator[str]:
        if self._is_touched and _folder() != self._folder:
            with contextlib.suppress(OSError):  # it is gone
                os.chdir(self._folder)
            yield "the working folder (os.chdir)"
        if len(sys.modules) > self._modules:
            self._note()
            return
        if self._is_touched and environment() != self._environment:
            put_back_environment(self._environment)
            yield "the environment (os.environ)"
        if warnings.filters != self._filters:
            warnings.resetwarnings()  # has the warnings that were shown judged anew
            warnings.filters.extend(self._filters)  # type: ignore[attr-defined] # it is a list
            yield "what warnings are shown (warnings.filters)"
        if looks_closely:
            yield from self._put_back_more()

    def _put_back_more(self) -> Iterator[str]:
        if locale.setlocale(locale.LC_ALL) != self._locale:
            locale.setlocale(locale.LC_ALL, self._locale)
            yield "the locale (locale.setlocale)"
        if (mask := os.umask(self._mask)) != self._mask:
            del mask
            yield "the mode mask of new files (os.umask)"

    def _note(self) -> None:
        """Take what is there now as what should be."""
        self._environment, self._filters = environment(), list(warnings.filters)
        self._locale, self._modules = locale.setlocale(locale.LC_ALL), len(sys.modules)
        self._mask = os.umask(0o077)
        os.umask(self._mask)

    def _hear(self, event: str, _: object) -> None:
        if event in _EVENTS:
            self._is_touched = True


def _folder() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # it has been removed
        return ""
