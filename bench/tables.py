"""The figures as tables: for a terminal and for docs/benchmarks.md, both Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.figures import Figures, Spread
from bench.goals import COMPARISONS, GOALS, Goal
from bench.sections import models
from bench.sections.ledger import SIZES


@dataclass(frozen=True, kw_only=True)
class Table:
    """Figures of one section. ``name`` makes a figure's name of the keys of row and column."""

    section: str
    title: str
    text: str
    name: str
    rows: Mapping[str, str]
    columns: Mapping[str, str]
    corner: str = ""


_SYSTEMS = {
    "starlette": "raw Starlette, in-process",
    "bare": "two bare hops: no names, deadlines, limits, metrics",
    "fastapi": "FastAPI `async def`, in-process",
    "litserve": "LitServe",
    "bentoml": "BentoML",
    "skipper": "**Skipper**",
}
_LOADS = {
    f"{connections}.{figure}": f"{connections}: {words}"
    for connections in (1, 16, 64)
    for figure, words in (("per_s", "calls/s"), ("p50_ms", "p50 ms"), ("p99_ms", "p99 ms"))
} | {"16.cpu_us": "16: CPU µs/call", "16.instances": "16: instances"}
_OPERATIONS = {
    "page": "page of 50, newest first",
    "page_of_function": "the same of one function",
    "page_of_state": "the same of one state",
    "waiting": "16 that wait, in order",
    "counts": "how many wait and run",
    "accept": "accept one, on the disk",
    "claim": "claim one",
    "finish": "finish one, on the disk",
}

_PICTURES = {
    "starlette": "raw Starlette, in-process",
    "litserve": "LitServe, a form",
    "bentoml": "BentoML, a form",
    "skipper_form": "**Skipper**, a form",
    "skipper": "**Skipper**",
}
_TRIPS = {
    "starlette": "raw Starlette, in-process: the same bytes back, unread",
    "skipper": "**Skipper**, `application/x-npy`",
    "skipper_json_quarter": "**Skipper**, a quarter of it as JSON",
}

TABLES = (
    Table(
        section="speed",
        title="The machine by itself",
        text="What the absolute figures below are to be read beside: one thread of Python adds up "
        "a million numbers; 128 bytes go to another process and back over a unix stream; one more "
        "block of 4 KiB is on the disk after `fdatasync`.",
        name="speed.{row}.{column}",
        rows={"machine": "this machine"},
        columns={
            "loop_ms": "loop, ms",
            "trip_us": "there and back, p50 µs",
            "fdatasync_ms": "`fdatasync`, p50 ms",
        },
    ),
    Table(
        section="direct",
        title="Direct calls",
        text="13 floats validated by pydantic and summed, by connections. The peers have one "
        "worker process each; Skipper has one gateway, one host, and up to `slots` instances of "
        "the function, as the load makes it start them: how many it had after a load stands beside "
        "it. Two bare hops are `bench/apps/bare.py`: Starlette, a relay and one instance, each a "
        "process, over unix streams.",
        name="direct.{row}.{column}",
        rows=_SYSTEMS,
        columns=_LOADS,
    ),
    Table(
        section="keras",
        title="A Keras model",
        text="The net of `functions/boston.py`. Skipper runs `batch=64`; LitServe calls the model "
        "as its documentation shows, or through a `tf.function` that its user wrote.",
        name="keras.{row}.{column}",
        rows={
            **{f"litserve_called_{size}": f"LitServe, batch {size}" for size in (1, 32, 64)},
            **{
                f"litserve_compiled_{size}": f"LitServe, batch {size}, `tf.function`"
                for size in (1, 64)
            },
            "skipper": "**Skipper**",
        },
        columns={
            **{key: words for key, words in _LOADS.items() if not key.startswith("16.")},
            "64.cpu_us": "64: CPU µs/call",
            "64.instances": "64: instances",
        },
    ),
    Table(
        section="tasks",
        title="Tasks",
        text="A function that does nothing, over HTTP. Many: 16 connections submit; counted from "
        "the first submission to the last end. One: submitted, then asked for again and again; or "
        "`Prefer: wait`. Skipper's ledger is on the disk before it answers 202; the recipe's Redis "
        "keeps everything in memory.",
        name="tasks.{row}.{column}",
        rows={
            "recipe": "FastAPI + Celery + Redis",
            "skipper": "**Skipper**, Valkey + SQLite",
            "skipper_rabbitmq_postgres": "**Skipper**, RabbitMQ + PostgreSQL",
        },
        columns={
            "submitted_per_s": "submitted/s",
            "ended_per_s": "ended/s",
            "cpu_us": "CPU µs/task",
            "one_p50_ms": "one, polled, p50 ms",
            "one_waited_p50_ms": "one, waited for, p50 ms",
        },
    ),
    Table(
        section="tasks",
        title="The disk below them",
        text="In the folder where the projects of these runs lie, and with them the SQLite "
        "ledgers: 4 KiB and `fdatasync`; SQLite at `synchronous = FULL`, one row in each commit, "
        "one after the other.",
        name="tasks.{row}.{column}",
        rows={"disk": "the disk"},
        columns={"fdatasync_ms": "`fdatasync`, p50 ms", "commits_per_s": "commits/s"},
    ),
    Table(
        section="start",
        title="Start → first answer",
        text="From the command to the first good answer, over a new connection every 3 ms.",
        name="start.{row}.{column}",
        rows={
            "uvicorn": "uvicorn with a FastAPI app",
            "litserve": "LitServe",
            "bentoml": "BentoML",
            "skipper": "**Skipper**",
            "skipper_beside_tensorflow": "**Skipper**, with a file that imports TensorFlow",
        },
        columns={"s": "seconds"},
    ),
    Table(
        section="cold",
        title="The first answer of a new TensorFlow instance",
        text="The template is warm; the function's instances have just been killed.",
        name="cold.{row}.{column}",
        rows={
            "import": "`import keras, tensorflow` in a process of its own",
            "without_model": "**Skipper**, a function without a model",
            "with_model": "**Skipper**, the Boston model loaded and run",
        },
        columns={"s": "seconds"},
    ),
    Table(
        section="reload",
        title="Save → new code answers",
        text="A constant is changed, and the function called until it comes back.",
        name="reload.{row}.{column}",
        rows={
            "uvicorn": "uvicorn --reload",
            "skipper": "**Skipper**",
            "skipper_tensorflow": "**Skipper**, a file that imports TensorFlow",
        },
        columns={"s": "seconds"},
    ),
    Table(
        section="memory",
        title="Memory of a TensorFlow instance",
        text="Each of four that have answered, MiB, as `/proc/<pid>/smaps_rollup` tells.",
        name="memory.{row}.{column}",
        rows={"with_model": "with the Boston model", "without_model": "without a model"},
        columns={"private_mb": "private", "pss_mb": "PSS", "resident_mb": "resident"},
    ),
    Table(
        section="training",
        title="Inference beside training",
        text="The Boston model at 50 calls/s on one connection, timed from when each call was due.",
        name="training.{row}.{column}",
        rows={"idle": "idle machine", "busy": "every core trains"},
        columns={"p50_ms": "p50 ms", "p99_ms": "p99 ms", "errors": "errors"},
    ),
    Table(
        section="growth",
        title="Many functions",
        text="One of them called at 16 connections; processor time as the kernel counts it.",
        name="growth.{row}.{column}",
        rows={str(count): f"{count:,}" for count in (1, 100, 1000)},
        columns={
            "us_per_call": "gateway + host, µs/call",
            "gateway_us_per_call": "gateway",
            "cpu_us_per_call": "host",
            "per_s": "calls/s",
            "gateway_mb": "gateway MiB",
            "cpu_mb": "host MiB",
            "ready_s": "start → ready s",
        },
        corner="functions",
    ),
    *(
        Table(
            section="ledger",
            title=f"The ledger on {title}",
            text="Medians in µs, by tasks in it; one thread, one commit per change.",
            name=f"ledger.{kind}.{{column}}.{{row}}_us",
            rows=_OPERATIONS,
            columns={str(size): f"{size:,} tasks" for size in SIZES},
        )
        for kind, title in (("sqlite", "SQLite"), ("postgres", "PostgreSQL"))
    ),
    Table(
        section="models",
        title="A model of many versions",
        text="Medians in ms, on SQLite, by versions of it; `promote` waits for the disk.",
        name="models.{row}.{column}.p50_ms",
        rows={
            "first_page": "first page, with the record",
            "show": "show one",
            "resolve": "find the latest",
            "list": "list models",
            "promote": "promote",
        },
        columns={str(size): f"{size:,} versions" for size in models.SIZES},
        corner="",
    ),
    Table(
        section="queue",
        title="A queue of 100,000",
        text="Tasks that wait behind held slots, then drain; one round. Resident memory, MiB.",
        name="queue.{row}.{column}",
        rows={"before": "before", "waiting": "all wait", "after": "all have ended"},
        columns={
            f"{role}_mb": role for role in ("gateway", "scheduler", "cpu", "cpu-consumer", "broker")
        },
    ),
    Table(
        section="queue",
        title="Its rates",
        text="Per second: while they were submitted, while they drained, and for each tenth.",
        name="queue.{row}.{column}",
        rows={
            "submitted": "submitted",
            "drained": "drained",
            **{f"tenth_{n}": f"tenth {n}" for n in range(1, 11)},
        },
        columns={"per_s": "tasks/s"},
    ),
    Table(
        section="forks",
        title="Forks of a TensorFlow template",
        text="Each answers a single call by building a net, fitting it and predicting, and is then "
        "killed; two functions fork side by side. Seconds from call to answer.",
        name="forks.{row}.{column}",
        rows={"template": "forks"},
        columns={
            "done": "done",
            "failed": "failed",
            "starts": "different random starts",
            "p50_s": "p50 s",
            "longest_s": "longest s",
            "s": "all, s",
        },
    ),
    Table(
        section="nonce",
        title="Calls with a nonce each",
        text="32 connections call three functions; some hang up, and instances are killed all the "
        "while. Whoever waits gets its own nonce, or a 502 or 503 under its own request id.",
        name="nonce.{row}.{column}",
        rows={"calls": "calls"},
        columns={
            "made": "made",
            "cancels": "hung up",
            "kills": "instances killed",
            "refused": "502 or 503",
            "mismatches": "mismatches",
            "s": "seconds",
        },
    ),
    Table(
        section="values",
        title="Pictures",
        text="A JPEG of 1 MB to a function that answers its size, 16 connections. The peers are "
        "sent a form, as their documentation shows.",
        name="values.picture.{row}.{column}",
        rows=_PICTURES,
        columns={"per_s": "calls/s", "p50_ms": "p50 ms"},
    ),
    Table(
        section="values",
        title="Arrays",
        text="1,048,576 float32 there and back, one connection.",
        name="values.array.{row}.{column}",
        rows=_TRIPS,
        columns={"p50_ms": "p50 ms"},
    ),
    Table(
        section="values",
        title="Batches of arrays",
        text="13 floats as JSON, `batch=256`, 64 connections.",
        name="values.rows.{row}.{column}",
        rows={"lists": "`list[list[float]]`", "arrays": "`numpy.ndarray`"},
        columns={"per_s": "calls/s"},
    ),
    Table(
        section="values",
        title="A large file",
        text="1 GiB uploaded, through a task that returns it, and downloaded; by hand is copying "
        "and hashing it twice. Memory is what each process gained meanwhile, at the most.",
        name="values.file.{column}",
        rows={"": "1 GiB"},
        columns={
            "by_hand_s": "by hand, s",
            "skipper_s": "**Skipper**, s",
            "gateway_mb": "gateway, MiB",
            "cpu_mb": "host, MiB",
            "cpu-consumer_mb": "consumer, MiB",
            "scheduler_mb": "scheduler, MiB",
        },
    ),
    Table(
        section="values",
        title="Between pools",
        text="100 MiB of float32 from a function of one pool to one of another, and twice them "
        "back; beside `numpy.save` and `numpy.load` of the same.",
        name="values.hop.{column}",
        rows={"": "100 MiB"},
        columns={"file_s": "save and load, s", "passed_s": "**Skipper**, s"},
    ),
    Table(
        section="models",
        title="Versions that change hands",
        text="The Boston model at 200 calls/s on 16 connections, each timed from when it was due: "
        "while its version in production changes 50 times, and for ten seconds before, in which "
        "nothing does. MLServer 1.7, in an environment of its own, loads the same file anew by its "
        "repository's API; its replies do not tell versions.",
        name="models.{row}.{column}",
        rows={"mlserver": "MLServer", "skipper": "**Skipper**"},
        columns={
            "failed": "failed",
            "wrong": "by another version",
            "quiet_p99_ms": "p99 before, ms",
            "p99_ms": "p99, ms",
            "worst_ms": "worst, ms",
            "change_ms": "a change, ms",
        },
    ),
    Table(
        section="models",
        title="A large model beside others",
        text="The same calls while another function of the pool takes up a model of 500 MB.",
        name="models.{row}.{column}",
        rows={"large": "the calls beside it"},
        columns={
            "failed": "failed",
            "p99_times": "p99, times that without",
            "worst_ms": "worst, ms",
        },
    ),
)
NOT_MEASURED = "not measured"


def goals(figures: Figures) -> str:
    """The table of what was to be reached."""
    lines = [_goal(goal, goal.measure(figures)) for goal in GOALS]
    return _markdown(["figure", "goal", "measured", ""], lines)


def _goal(goal: Goal, found: Spread | None) -> list[str]:
    if found is None:
        return [goal.what, goal.wanted, NOT_MEASURED, ""]
    met = "" if goal.is_met(found) else "**missed**"
    return [goal.what, goal.wanted, shown(found, goal.suffix), met]


def comparisons(figures: Figures) -> str:
    """The table of what the goals are to be read beside."""
    lines = [
        [each.what, NOT_MEASURED if found is None else shown(found, each.suffix)]
        for each in COMPARISONS
        for found in [each.measure(figures)]
    ]
    return _markdown(["figure", "measured"], lines)


def described(figures: Figures, section: str) -> Iterator[tuple[Table, str]]:
    """The tables of one section that have any figure in them."""
    for table in TABLES:
        if table.section == section and (lines := list(_lines(figures, table))):
            yield table, _markdown([table.corner, *table.columns.values()], lines)


def _lines(figures: Figures, table: Table) -> Iterator[list[str]]:
    for row, words in table.rows.items():
        names = (table.name.format(row=row, column=column) for column in table.columns)
        cells = [figures.spread(name) for name in names]
        if any(cells):
            yield [words, *("" if cell is None else shown(cell) for cell in cells)]


def shown(found: Spread, unit: str = "") -> str:
    """The median, and how far the rounds lie apart."""
    median, low, high = (f"{_rounded(value)}" for value in found)
    spread = "" if low == high else f" ({low}\N{EN DASH}{high})"
    return f"{median}{unit}{spread}"


def _rounded(value: float) -> str:
    if value >= 100 or float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def _markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rule = ["---"] * len(head)
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines)) + "\n"
