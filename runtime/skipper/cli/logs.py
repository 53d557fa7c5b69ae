"""``skipper logs``: what the tree's components write, or what one task printed."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from os import fstat
from os.path import samestat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skipper.cli.output import info, neutral, show, show_json
from skipper.cli.target import Project, Url, target
from skipper.errors import NotFoundError, SettingsError
from skipper.exits import Exit

if TYPE_CHECKING:
    from skipper.client import TaskHandle
    from skipper.settings.model import LogSettings

_POLL_S = 0.2


def logs(
    task_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="What this task printed and logged.")
    ] = None,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
    task: Annotated[
        str | None, typer.Option(metavar="ID", help="The same as the ID alone.")
    ] = None,
    attempt: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only this attempt of the task.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="COMPONENT", help="Only gateway, scheduler, POOL, POOL-consumer, …"),
    ] = None,
    level: Annotated[
        str | None,
        typer.Option(metavar="LEVEL", help="The least to show; default: the setting log.level."),
    ] = None,
    audit: Annotated[
        bool, typer.Option("--audit", help="Who changed what, in place of the log.")
    ] = False,
    errors: Annotated[
        bool, typer.Option("--errors", help="Only what failed: where, and with its traceback.")
    ] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many old lines.")] = 100,
    json_: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
    project: Project = None,
    url: Url = None,
) -> None:
    """Show the log of the project's tree, its audit, or what one task printed.

    \b
    Examples:
      skipper logs -f
      skipper logs --name gateway -n 20
      skipper logs --errors -n 5
      skipper logs --audit --level warning
      skipper logs -f 3b0arnnc3gjk0ckto7avdbu64t
    """
    wanted = task_id or task
    if wanted is not None and audit:
        raise typer.BadParameter("--audit is about requests, and no task's; leave one of them.")
    if errors and (audit or (wanted is not None and (url or follow))):
        raise typer.BadParameter("--errors is about the log in the project's folder.")
    if wanted is None and url is not None:
        raise typer.BadParameter("--url needs a task: components log to the project's folder.")
    try:
        if wanted is not None and not errors:
            with target(project, url).client() as client:
                _show_lines(_task_lines(client.task(wanted), attempt, follow=follow), json_=json_)
        else:
            records = Wanted(
                name=name, level=level, count=lines, is_audit=audit, is_error=errors, task=wanted
            )
            _tree_log(project, records, follow, json_)
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which records: the last ``count`` of a component (any, for None) from a level upwards."""

    name: str | None = None
    level: str | None = None
    count: int = 100
    shown: LogSettings | None = None
    """In place of a level: what the settings have shown."""
    is_audit: bool = False
    """Whether they are the audit's, in place of the log's."""
    is_error: bool = False
    """Whether they tell of what failed."""
    task: str | None = None
    """The task that they are about; any, and none, for None."""

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files that hold them."""
        from skipper.gateway.audit import CALLS_FILE, CHANGES_FILE
        from skipper.sink import LOG_FILE

        return (CHANGES_FILE, CALLS_FILE) if self.is_audit else (LOG_FILE,)

    def takes(self, record: dict[str, Any]) -> bool:
        from skipper.launcher.lines import is_error, is_shown, rank
        from skipper.wire.lines import LEVELS

        if self.name not in (None, record.get("name")):
            return False
        if self.task not in (None, record.get("task")):
            return False
        if self.is_error and not is_error(record):
            return False
        if self.shown is not None:
            return is_shown(record, self.shown)
        return rank(record) >= LEVELS[self.level or "debug"]


def failures_of(task_id: str, project: Path | None) -> list[dict[str, Any]]:
    """What the project's log says of attempts of a task that failed, the oldest first."""
    from skipper.settings.loading import load_sections

    try:
        folder = load_sections(project, "log").state_dir / "logs"
        return list(tail(folder, Wanted(is_error=True, task=task_id), follow=False))
    except (NotFoundError, SettingsError):  # the task is another project's
        return []


def _tree_log(project: Path | None, wanted: Wanted, follow: bool, json_: bool) -> None:
    from skipper.launcher.lines import LogFormatter
    from skipper.launcher.plan import plan
    from skipper.settings.environment import wants_colour
    from skipper.settings.loading import load_sections
    from skipper.wire.lines import LEVELS

    settings = load_sections(project, "log", "pools")
    folder = settings.state_dir / "logs"
    components = tuple(child.name for child in plan(settings, valkey=Path()))
    pretty = LogFormatter(components, colour=wants_colour(sys.stdout.isatty()))
    if wanted.level is None:
        shown = None if wanted.is_audit else settings.log
        wanted = replace(wanted, level="info", shown=shown)
    if wanted.level not in LEVELS:
        raise typer.BadParameter(f"--level {wanted.level!r}: write one of {', '.join(LEVELS)}.")
    for record in tail(folder, wanted, follow):
        if json_:
            show_json(record, lines=True)
        else:
            show(pretty(record).removesuffix("\n"))


def tail(folder: Path, wanted: Wanted, follow: bool) -> Iterator[dict[str, Any]]:
    """The last records that are wanted and, with ``follow``, each new one.

    Raises NotFoundError where nothing was ever logged.
    """
    with ExitStack() as stack:
        last: list[dict[str, Any]] = []
        growing = []
        for name in wanted.files:
            if not (folder / name).exists():
                continue
            current = stack.enter_context(_Followed(folder / name))
            growing.append(current)
            last += _last_of(folder, current, wanted)
        if not growing:
            what = "audited" if wanted.is_audit else "logged"
            raise NotFoundError(
                f"Nothing was {what} yet in {folder}. `skipper up` starts the tree."
            )
        in_order = _in_order if len(growing) > 1 else list
        yield from in_order(last)[-wanted.count :] if wanted.count else ()
        while follow:
            new = [record for each in growing for record in _records(each.new_lines(), wanted)]
            yield from in_order(new)
            time.sleep(_POLL_S)


def _last_of(folder: Path, current: _Followed, wanted: Wanted) -> Iterable[dict[str, Any]]:
    """The last records of one file and its predecessors."""
    from skipper.sink import log_files

    last: deque[dict[str, Any]] = deque(maxlen=wanted.count)
    for file in log_files(folder, current.name):
        if file.name != current.name:
            last.extend(_records(file.read_bytes().splitlines(), wanted))
    last.extend(_records(current.new_lines(), wanted))
    return last


def _in_order(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By their times, because they may come from several files."""
    return sorted(records, key=_time_of)


def _time_of(record: dict[str, Any]) -> float:
    time_ = record.get("ts")
    return float(time_) if isinstance(time_, int | float) else 0.0


class _Followed:
    """A file that grows and is now and then replaced by a fresh one."""

    def __init__(self, path: Path) -> None:
        self._path, self.name = path, path.name
        self._file = path.open("rb")
        self._rest = b""

    def __enter__(self) -> _Followed:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def new_lines(self) -> list[bytes]:
        """The lines that were completed since the last look."""
        data = self._rest + self._file.read()
        if self._is_replaced():
            data += self._file.read()  # what came between the two looks
            self._file.close()
            self._file = self._path.open("rb")
        *lines, self._rest = data.split(b"\n")
        return lines

    def _is_replaced(self) -> bool:
        try:
            return not samestat(self._path.stat(), fstat(self._file.fileno()))
        except FileNotFoundError:  # for a moment, while it is being replaced
            return False


def _records(lines: list[bytes], wanted: Wanted) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:  # cut off by a full disk or a kill
            continue
        if isinstance(record, dict) and wanted.takes(record):
            yield {"message": ""} | record


def _task_lines(task: TaskHandle, attempt: int | None, *, follow: bool) -> Iterator[dict[str, Any]]:
    """What a task has printed and, with ``follow``, what it prints until its end."""
    if not follow:
        yield from task.logs(attempt)
        return
    for event in task.events():
        if event.type in ("log", "line") and attempt in (None, event.data.get("attempt")):
            yield event.data


def _show_lines(lines: Iterable[dict[str, Any]], *, json_: bool) -> None:
    attempt: Any = None
    for line in lines:
        if json_:
            show_json(line, lines=True)
            continue
        if attempt not in (None, line.get("attempt")):
            info(f"— attempt {line.get('attempt')} —")
        if dropped := line.get("dropped"):
            info(f"… {dropped} lines are not kept …")
        attempt = line.get("attempt")
        show("\n".join(map(neutral, _said(line).rstrip("\n").split("\n"))))


def _said(line: dict[str, Any]) -> str:
    """A line of a task's log; what Python's logging brought begins with level and logger."""
    text = str(line.get("text", ""))
    if "logger" not in line or line.get("formatted"):
        return text
    return f"{str(line.get('level')).upper()} {line['logger']}: {text}"
