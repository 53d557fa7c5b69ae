"""A share of the campaign; ``python -m tests.security.mutations`` runs any number of cases."""

from __future__ import annotations

from tests.acceptance.tree import Tree
from tests.security.mutations.campaign import campaign
from tests.security.mutations.findings import total

CASES = 10_000


def test_what_is_nearly_right_is_answered_or_refused(attacked: Tree) -> None:
    found = campaign(attacked, CASES, seed=1, processes=2)
    whole = total(found.values())
    assert not whole.wrong, "\n".join(whole.shown)
    assert whole.cases == CASES
    assert found["over HTTP"].answers["200"] > 250, "most must come as far as a function"
    assert found["over a link"].answers["answered"] > 100
