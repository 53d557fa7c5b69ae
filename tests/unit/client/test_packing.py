"""How values travel is told by the function's document, and by where in the body they stand."""

from __future__ import annotations

import base64
import io
import os
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict

from skipper.client import flows
from skipper.client.bodies import FormBody, StreamedBody
from skipper.client.messages import LostError, Pause, Reply, Request, resume
from skipper.client.packing import INLINE, Packed, pack
from skipper.client.sources import BodySource, file_source, has_sources, source_of
from skipper.errors import UnavailableError
from skipper.values.crossing import Adapter
from skipper.values.file import OCTETS, File


class Record(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    label: str
    data: bytes
    files: list[File] = []
    numbers: list[float] = []


class Owned(BaseModel):
    model_config = ConfigDict(val_json_bytes="base64", ser_json_bytes="base64")
    data: bytes


def document(takes: dict[str, Any], many: tuple[str, ...] = (), **hints: Any) -> dict[str, Any]:
    members = {name: Adapter(hint).json_schema() for name, hint in hints.items()}
    definitions = {n: d for m in members.values() for n, d in m.get("$defs", {}).items()}
    schema = {"type": "object", "properties": members, "$defs": definitions}
    return {"input_schema": schema, "takes": takes, "takes_many": list(many)}


def read(body: FormBody) -> list[tuple[str, str, str | None, bytes]]:
    head = f"Content-Type: {body.media_type}\r\n\r\n".encode()
    data = b"".join(body.chunks())
    assert len(data) == body.size
    parts: Any = BytesParser().parsebytes(head + data).get_payload()
    return [
        (
            part.get_param("name", header="content-disposition"),
            part.get_content_type(),
            part.get_filename(),
            part.get_payload(decode=True),
        )
        for part in parts
    ]


def form(packed: Packed) -> list[tuple[str, str, str | None, bytes]]:
    content = packed.content()
    assert isinstance(content, FormBody)
    return read(content)


def test_what_a_parameter_takes_is_a_part_and_the_rest_is_json() -> None:
    whole = {"image": b"\x00\xff", "n": 1, "tags": ["a"]}
    packed = pack(whole, document({"image": ["*/*"]}, image=bytes, n=int, tags=list[str]))
    assert packed.uploads == []
    assert form(packed) == [
        ("image", OCTETS, "image", b"\x00\xff"),
        ("n", "application/json", None, b"1"),
        ("tags", "application/json", None, b'["a"]'),
    ]


def test_a_list_of_values_is_several_parts(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"png")
    taken = document({}, ("images",), images=list[File])
    packed = pack({"images": [b"1", tmp_path / "a.png"]}, taken)
    assert form(packed) == [
        ("images", OCTETS, "images", b"1"),
        ("images", "image/png", "a.png", b"png"),
    ]
    assert pack({"images": []}, taken).content() == b'{"images":[]}'
    assert len(pack({"images": [b"1"] * 101}, taken).json["images"]) == 101


def test_names_cannot_end_the_header_that_they_stand_in() -> None:
    source = BodySource(name='a"\r\nX: y', size=1, buffers=(b"1",))
    ((name, _, filename, data),) = read(FormBody([('im"a', source)]))
    assert (name, filename, data) == ("im%22a", "a%22%0D%0AX: y", b"1")


def test_deep_in_a_body_few_bytes_are_base64_and_all_else_is_uploaded() -> None:
    whole = {"record": {"label": "x", "data": b"\xff\x00", "files": [b"1", io.BytesIO(b"22")]}}
    packed = pack(whole, document({}, record=Record))
    (upload,) = packed.uploads
    upload.id = "file-1"
    assert upload.source.data() == b"22"
    assert packed.content() == (
        b'{"record":{"label":"x","data":"/wA=","files":["MQ==",{"file":"file-1"}]}}'
    )
    large = pack({"record": {"data": b"x" * (INLINE + 1)}}, document({}, record=Record))
    assert len(large.uploads) == 1


def test_each_of_many_items_in_one_body_is_packed_as_a_body_is() -> None:
    taken = document({"image": ["*/*"]}, image=bytes)
    packed = pack({"items": [{"image": b"\xff"}, {"image": io.BytesIO(b"2")}]}, taken)
    packed.uploads[0].id = "file-1"
    assert packed.content() == b'{"items":[{"image":"/w=="},{"image":{"file":"file-1"}}]}'
    with pytest.raises(TypeError, match="/items/1/zip: the function takes no bytes"):
        pack({"items": [{"zip": "1"}, {"zip": b"1"}]}, document({}, zip=str))
    own = document({}, items=list[bytes])
    assert pack({"items": [b"1"]}, own).content() == b'{"items":["MQ=="]}'


def test_a_model_with_a_way_of_its_own_for_bytes_keeps_it() -> None:
    packed = pack({"data": b"\xfb\xff"}, {"input_schema": Adapter(Owned).json_schema()})
    assert packed.json == {"data": base64.urlsafe_b64encode(b"\xfb\xff").decode()}


def test_an_array_is_a_list_where_no_array_is_taken() -> None:
    packed = pack({"numbers": np.arange(3)}, {"input_schema": Adapter(Record).json_schema()})
    assert packed.content() == b'{"numbers":[0,1,2]}'


@pytest.mark.parametrize("value", [b"1", bytearray(b"1"), io.BytesIO(b"1"), Path(__file__)])
@pytest.mark.parametrize("hint", [str, int, list[str], Any])
def test_bytes_where_none_are_taken_are_refused_with_the_place(value: Any, hint: Any) -> None:
    with pytest.raises(TypeError, match="/zip: the function takes no"):
        pack({"zip": value}, document({}, zip=hint))


def test_what_is_sent_as_bytes_is_told_from_plain_data() -> None:
    for value in (b"", bytearray(), Path("x"), io.BytesIO(), np.zeros(1), [{"a": b""}]):
        assert has_sources(value)
    plain: Any
    for plain in (None, "text", 1, 0.5, [1, [2]], {"a": {"b": []}}, Record(label="", data=b"")):
        assert not has_sources(plain)
    with pytest.raises(TypeError, match="a path, bytes"):
        file_source({"a": 1})


# --- reading


def test_a_stream_is_read_from_where_it_stood_at_each_try(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"0123456789")
    with path.open("rb") as stream:
        stream.seek(4)
        source = source_of(stream)
        assert source is not None
        assert (source.size, source.name, source.media_type) == (6, "a.csv", "text/csv")
        assert [source.data(), source.data()] == [b"456789"] * 2
        assert not source.is_spent


def test_a_pipe_is_read_once() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"once")
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        source = source_of(stream)
        assert source is not None
        body = StreamedBody(source)
        assert body.size is None
        assert body.is_repeatable
        assert source.data() == b"once"
        assert not body.is_repeatable
        with pytest.raises(ValueError, match="has no way back"):
            source.data()


class OneWay(io.RawIOBase):
    """A stream without a way back."""

    def __init__(self, data: bytes) -> None:
        self._rest = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._rest.readinto(buffer)


def answers(flow: Any, *outcomes: Reply | Exception) -> list[bytes]:
    """What a flow sends while it is answered so; it ends by returning or by what it raises."""
    sent: list[bytes] = []
    rest = list(outcomes)
    step = resume(flow, None)
    while True:
        if isinstance(step, Request):
            assert step.content is not None
            body = step.content
            sent.append(body if isinstance(body, bytes) else b"".join(body.chunks()))
            outcome: Any = rest.pop(0)
        else:
            assert isinstance(step, Pause)
            outcome = None
        try:
            step = resume(flow, outcome)
        except StopIteration:
            return sent


BUSY = Reply(status=503, headers={"retry-after": "0"}, content=b'{"title": "busy"}')
STORED = Reply(status=201, headers={}, content=b'{"id": "file-1"}')
LOST = LostError("lost", was_sent=True)


def test_what_can_be_read_again_is_sent_again_whole() -> None:
    stream = io.BytesIO(b"0123456789")
    assert answers(flows.upload(file_source(stream)), BUSY, LOST, STORED) == [b"0123456789"] * 3


@pytest.mark.parametrize("outcome", [BUSY, LOST])
def test_what_is_half_read_and_has_no_way_back_is_never_sent_again(outcome: Any) -> None:
    source = file_source(OneWay(b"0123"))
    with pytest.raises(UnavailableError):
        answers(flows.upload(source), outcome)
    assert source.is_spent
