import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipper.outcomes import Outcome
from skipper.wire import calls
from skipper.wire.calls import CallHead

names = st.text(max_size=80)
heads = st.builds(
    CallHead,
    budget_ms=st.integers(0, 2**32 - 1),
    flags=st.integers(0, 255).map(lambda flags: flags & ~calls.KEYED),  # the key sets that one
    depth=st.integers(0, 255),
    name=names,
    context=names,
    key=st.text(max_size=calls.MOST_KEY // 4),
)


@given(heads, st.binary(max_size=100))
def test_a_call_is_read_as_it_was_written(head: CallHead, body: bytes) -> None:
    payload = calls.call_head(head) + body
    parsed, at = calls.parse_call(payload)
    assert (parsed, payload[at:]) == (head, body)


@given(heads, st.binary(max_size=100))
def test_what_a_host_looks_at_is_the_same(head: CallHead, body: bytes) -> None:
    *numbers, name = calls.call_key(calls.call_head(head) + body)
    flags = head.flags | (calls.KEYED if head.key else 0)
    assert (*numbers, name.decode()) == (head.budget_ms, flags, head.depth, head.name)


@given(heads, st.integers(0, 2**32 - 1), st.binary(max_size=100))
def test_a_new_budget_changes_nothing_else(head: CallHead, budget: int, body: bytes) -> None:
    payload = calls.with_budget(calls.call_head(head) + body, budget)
    assert payload == calls.call_head(head._replace(budget_ms=budget)) + body


def test_a_budget_beyond_the_field_is_the_longest_that_fits() -> None:
    """A deadline some months away must not be an error."""
    payload = calls.call_head(CallHead(365 * 86_400_000, 0, 0, "a.b", ""))
    assert calls.call_key(payload).budget_ms == 2**32 - 1


@given(st.sampled_from([*Outcome]), st.binary(max_size=255), st.binary(max_size=100))
def test_a_reply_is_read_as_it_was_written(outcome: Outcome, served: bytes, body: bytes) -> None:
    assert calls.parse_reply(calls.reply(outcome, served, body)) == (outcome, served, body)


def test_what_served_a_call_names_code_then_models_and_fits_its_length_byte() -> None:
    assert calls.served_by("c0de", ["a@1", "b@12"]) == b"c0de a@1 b@12"
    many = calls.served_by("c0de", [f"model-{n}@1" for n in range(100)])
    assert calls.parse_reply(calls.reply(Outcome.OK, many, b"{}")) == (Outcome.OK, many, b"{}")
    followed = calls.served_by("c0de", ["a@1", "b@12"], ["a/41", "b/3"])
    assert followed == b"c0de a@1 b@12 a/41 b/3"


@pytest.mark.parametrize("key", ["customer-17", "x" * calls.MOST_KEY])
@pytest.mark.parametrize("flags", [0, calls.STREAM, calls.CHILD])
def test_a_key_comes_as_it_was_sent_before_the_body(flags: int, key: str) -> None:
    head = CallHead(1000, flags, 2, "f.f", "task/req", key)
    payload = calls.call_head(head) + b"{}"
    found, at = calls.parse_call(payload)
    assert (found, payload[at:]) == (head, b"{}")
    assert calls.sticky_key(payload) == key
    assert calls.call_key(payload).name == b"f.f"


@pytest.mark.parametrize(("flags", "context"), [(0, "req"), (calls.CHILD, "task/req")])
def test_without_a_key_the_request_is_what_a_call_is_known_by(flags: int, context: str) -> None:
    assert calls.sticky_key(calls.call_head(CallHead(1000, flags, 0, "f.f", context))) == "req"


@pytest.mark.parametrize("cut", range(1, 14))
def test_a_call_cut_off_in_its_key_is_read_as_far_as_it_goes(cut: int) -> None:
    whole = calls.call_head(CallHead(1000, 0, 0, "f.f", "req", "customer-17"))
    assert "customer-17".startswith(calls.parse_call(whole[:-cut])[0].key)


@pytest.mark.parametrize("digits", range(1, 12))
def test_no_name_of_what_served_is_cut_short(digits: int) -> None:
    models = [f"{'m' * 20}@{'7' * digits}"] * 20
    assert set(calls.served_by("c0de", models).decode().split()[1:]) == set(models)


def test_a_problem_carries_its_detail_and_members() -> None:
    outcome, served, body = calls.parse_reply(
        calls.problem(Outcome.FAILED, "it raised", b"c0de", exception="KeyError")
    )
    assert (outcome, served) == (Outcome.FAILED, b"c0de")
    assert json.loads(body) == {"detail": "it raised", "exception": "KeyError"}


def test_a_call_cut_off_in_its_head_is_an_error() -> None:
    with pytest.raises(struct.error):
        calls.parse_call(b"\0\0\0")
