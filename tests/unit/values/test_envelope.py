"""An envelope is what it was packed from, whatever is in it; anything else is no envelope."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipper.values import envelope
from skipper.values.envelope import Envelope, Part

DIGEST = "ab" * 32
places = st.one_of(
    st.binary(max_size=50).map(lambda data: {"data": data, "size": len(data)}),
    st.just({"spool": "0" * 32, "size": 5_000_000, "digest": DIGEST}),
    st.just({"ref": DIGEST, "size": 7}),
)
parts = st.builds(
    lambda place, key, name: Part(media_type="image/png", key=key, name=name, **place),
    places,
    st.text(max_size=5),
    st.none() | st.text(max_size=9),
)
envelopes = st.builds(
    lambda parts, json, accept: Envelope(parts=tuple(parts), json=json, accept=accept),
    st.lists(parts, max_size=4),
    st.none() | st.binary(max_size=30),
    st.sampled_from(["", "image/png", envelope.NATIVE]),
)


def _plain(given: Envelope) -> Envelope:
    """The same with bytes where there are views."""
    own = [
        part if part.data is None else dataclasses.replace(part, data=bytes(part.data))
        for part in given.parts
    ]
    return dataclasses.replace(given, parts=tuple(own))


@given(envelopes)
def test_what_is_packed_is_unpacked_as_it_was(made: Envelope) -> None:
    body = envelope.pack(made)
    assert envelope.is_envelope(body)
    assert _plain(envelope.unpack(body)) == made
    assert envelope.pack(envelope.unpack(body)) == body


@given(st.binary(max_size=60), st.integers(0, 60))
def test_bytes_that_are_no_envelope_are_refused_and_nothing_else_happens(
    data: bytes, cut: int
) -> None:
    good = envelope.pack(Envelope(parts=(Part(media_type="a/b", size=3, data=b"abc"),), json=b"{}"))
    for body in (data, b"\0" + data, good[:cut], good + data + b"x"):
        if body == good:
            continue
        with pytest.raises(ValueError, match="envelope"):
            envelope.unpack(body)


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        (b'{"x": 1}', set()),
        (b'{"x": {"file": "file-%s"}}' % (b"a" * 32), {"file-" + "a" * 32}),
        (b'["file-%s", "file-short", "file-%s"]' % (b"0" * 32, b"1" * 32), {"0", "1"}),
    ],
)
def test_ids_of_files_are_found_wherever_they_stand(body: bytes, ids: set[str]) -> None:
    assert envelope.file_ids(body) == {i if len(i) > 1 else "file-" + i * 32 for i in ids}


def test_json_alone_stays_json() -> None:
    assert envelope.as_body(envelope.as_envelope(b'{"x":1}')) == b'{"x":1}'


def test_files_that_a_body_names_become_its_parts_once() -> None:
    file = Part(media_type="text/csv", size=9, key="file-" + "a" * 32, ref=DIGEST)
    body = envelope.with_files(b'{"x":{"file":"..."}}', [file])
    assert envelope.with_files(body, [file]) == body
    found = envelope.unpack(body)
    assert (found.parts, found.refs) == ((file,), {DIGEST: 9})


@pytest.mark.parametrize("places", [{}, {"data": b"", "ref": DIGEST}, {"spool": "x", "ref": "y"}])
def test_a_part_lies_in_one_place(places: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="inline, in the spool or in the store"):
        Part(media_type="a/b", size=0, **places)  # type: ignore[arg-type] # the wrong ones too
