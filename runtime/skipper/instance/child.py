"""The life of one instance: take a job, report, serve until the host hangs up.

``python -m skipper.instance.child FD HOST_PID`` starts one; a template forks into :func:`run`.
"""

from __future__ import annotations

import contextlib
import functools
import os
import random
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from skipper import failpoints
from skipper.failpoints import failpoint
from skipper.hookspecs import Project
from skipper.instance import faults, loader, output, priority
from skipper.instance.faults import describe
from skipper.instance.jobs import Job, JobKind, Report, SourceInfo, Turn, UnfitModel
from skipper.instance.lifetime import end_process
from skipper.instance.link import (
    CLOSED_CODE,
    HostGoneError,
    HostLink,
    LinkClosedError,
    out_of_reach,
)
from skipper.instance.plugin_settings import hand_over
from skipper.instance.plugins import FindFile, OnTurn, Plugins
from skipper.instance.surroundings import arrange
from skipper.settings.environment import adopt_environment, failpoints_folder, thread_limits
from skipper.settings.redaction import Redactor, long_texts
from skipper.settings.urls import secrets_in
from skipper.system import die_with_parent
from skipper.wire.frames import FrameKind

if TYPE_CHECKING:  # what only an instance that serves needs
    from skipper.instance.calls import ServedFunction
    from skipper.instance.lifetime import ServedState
    from skipper.instance.models import LoadedModels

_OOM_SCORE = 500  # of 1000, proc(5): an instance is ended before anything that has the usual 0


def run(sock: socket.socket) -> None:
    """Do one job for the host at the other end of ``sock``; to serve is one until it hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _asked_to_end)
    link, pid = HostLink(out_of_reach(sock)), os.getpid()
    _Forks(link).watch()
    try:
        with contextlib.suppress(HostGoneError, _NotLoadedError, SystemExit):
            _run_job(link)
    except LinkClosedError:
        os._exit(CLOSED_CODE)
    finally:
        if os.getpid() == pid:  # else it is a process that the function has forked
            end_process()


def _asked_to_end(signum: int, frame: object) -> NoReturn:
    """Handle SIGTERM while no call runs."""
    del signum, frame
    raise SystemExit(0)


class _NotLoadedError(Exception):
    """The code that is to be served did not load, and the host has been told why."""


class _Forks:
    """Keeps what an instance's function forks from acting as the instance.

    It has neither the socket nor the signal handler. SIGTERM is blocked while a fork is made,
    because one that came before its handler is gone would be lost, and a ``multiprocessing.Pool``
    waits for ever for a worker that has not received it.
    """

    def __init__(self, link: HostLink) -> None:
        self._link, self._of_thread = link, threading.local()

    def watch(self) -> None:
        """From here on, for the rest of this process's life."""
        os.register_at_fork(
            before=self._block, after_in_parent=self._unblock, after_in_child=self._detach
        )

    def _block(self) -> None:
        self._of_thread.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def _unblock(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._of_thread.mask)

    def _detach(self) -> None:
        self._link.close()
        with contextlib.suppress(ValueError):  # forked by another thread than the first
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._unblock()


def _run_job(link: HostLink) -> None:
    job = Job.model_validate_json(link.next().payload)
    giving_way = priority.GivingWay()
    if job.gives_way:
        giving_way.begin()
    _prepare(job)
    table = job.settings.values if job.settings else {}
    faults.keep_back(Redactor([*secrets_in(job.storage_url), *long_texts(table)]))
    project = loader.project_of(job.project_dir, job.set_up)
    loader.make_importable(project)
    if job.kind is JobKind.SURVEY:
        plugins = _load_plugins(link, job, project)
        _report(link, _with_left_out(loader.survey(project, plugins, job.pools), plugins))
    elif job.kind is JobKind.READ:
        _read(link, job, project)
    else:
        finder = loader.import_from(project, job.texts)
        plugins = _load_plugins(link, job, project, find=finder.spec_of_file)
        if job.kind is JobKind.SERVE:
            _serve(link, job, plugins, on_ready=giving_way.end if job.gives_way else _nothing)
        else:
            (_check if job.kind is JobKind.CHECK else _try)(link, job, plugins)


def _nothing() -> None: ...


def _load_plugins(link: HostLink, job: Job, project: Project, **find: FindFile) -> Plugins:
    plugins = Plugins(project.plugins_dir, without=job.without, on_turn=_turns(link), **find)
    _start_libraries(plugins, job)
    return plugins


def _with_left_out(report: Report, plugins: Plugins) -> Report:
    return report.model_copy(update={"left_out": tuple(plugins.broken)})


def _read(link: HostLink, job: Job, project: Project) -> None:
    assert job.source is not None
    try:
        texts = job.texts or loader.texts_of(project, job.source)
    except BaseException as error:  # noqa: BLE001 - what parses text may exhaust stack and memory
        _report(link, Report(broken=(describe(error, job.source.file),), code=job.source.code))
        return
    finder = loader.import_from(project, texts)
    plugins = _load_plugins(link, job, project, find=finder.spec_of_file)
    _use_value_types(plugins)
    report = loader.read(job, plugins, texts)
    is_stale = not job.texts and not loader.is_current(texts)
    _report(link, _with_left_out(report, plugins).model_copy(update={"is_stale": is_stale}))


def _report(link: HostLink, report: Report) -> None:
    link.send(FrameKind.REPORT, 0, report.model_dump_json().encode())


def _tell(link: HostLink, turn: Turn) -> None:
    link.send(FrameKind.TURN, 0, turn.model_dump_json().encode())


def _turns(link: HostLink) -> OnTurn:
    """Announces to the host whose code runs next, so that a death or a hang has a culprit."""

    @functools.cache  # because a survey calls the same hooks of the same plugins for every file
    def payload(name: str, file: Path | None, hook: str) -> bytes:
        return Turn(plugin=name, file=file, hook=hook).model_dump_json().encode()

    return lambda name, file, hook: link.send(FrameKind.TURN, 0, payload(name, file, hook))


def _prepare(job: Job) -> None:
    """Set what must be set before anything of the user's is imported."""
    adopt_environment(thread_limits(job.threads) | job.environment)
    failpoints.enable(failpoints_folder(), "instance")
    if job.nice:
        priority.lower(job.nice)
    _raise_oom_score()
    output.take(job.mark, job.log_level)
    faults.at_home_in(job.project_dir)
    with contextlib.suppress(OSError):
        os.chdir(job.project_dir)
    arrange(job.source.file if job.source is not None else None)


def _raise_oom_score() -> None:
    """When memory runs out, the kernel is to end instances before hosts, brokers and databases."""
    score = Path("/proc/self/oom_score_adj")
    with contextlib.suppress(OSError):
        score.write_text(str(max(int(score.read_text()), _OOM_SCORE)))


def _start_libraries(plugins: Plugins, job: Job) -> None:
    """Renew what a fork copied: random states, and the size of native thread pools."""
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    if any(name in sys.modules for name in ("numpy", "scipy", "sklearn")):
        from threadpoolctl import threadpool_limits

        threadpool_limits(job.threads)
    known = len(plugins.broken)
    plugins.call("skipper_instance_started", lambda _: None, threads=job.threads)
    if job.kind is JobKind.SERVE:  # the other jobs have them in their reports
        for item in plugins.broken[known:]:
            sys.stderr.write(f"{item.file}:{item.line or 1} is left out: {item.error}\n")


def _use_value_types(plugins: Plugins) -> None:
    """Have hints that plugins know cross as those say."""
    from skipper.values import builtin
    from skipper.values.crossing import VALUE_TYPES
    from skipper.values.types import ValueType

    def find(hint: Any, marks: tuple[Any, ...]) -> ValueType | None:
        found: ValueType | None = plugins.hook.skipper_value_type(hint=hint, marks=marks)
        return found

    VALUE_TYPES.use((find, builtin.find))


def _serve(link: HostLink, job: Job, plugins: Plugins, *, on_ready: Callable[[], None]) -> None:
    from skipper.blobs import BlobStore
    from skipper.function import decorators
    from skipper.function.model import MAX_LOADED
    from skipper.function.named import load_from
    from skipper.instance import aio, runner
    from skipper.instance.caller import HostCaller
    from skipper.instance.calls import ServedFunction
    from skipper.instance.checkpoints import CheckpointStore
    from skipper.instance.lifetime import ServedState
    from skipper.instance.models import LoadedModels
    from skipper.instance.named import InstanceModels, NamedModels
    from skipper.instance.surroundings import Surroundings
    from skipper.instance.threads import ThreadShare
    from skipper.values.opening import Places
    from skipper.values.spool import KEPT_BYTES, Spool

    assert job.source is not None
    _use_value_types(plugins)
    blobs = BlobStore(job.storage_url)
    places = Places(spool=Spool(job.spool_dir, keeps=KEPT_BYTES), blobs=blobs)
    decorators.connect_to(HostCaller(link, job.max_result, places))
    with _loading(link, job.source):
        hand_over(plugins, job)
        mine = next(f for f in loader.load(job.source) if f.name == job.function)
        state = ServedState(mine)

    def begin() -> ServedFunction:
        """What is served, once its state is there."""
        assert job.source is not None
        models = LoadedModels(blobs, plugins, tmp_dir=job.tmp_dir, models_dir=job.models_dir)
        _load_models(link, job, models)
        code, most = job.source.code, job.max_result
        served = ServedFunction(link, mine, models, code, most, places=places)
        served.threads = ThreadShare(link, plugins, job.threads)
        served.checkpoints = CheckpointStore(
            link=link, models=models, blobs=blobs, tmp_dir=job.tmp_dir
        )
        served.named = NamedModels(
            served.checkpoints.ask,
            models,
            most=max(MAX_LOADED, *(mark.max_loaded for mark in served.by_call.values()))
            if served.by_call
            else MAX_LOADED,
            memory_mb=job.memory_mb,
        )
        load_from(InstanceModels(served.named))
        served.surroundings = Surroundings(is_told=job.in_development)
        if job.in_development:
            served.watch_models()
        on_ready()
        return served

    report = Report(specs=(mine.spec(job.source.code),), code=job.source.code)
    with ExitStack() as stack:
        stack.callback(places.spool.let_go)
        if mine.signature.is_async:
            aio.run(_serve_on_loop(link, job.source, state, begin, report))
            return
        with _loading(link, job.source):
            stack.enter_context(state)
            served = begin()
        _report(link, report)
        runner.serve(link, served)


async def _serve_on_loop(
    link: HostLink,
    source: SourceInfo,
    state: ServedState,
    begin: Callable[[], ServedFunction],
    report: Report,
) -> None:
    from skipper.instance import aio

    async with AsyncExitStack() as stack:
        with _loading(link, source):
            await stack.enter_async_context(state)
            served = begin()
        _report(link, report)
        await aio.serve(link, served)


@contextlib.contextmanager
def _loading(link: HostLink, source: SourceInfo) -> Iterator[None]:
    """Report what a block raises, and raise _NotLoadedError in its place."""
    try:
        yield
    except _UnfitError as error:
        _report(link, Report(unfit=(error.unfit,), code=source.code))
        raise _NotLoadedError from None
    except BaseException as error:  # noqa: BLE001 - a file may raise anything, SystemExit too
        _report(link, Report(broken=(describe(error, source.file),), code=source.code))
        raise _NotLoadedError from None


class _UnfitError(Exception):
    """A model does not load."""

    def __init__(self, unfit: UnfitModel) -> None:
        super().__init__(unfit.reason)
        self.unfit = unfit


def _load_models(link: HostLink, job: Job, models: LoadedModels) -> None:
    """Load the models that a function is served with. Raises _UnfitError."""
    for ref in job.models:
        _tell(link, Turn(model=ref))
        try:
            models.put(ref)
        except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, SystemExit too
            raise _UnfitError(UnfitModel(ref=ref, reason=faults.shown(error))) from None
    _tell(link, Turn())


def _check(link: HostLink, job: Job, plugins: Plugins) -> None:
    from skipper.blobs import BlobStore
    from skipper.instance import checks
    from skipper.values.opening import Places
    from skipper.values.spool import Spool

    assert job.source is not None
    _use_value_types(plugins)
    places = Places(spool=Spool(job.spool_dir), blobs=BlobStore(job.storage_url))
    with _loading(link, job.source):
        hand_over(plugins, job)
        judges = checks.checks_of(loader.load(job.source), job.source.code, places)
    _report(link, Report(code=job.source.code))
    checks.serve(link, judges)


def _try(link: HostLink, job: Job, plugins: Plugins) -> None:
    from skipper.blobs import BlobStore
    from skipper.instance.models import LoadedModels

    assert job.source is not None
    _use_value_types(plugins)
    try:
        hand_over(plugins, job)
        loader.load(job.source)
        models = LoadedModels(
            BlobStore(job.storage_url),
            plugins,
            tmp_dir=job.tmp_dir,
            models_dir=job.models_dir,
        )
        for ref in job.models:
            models.read(ref.format, ref.digest, f"model {ref.name!r}")
        failpoint("instance.tried")
    except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, SystemExit too
        _report(link, Report(broken=(describe(error, job.source.file),), code=job.source.code))
        return
    _report(link, Report(code=job.source.code))


def main() -> None:
    """Start afresh; arguments: the socket's descriptor and the host's process id."""
    die_with_parent(int(sys.argv[2]))
    run(socket.socket(fileno=int(sys.argv[1])))


if __name__ == "__main__":
    main()
