"""One table for a whole campaign: a column for each back-end. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from tests.chaos.plan import BACKENDS, ROLES
from tests.chaos.points import REACHED
from tests.chaos.record import Row
from tests.chaos.report import KINDS, Figures, counted, slowest, total
from tests.chaos.sizes import Size

BEGIN, END = "<!-- campaign: begin -->\n", "<!-- campaign: end -->\n"
_TITLES = {"valkey": "Valkey + SQLite", "rabbit": "RabbitMQ + PostgreSQL"}
_CONFIDENCE = 3.0
"""No failure in n trials bounds the rate of failures at about 3/n, with a confidence of 95 %."""


def is_good(rows: Sequence[Row]) -> bool:
    """Whether no round has broken a promise."""
    return not any(sum(row.figures.found.values()) for row in rows)


def table(rows: Sequence[Row], size: Size) -> str:
    """The table, in Markdown."""
    columns = [_column([r for r in rows if r.round.backend == name], size) for name in BACKENDS]
    names = list(dict.fromkeys(name for column in columns for name in column))
    lines = [f"| | {' | '.join(_TITLES[name] for name in BACKENDS)} |", "|---|---|---|"]
    lines += [
        f"| {name} | {' | '.join(column.get(name, '-') for column in columns)} |" for name in names
    ]
    return "\n".join(lines) + "\n"


def put_into(page: str, shown: str) -> str:
    """``page`` with ``shown`` between its markers."""
    before, _, rest = page.partition(BEGIN)
    _, found, after = rest.partition(END)
    assert found, f"there are no lines {BEGIN.strip()} and {END.strip()}"
    return before + BEGIN + "\n" + shown + "\n" + END + after


def _column(rows: Sequence[Row], size: Size) -> dict[str, str]:
    """What one back-end's rounds add up to, by the row's name."""
    if not rows:
        return {}
    whole = total([row.figures for row in rows])
    calls = sum(whole.calls.values())
    return {
        "seeds": ", ".join(str(row.round.seed) for row in rows),
        "version": ", ".join(sorted({row.version for row in rows})),
        "days": ", ".join(sorted({row.day for row in rows})),
        "time under load and faults": f"{whole.seconds / 60:.0f} min",
        "tasks accepted": f"{whole.tasks:,}, and {whole.children:,} that functions started",
        "by way in": counted(whole.origins),
        "attempts beyond the first": f"{whole.again:,}",
        "direct calls": f"{calls:,}: {counted(whole.calls)}",
        **_faults(whole, size),
        **{f"**{kind}**": str(whole.found.get(kind, 0)) for kind in KINDS},
        "slowest recovery": slowest(whole.recovery),
        "longest time without a good direct call": f"{whole.silence_s:.1f} s",
        "memory, MiB per 1,000 tasks": _growth(whole),
        "bound on each rate (95 %)": _bound(whole.tasks + whole.children + calls),
    }


def _faults(whole: Figures, size: Size) -> dict[str, str]:
    """A row for the kills of each role, one for whatever else was done."""
    kills = {f"kills: {role}": str(whole.faults.get(role, 0)) for role in (*ROLES, "launcher")}
    others = {name: n for name, n in sorted(whole.faults.items()) if "(" in name}
    rare = {point: n for point in REACHED if (n := whole.hits.get(point, 0)) < size.hits}
    told = f"{sum(whole.hits.values()):,} of {len(REACHED)} points"
    told += f"; fewer than {size.hits}: {counted(rare)}" if rare else f", each {size.hits} or more"
    return kills | {"other faults": counted(others), "failpoints hit": told}


def _growth(whole: Figures) -> str:
    return ", ".join(f"{name} {mb:+.2f}" for name, mb in whole.growth.items()) or "not measured"


def _bound(trials: int) -> str:
    return f"3/{trials:,} = {_CONFIDENCE / trials:.1e}" if trials else "-"
