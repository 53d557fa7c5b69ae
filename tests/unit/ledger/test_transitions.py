"""The steps from one deployment record to the next."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipper.errors import DeploymentError
from skipper.ledger import transitions as to
from skipper.ledger.records import Deployment

HELD = Deployment(name="boston", production=2, previous=1)
CANARY = replace(HELD, candidate=3, percent=10.0)


def roles(record: Deployment) -> tuple[Any, ...]:
    return record.production, record.previous, record.candidate, record.percent, record.shadow


@pytest.mark.parametrize(
    ("step", "held", "expected"),
    [
        (lambda r: to.promoted(r, 1), to.undeployed("boston"), (1, None, None, 0, None)),
        (lambda r: to.promoted(r, 3), HELD, (3, 2, None, 0, None)),
        (lambda r: to.promoted(r, 2), HELD, (2, 1, None, 0, None)),
        (lambda r: to.promoted(r, 3), CANARY, (3, 2, None, 0, None)),
        (lambda r: to.promoted(r, 2), CANARY, (2, 1, None, 0, None)),
        (lambda r: to.promoted(r, 4), CANARY, (4, 2, None, 0, None)),
        (lambda r: to.promoted(r, 3), replace(HELD, shadow=3), (3, 2, None, 0, None)),
        (lambda r: to.promoted(r, 3), replace(HELD, shadow=4), (3, 2, None, 0, 4)),
        (to.rolled_back, HELD, (1, 2, None, 0, None)),
        (to.rolled_back, CANARY, (1, 2, None, 0, None)),
        (lambda r: to.rolled_back(to.rolled_back(r)), HELD, (2, 1, None, 0, None)),
        (lambda r: to.with_candidate(r, 3, 10), HELD, (2, 1, 3, 10, None)),
        (lambda r: to.with_candidate(r, 4, 50), CANARY, (2, 1, 4, 50, None)),
        (to.without_candidate, CANARY, (2, 1, None, 0, None)),
        (lambda r: to.shadowed(r, 3), HELD, (2, 1, None, 0, 3)),
        (lambda r: to.shadowed(r, None), replace(HELD, shadow=3), (2, 1, None, 0, None)),
        (lambda r: to.changed(r, {}), CANARY, (2, 1, 3, 10, None)),
        (lambda r: to.changed(r, {"production": 4}), CANARY, (4, 2, 3, 10, None)),
        (lambda r: to.changed(r, {"production": 3}), CANARY, (3, 2, None, 0, None)),
        (lambda r: to.changed(r, {"percent": 50}), CANARY, (2, 1, 3, 50, None)),
        (lambda r: to.changed(r, {"candidate": None}), CANARY, (2, 1, None, 0, None)),
        (lambda r: to.changed(r, {"candidate": 4, "percent": 1}), HELD, (2, 1, 4, 1, None)),
        (lambda r: to.changed(r, {"shadow": 5}), HELD, (2, 1, None, 0, 5)),
    ],
)
def test_a_step_leads_here(
    step: Callable[[Deployment], Deployment], held: Deployment, expected: tuple[Any, ...]
) -> None:
    assert roles(step(held)) == expected


@pytest.mark.parametrize(
    ("step", "held", "message"),
    [
        (to.rolled_back, replace(HELD, previous=None), "before version 2.*nothing to go back"),
        (to.rolled_back, to.undeployed("boston"), "before its first version"),
        (lambda r: to.with_candidate(r, 1, 5), to.undeployed("boston"), "promote version 1"),
        (lambda r: to.with_candidate(r, 2, 5), HELD, "in production already"),
        (lambda r: to.with_candidate(r, 3, float("nan")), HELD, "percent is nan"),
        (lambda r: to.with_candidate(r, 3, 100.1), HELD, "from 0 to 100"),
        (lambda r: to.with_candidate(r, 3, -1), HELD, "from 0 to 100"),
        (lambda r: to.shadowed(r, 2), HELD, "in production already"),
        (lambda r: to.changed(r, {"production": None}), HELD, "promote another version"),
        (lambda r: to.changed(r, {"percent": 5}), HELD, "percent is of a candidate"),
        (lambda r: to.aliased(r, "latest", 1), HELD, "no alias of one's own"),
        (lambda r: to.aliased(r, "7", 1), HELD, "cannot be an alias"),
        (lambda r: to.unaliased(r, "best"), HELD, "has no alias 'best'"),
        (
            lambda r: to.changed(r, {"aliases": {f"a{n}": 1 for n in range(101)}}),
            HELD,
            "101 aliases; 100 may",
        ),
    ],
)
def test_a_step_that_leads_nowhere_is_refused(
    step: Callable[[Deployment], Deployment], held: Deployment, message: str
) -> None:
    with pytest.raises(DeploymentError, match=message):
        step(held)


def test_an_alias_names_one_version_until_it_names_none() -> None:
    named = to.aliased(to.aliased(HELD, "best", 1), "best", 2)
    assert named.aliases == {"best": 2}
    assert to.unaliased(named, "best").aliases == {}
    assert HELD.aliases == {}


VERSION = st.integers(1, 4)
STEPS = st.one_of(
    st.builds(lambda v: lambda r: to.promoted(r, v), VERSION),
    st.just(to.rolled_back),
    st.builds(lambda v, p: lambda r: to.with_candidate(r, v, p), VERSION, st.floats(0, 100)),
    st.just(to.without_candidate),
    st.builds(lambda v: lambda r: to.shadowed(r, v), st.none() | VERSION),
    st.builds(lambda v: lambda r: to.aliased(r, "best", v), VERSION),
    st.builds(
        lambda given: lambda r: to.changed(r, given),
        st.fixed_dictionaries(
            {},
            optional={
                "production": VERSION,
                "candidate": st.none() | VERSION,
                "percent": st.floats(0, 100),
                "shadow": st.none() | VERSION,
            },
        ),
    ),
)


@given(st.lists(STEPS, max_size=20))
def test_after_any_steps_the_previous_one_is_what_was_in_production_before(
    steps: list[to.Step],
) -> None:
    record = to.undeployed("boston")
    for step in steps:
        try:
            made = step(record)
        except DeploymentError:
            continue
        if made.production != record.production:
            assert made.previous == record.production
        else:
            assert made.previous == record.previous
        assert made.production not in (made.candidate, made.shadow) or made.production is None
        assert made.candidate is not None or made.percent == 0
        record = made
