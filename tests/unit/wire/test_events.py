"""What instances send of calls that run is read as it was written."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipper.wire.events import EmittedEvent, InstanceEvent, LeftOut, SavedModel, parse_event

texts = st.text(max_size=9)
values = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts
data = st.dictionaries(texts, values, max_size=4)


@given(
    st.builds(
        EmittedEvent,
        st.sampled_from(["progress", "metric", "log"]),
        data,
        st.floats(0, 4e9, allow_nan=False),
    )
    | st.builds(LeftOut, st.integers(0, 2**40), st.integers(0, 2**40))
    | st.builds(SavedModel, texts, texts, texts, data, data)
)
def test_an_event_is_read_as_it_was_written(event: InstanceEvent) -> None:
    assert parse_event(event.to_json()) == event


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_does_not_have_is_null(value: float) -> None:
    event = parse_event(EmittedEvent("metric", {"value": value}, 1.0).to_json())
    assert event == EmittedEvent("metric", {"value": None}, 1.0)


def test_what_is_no_json_at_all_is_sent_as_its_text() -> None:
    event = parse_event(EmittedEvent("progress", {"loss": 1j}, 1.0).to_json())
    assert event == EmittedEvent("progress", {"loss": "1j"}, 1.0)


def test_an_event_of_a_later_version_is_none() -> None:
    assert parse_event(json.dumps({"type": "span", "start": 1}).encode()) is None
