"""The life of one tree: lock, listen, start, serve, drain."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import resource
import signal
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from typing import Any

from skipper import failpoints
from skipper.errors import StartError
from skipper.launcher import (
    ALREADY_RUNNING,
    certificate,
    client,
    control,
    folders,
    listen,
    process,
    reach,
    unix_socket,
)
from skipper.launcher.announce import StartAnnouncer
from skipper.launcher.orphans import Roster, adopting
from skipper.launcher.output import LogOutput
from skipper.launcher.plan import FIRST, LISTEN, SERVING, ChildPlan, guard, plan
from skipper.launcher.process import Child, LaunchContext
from skipper.launcher.settings_file import SettingsFile
from skipper.launcher.supervisor import Stop, Supervisor
from skipper.settings.environment import child_environment, failpoints_folder
from skipper.settings.handover import dump
from skipper.settings.model import Settings
from skipper.wire.control import GetStatus, LauncherQuestion, StopTree, TreeStatus

Planner = Callable[[Settings, frozenset[str] | None], tuple[ChildPlan, ...]]

ROLES_SHARE = 0.75
"""What a role may use of ``run.grace_s``: the drain goes in steps, and the last ends in time."""
_SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
_BROKER_PATIENCE_S = 2.0
_SERVING_PATIENCE_S = 6.0
"""How long a stage of the start may hold the next one up."""


@dataclass(frozen=True, kw_only=True)
class Tree:
    """One start of this project. ``settings`` hold what was found out: the port, the reload."""

    id: str
    settings: Settings
    plans: tuple[ChildPlan, ...]
    context: LaunchContext
    output: LogOutput
    started_at: float
    report: Callable[[], None]

    @property
    def url(self) -> str | None:
        return self.settings.base_url if self.context.listener else None


def run(
    settings: Settings,
    *,
    only: frozenset[str] | None = None,
    report: Callable[[], None] | None = None,
    reread: Callable[[], Settings] | None = None,
    planner: Planner | None = None,
) -> int:
    """Run the tree until it ends; its exit code. See :func:`skipper.launcher.run`.

    With ``report`` the terminal stays quiet; it is called when everything is ready.
    """
    warnings, read = folders.prepare(settings), settings
    with contextlib.suppress(ValueError, OSError):  # a hard limit of 0 is what we want anyway
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with ExitStack() as stack:
        lock = stack.enter_context(folders.locked(settings))
        if lock is None:
            return ALREADY_RUNNING
        folders.clear(settings)
        stack.callback(folders.clear, settings)
        if only:
            settings = _with(settings, "run", only=tuple(sorted(only)))
        plans = (planner or _plan)(settings, frozenset(settings.run.only) or None)
        tree = _prepare(settings, plans, stack, lock, report)
        for warning in warnings:
            tree.output.log("warning", warning)
        file = None
        if tree.settings.run.reload and reread is not None:
            file = SettingsFile(read, reread, tree.output.log)
        return asyncio.run(_serve(tree, file))


def _prepare(
    settings: Settings,
    plans: tuple[ChildPlan, ...],
    stack: ExitStack,
    lock: int,
    report: Callable[[], None] | None,
) -> Tree:
    listener, exposed = None, list(certificate.warnings(settings))
    if any(LISTEN in each.command for each in plans):
        listener = stack.enter_context(_listening(settings))
        if settings.gateway_socket is None:
            settings = _with(settings, "gateway", port=listener.getsockname()[1])
    if settings.run.reload is None:
        settings = _with(settings, "run", reload=report is None and os.isatty(2))
    names = tuple(each.name for each in plans)
    output = stack.enter_context(LogOutput(settings, names, quiet=report is not None))
    for text in exposed:
        output.log("warning", text)
    if folder := failpoints_folder():
        failpoints.enable(folder, "launcher")
        output.log("warning", f"failpoints are on: whoever writes into {folder} may kill any part")
    tree = os.urandom(8).hex()
    return Tree(
        id=tree,
        settings=settings,
        plans=plans,
        context=_ground(settings, tree, lock, listener),
        output=output,
        started_at=time.time(),
        report=report or (lambda: None),
    )


def _listening(settings: Settings) -> contextlib.AbstractContextManager[socket.socket]:
    """The gateway's listener: on the unix socket where there is one to be, else on the port."""
    gateway = settings.gateway
    if settings.gateway_socket is None:
        return listen.listen(gateway.host, gateway.port)
    return unix_socket.listening(settings.gateway_socket, gateway.socket_group)


def _ground(
    settings: Settings, tree: str, lock: int, listener: socket.socket | None
) -> LaunchContext:
    file = settings.run_dir / "settings.json"
    dump(_with(settings, "run", grace_s=settings.run.grace_s * ROLES_SHARE), file)
    environment = child_environment(tree)
    return LaunchContext(
        settings_file=file,
        directory=settings.project_dir,
        environment=environment,
        bare_environment={k: v for k, v in environment.items() if k != "SKIPPER_TREE"},
        lock_fd=lock,
        listener=listener,
    )


def _with(settings: Settings, section: str, **values: Any) -> Settings:
    changed = getattr(settings, section).model_copy(update=values)
    return settings.model_copy(update={section: changed})


def _plan(settings: Settings, only: frozenset[str] | None) -> tuple[ChildPlan, ...]:
    if not settings.broker_is_embedded:
        return plan(settings, only)
    from skipper.launcher import valkey

    server = valkey.find_server()
    file = settings.run_dir / "valkey.conf"
    file.touch(0o600)
    file.write_text(valkey.configuration(settings), "utf-8")
    return plan(settings, only, valkey=server)


async def _serve(tree: Tree, file: SettingsFile | None) -> int:
    stop, roster = Stop(), Roster(tree.id, tree.output.log)
    supervisor = Supervisor(
        (guard(tree.id), *tree.plans),
        start=functools.partial(_start, tree, roster),
        ended=roster.remove,
        log=tree.output.log,
        stop=stop,
    )
    async with AsyncExitStack() as stack:
        stack.enter_context(_listening_to_signals(stop))
        stack.callback(tree.output.stop_following)
        stack.enter_context(adopting(roster))
        answer = functools.partial(_answer, tree, supervisor, stop)
        path = tree.settings.run_dir / client.SOCKET
        await stack.enter_async_context(control.serving(path, answer))
        stack.push_async_callback(supervisor.drain, tree.settings.run.grace_s)
        coming_up = asyncio.create_task(_come_up(tree, supervisor, stop))
        if file is not None:
            stack.callback(asyncio.create_task(file.follow()).cancel)
        await stop.requested.wait()
        coming_up.cancel()
        _log_reason(tree.output, stop)
    if stop.error:
        raise stop.error
    return stop.code


def _start(tree: Tree, roster: Roster, each: ChildPlan) -> Child:
    child = process.start(each, tree.context, tree.output.follow)
    roster.add(child)
    return child


async def _come_up(tree: Tree, supervisor: Supervisor, stop: Stop) -> None:
    announcer = StartAnnouncer(tree.settings, tree.output, supervisor)

    async def pause(stage: int) -> None:
        with contextlib.suppress(TimeoutError):
            if stage == FIRST:
                async with asyncio.timeout(_BROKER_PATIENCE_S):
                    await supervisor.were_ready(FIRST)
            elif stage == SERVING:
                async with asyncio.timeout(_SERVING_PATIENCE_S):
                    await announcer.answers.wait()

    async def announce() -> None:
        await supervisor.were_ready(SERVING)
        await announcer.show()

    try:
        await reach.check(tree.settings)  # first: without them each role would fail by itself
        async with asyncio.TaskGroup() as group:
            group.create_task(announce())
            await supervisor.start(pause)
        await announcer.ready(tree.report)
    except* StartError as errors:
        stop.fail(_first(errors))
    except* Exception as errors:  # noqa: BLE001 - what cannot be announced runs all the same
        trace = "".join(traceback.format_exception(errors))
        tree.output.log("error", "the start could not be followed to its end", traceback=trace)
        tree.report()


def _first(group: BaseExceptionGroup[StartError]) -> StartError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


@contextlib.contextmanager
def _listening_to_signals(stop: Stop) -> Iterator[None]:
    """SIGINT, SIGTERM and a closed terminal end the tree. ``nohup`` is respected."""
    loop = asyncio.get_running_loop()
    numbers = [
        number
        for number in _SIGNALS
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
    ]
    for number in numbers:
        # a terminal that goes may signal twice: the kernel does, and then the shell
        again = number != signal.SIGHUP
        loop.add_signal_handler(
            number, functools.partial(stop.request, _SIGNALS[number], again=again)
        )
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _log_reason(output: LogOutput, stop: Stop) -> None:
    if stop.error:
        output.log_to_files("error", str(stop.error), code=stop.error.code)
    hint = "; Ctrl-C again kills at once" if stop.code == 130 else ""
    output.log("info", f"stopping{hint}")


def _answer(
    tree: Tree, supervisor: Supervisor, stop: Stop, question: LauncherQuestion | None
) -> TreeStatus | dict[str, Any]:
    match question:
        case GetStatus():
            return TreeStatus(
                pid=os.getpid(),
                url=tree.url,
                project=str(tree.settings.project_dir),
                started_at=tree.started_at,
                ready=supervisor.is_ready and not stop.requested.is_set(),
                stopping=stop.requested.is_set(),
                children=supervisor.status(),
            )
        case StopTree(kill=kill):
            stop.request(0)
            if kill:
                stop.request(0)
            return {"ok": True}
        case None:
            return {"ok": False, "error": "this launcher does not know what it is asked"}
