"""Forms and raw bodies become envelopes; what is wrong with one is said, and leaves nothing."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import skipper
from skipper.gateway.budget import SMALL
from skipper.gateway.inputs import BodyHead, Inputs
from skipper.gateway.problems import Problem
from skipper.gateway.reception import SpoolRoom
from skipper.spec import FunctionSpec
from skipper.values.envelope import Envelope, as_envelope
from skipper.values.opening import INLINE_BYTES
from skipper.values.spool import Spool, SpooledFile


def work(
    image: bytes,
    label: str = "",
    n: int = 0,
    more: list[bytes] = [],  # noqa: B006 - a signature to be read, never called
    tags: list[str] = [],  # noqa: B006 - the same
) -> int:
    return len(image)


work.__module__ = "functions.f"
SPEC = skipper.data(work).spec("c0de")
BOUNDARY = "XX"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
LARGE = b"\xff" * 300_000


def part(name: str, data: bytes, *, filename: str = "", kind: str = "") -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"'
    head += f'; filename="{filename}"' if filename else ""
    head += f"\r\nContent-Type: {kind}" if kind else ""
    return head.encode() + b"\r\n\r\n" + data + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


async def pieces(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


class Desk:
    def __init__(self, folder: Path, most: int = 1 << 20) -> None:
        self.room = SpoolRoom(20 << 20)
        self.spool = Spool(folder / "spool", on_removed=self.room.forget)
        self.inputs = Inputs(spool=self.spool, room=self.room, most=most)
        self._folder = folder / "spool"
        self.reserved: list[int] = []

    async def reserve(self, size: int) -> None:
        self.reserved.append(size)

    async def receive(
        self,
        data: bytes,
        kind: str = FORM,
        *,
        query: bytes = b"",
        spec: FunctionSpec = SPEC,
        size: int = 1000,
    ) -> Envelope:
        return as_envelope(
            await self.inputs.received(
                spec, BodyHead(kind, query), pieces(data, size), self.reserve
            )
        )

    async def refused(self, data: bytes, kind: str = FORM, **more: Any) -> Problem:
        with pytest.raises(Problem) as caught:
            await self.receive(data, kind, **more)
        assert self.left == []
        assert self.room.taken == 0
        return caught.value

    @property
    def left(self) -> list[Path]:
        return list(self._folder.iterdir()) if self._folder.exists() else []


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def members(envelope: Envelope) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(envelope.json or b"")
    return found


@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
async def test_a_form_is_an_object_with_a_member_for_each_parameter(desk: Desk, size: int) -> None:
    data = form(
        part("label", b"90210"),
        part("image", LARGE if size > 1 else b"\x00\xff", filename="a b.png", kind="image/png"),
        part("n", b"5"),
        part("tags", b"x"),
        part("tags", b"y"),
    )
    found = await desk.receive(data, size=size)
    assert members(found) == {
        "label": "90210",
        "image": {"file": "#0"},
        "n": 5,
        "tags": ["x", "y"],
    }
    (image,) = found.parts
    assert (image.media_type, image.name) == ("image/png", "a b.png")
    if image.spool is not None:
        assert bytes(desk.spool.view(image.spool)) == LARGE
    else:
        assert image.data == b"\x00\xff"


async def test_json_and_files_stand_side_by_side(desk: Desk) -> None:
    data = form(part("image", b"1"), part("tags", b'["a"]', kind="application/json"))
    assert members(await desk.receive(data)) == {"image": {"file": "#0"}, "tags": ["a"]}


async def test_a_list_takes_several_files(desk: Desk) -> None:
    data = form(part("image", b"0"), part("more", b"1", filename="1"), part("more", b"2"))
    assert members(await desk.receive(data))["more"] == [{"file": "#1"}, {"file": "#2"}]


async def test_a_raw_body_is_the_parameter_that_takes_it_and_the_query_has_the_rest(
    desk: Desk,
) -> None:
    found = await desk.receive(LARGE, "image/png", query=b"label=a%20b&n=3")
    assert members(found) == {"label": "a b", "n": 3, "image": {"file": "#0"}}
    assert found.parts[0].media_type == "image/png"


@pytest.mark.parametrize(
    ("data", "status", "detail"),
    [
        (form(part("other", b"")), 422, "/other: there is no such parameter; there are: image, la"),
        (form(part("image", b"1"), part("image", b"2")), 422, "/image: it is given more than once"),
        (form(part("n", b"1"), part("n", b"2")), 422, "/n: it is given more than once"),
        (form(part("label", b"\xff")), 422, "part 'label' is neither text in UTF-8 nor taken as"),
        (form(part("n", b"{", kind="application/json")), 400, "part 'n' is not JSON"),
        (form(part("image", b"1"))[:-20], 400, "it ends before its last boundary"),
        (part("image", b"1"), 400, "it ends before its last boundary"),
        (b"", 400, "it ends before its last boundary"),
        (b"no form", 400, "the form cannot be read"),
        (b"--XX\r\nX: y\r\n\r\n\r\n--XX--\r\n", 400, "part 1 has no Content-Disposition"),
        (form(*[part("tags", b"x")] * 101), 413, "at most 100 parts"),
        (
            part("image", b"")[:-2] + b"x" * (2 << 20),
            413,
            "1 MiB are accepted (files.max_mb",
        ),
        (
            b'--XX\r\nContent-Disposition: form-data; name="image"\r\nX: ' + b"y" * 20_000,
            431,
            "part 1 has headers of more than 16 KiB",
        ),
    ],
)
async def test_what_is_wrong_with_a_form_is_said_and_nothing_is_left(
    desk: Desk, data: bytes, status: int, detail: str
) -> None:
    problem = await desk.refused(data)
    assert problem.kind.status == status
    assert detail in problem.detail


@pytest.mark.parametrize("boundary", ["", "; boundary=", "; boundary=" + "x" * 71])
async def test_a_form_without_a_sound_boundary_is_refused(desk: Desk, boundary: str) -> None:
    problem = await desk.refused(form(), f"multipart/form-data{boundary}")
    assert "needs a boundary" in problem.detail


DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    ("data", "status", "detail"),
    [
        (form(part("tags", DEEP, kind="application/json")), 400, "part 'tags' is not JSON"),
        (form(part("tags", DEEP)), 422, "/tags: it is nested too deep"),
        (form(part("n", b"NaN", kind="application/json")), 400, "part 'n' is not JSON"),
        (form(part("n", b"1e400")), 422, "/n: "),
        (form(part("n", b"9" * 5000, kind="application/json")), 400, "part 'n' is not JSON"),
        (form(part("n", b'1, "label": "x"', kind="application/json")), 400, "part 'n' is not"),
        (form(part("n", b'"\xff"', kind="application/json")), 400, "part 'n' is not JSON"),
        (form(part("n", b"", kind="application/json")), 400, "part 'n' is not JSON"),
        (part("label", b"x") + part("n", b"5")[:-1], 400, "its last boundary, in part 'n'"),
        (part("n", b"")[:10], 400, "its last boundary, in part 1"),
        (b"", 400, "its last boundary, and no boundary has come"),
    ],
)
async def test_json_in_a_form_is_json_and_nothing_beside(
    desk: Desk, data: bytes, status: int, detail: str
) -> None:
    problem = await desk.refused(data)
    assert problem.kind.status == status
    assert detail in problem.detail


async def test_json_stays_as_it_was_written(desk: Desk) -> None:
    data = form(part("image", b"1"), part("n", b" 1e2 ", kind="application/json"))
    assert (await desk.receive(data)).json == b'{"image":{"file": "#0"},"n": 1e2 }'


PICTURE = SPEC.model_copy(update={"takes": {"image": ("image/png", "image/webp")}})


@pytest.mark.parametrize(
    ("one", "media_type"),
    [
        (part("image", b"1", kind="image/png"), "image/png"),
        (part("image", b"1", filename="a.png"), "image/png"),
        (part("image", b"1", filename="a.WEBP", kind="application/octet-stream"), "image/webp"),
        (part("image", b"1", filename="a.json", kind="application/json"), "application/json"),
    ],
)
async def test_a_part_is_what_it_says_or_what_its_name_says(
    desk: Desk, one: bytes, media_type: str
) -> None:
    (found,) = (await desk.receive(form(one), spec=PICTURE)).parts
    assert found.media_type == media_type


@pytest.mark.parametrize(
    ("one", "told"),
    [
        (part("image", LARGE, kind="text/csv"), "text/csv"),
        (part("image", LARGE, filename="a.csv", kind="image/gif"), "image/gif"),
        (part("image", LARGE, filename="a.csv"), "application/octet-stream"),
        (part("image", LARGE, filename="a"), "application/octet-stream"),
    ],
)
async def test_a_part_of_a_type_that_its_parameter_is_not_read_from_is_refused(
    desk: Desk, one: bytes, told: str
) -> None:
    problem = await desk.refused(form(one), spec=PICTURE)
    assert problem.kind.status == 415
    assert problem.detail == (
        f"part 'image' is {told}; the parameter is read from image/png, image/webp and JSON"
    )


@pytest.mark.parametrize(
    ("one", "value"),
    [
        (part("image", b"aGk="), "aGk="),
        (part("image", b'{"file": "x"}', kind="application/json"), {"file": "x"}),
    ],
)
async def test_a_value_can_be_typed_in(desk: Desk, one: bytes, value: Any) -> None:
    found = await desk.receive(form(one), spec=PICTURE)
    assert (members(found), found.parts) == ({"image": value}, ())


async def test_what_a_caller_sends_does_not_fill_the_log(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    for data in (b"--YY\r\n", b"--XX\r\n(: x\r\n", b"--XXno", b"--XX\r\nA: b\rc"):
        await desk.refused(data)
    assert caplog.records == []


@pytest.mark.parametrize(
    "parts",
    [
        [part("label", b"x" * (1 << 20) + b"y")],
        [part("tags", b"x" * 300_000)] * 4,
        [part("tags", b"x" * 900_000), part("n", b" " * 200_000, kind="application/json")],
    ],
)
async def test_text_that_is_too_long_is_not_held(tmp_path: Path, parts: list[bytes]) -> None:
    desk = Desk(tmp_path, most=5 << 20)
    problem = await desk.refused(form(*parts))
    assert problem.kind.status == 413
    assert "makes the form's text more than 1 MiB" in problem.detail
    assert desk.reserved == [(1 << 20) + INLINE_BYTES]


async def test_of_many_parts_no_more_is_held_than_of_one(desk: Desk) -> None:
    found = await desk.receive(form(*[part("more", b"x" * 30_000)] * 20, part("image", b"")))
    held = sum(each.size for each in found.parts if each.data is not None)
    assert 90_000 <= held <= INLINE_BYTES
    assert desk.reserved == [(1 << 20) + INLINE_BYTES]
    assert len(desk.left) == sum(each.spool is not None for each in found.parts) == 16
    assert all(found.parts[n].size == 30_000 for n in range(20))


@pytest.mark.parametrize("size", [0, 1000, SMALL])
async def test_what_is_little_needs_no_room(desk: Desk, size: int) -> None:
    await desk.receive(form(part("image", b"x" * size)))
    assert desk.reserved == []


@pytest.mark.parametrize("size", [5 << 20, 9 << 20])
async def test_a_large_body_lies_in_the_spool_as_it_came(tmp_path: Path, size: int) -> None:
    desk, data = Desk(tmp_path, most=10 << 20), bytes(range(256)) * (size >> 8)
    found = await desk.receive(form(part("image", data, filename="a")), size=1 << 18)
    assert bytes(desk.spool.view(found.parts[0].spool or "")) == data
    part_ = await desk.inputs.file("a/b", "n", pieces(data, 1 << 18))
    assert part_.digest == hashlib.sha256(data).hexdigest()
    assert part_.size == size


async def test_a_type_that_nothing_takes_is_refused_with_those_that_are_taken(desk: Desk) -> None:
    def plain(x: int) -> int:
        return x

    plain.__module__ = "functions.f"
    spec = skipper.data(plain).spec("c0de")
    problem = await desk.refused(b"1", "image/png", spec=spec)
    assert (problem.kind.status, problem.detail) == (
        415,
        "f.plain takes application/json, not image/png",
    )


async def test_two_parameters_that_take_it_need_a_form(desk: Desk) -> None:
    def two(a: bytes, b: bytes) -> None: ...

    two.__module__ = "functions.f"
    problem = await desk.refused(b"1", "image/png", spec=skipper.data(two).spec("c0de"))
    assert "a and b take image/png: send a form" in problem.detail


async def test_a_body_that_breaks_off_leaves_nothing(desk: Desk) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield part("image", LARGE)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await desk.inputs.received(SPEC, BodyHead(FORM), broken())
    assert (desk.left, desk.room.taken) == ([], 0)


class Full(Spool):
    """A spool on a disk that is full after some bytes."""

    def create(self, *, is_hashed: bool = False) -> SpooledFile:
        file, write = super().create(is_hashed=is_hashed), SpooledFile.write

        def fails(data: Any) -> None:
            if file.size > 200_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            write(file, data)

        file.write = fails  # type: ignore[method-assign] # one file's, not the class's
        return file


@pytest.mark.parametrize("kind", [FORM, "image/png"])
async def test_a_full_disk_is_told_and_nothing_is_left(desk: Desk, kind: str) -> None:
    desk.inputs = Inputs(spool=Full(desk.spool.folder), room=desk.room, most=1 << 20)
    problem = await desk.refused(form(part("image", LARGE)) if kind == FORM else LARGE, kind)
    assert problem.kind.status == 507
    assert "No space left" in problem.detail


async def test_bodies_share_a_bound(desk: Desk) -> None:
    desk.room.most = 250_000
    problem = await desk.refused(form(part("image", LARGE)))
    assert (problem.kind.status, "files.quota_gb" in problem.detail) == (507, True)


async def test_a_body_takes_of_the_bound_until_its_call_is_over(desk: Desk) -> None:
    """So the bound is one of what lies in the spool, and not of what is just being received."""
    found = await desk.receive(form(part("image", LARGE), part("more", b"x" * 1000)))
    assert desk.room.taken == len(LARGE)
    desk.room.most = len(LARGE) + 100_000
    with pytest.raises(Problem, match="quota_gb"):
        await desk.receive(form(part("image", LARGE)))
    assert desk.room.taken == len(LARGE)
    desk.spool.remove([*found.spooled, *found.spooled])
    assert desk.room.taken == 0
    await desk.receive(form(part("image", LARGE)))


async def test_a_file_takes_of_the_bound_until_it_is_stored(desk: Desk) -> None:
    found = await desk.inputs.file("a/b", "n", pieces(LARGE))
    assert desk.room.taken == len(LARGE)
    desk.spool.remove([found.spool or ""])
    assert desk.room.taken == 0


async def test_a_functions_own_limit_takes_the_place_of_the_settings(desk: Desk) -> None:
    spec = SPEC.model_copy(update={"max_input": 1000})
    assert (await desk.refused(form(part("image", b"x" * 1001)), spec=spec)).kind.status == 413


@settings(max_examples=200, deadline=None, suppress_health_check=[*HealthCheck])
@given(st.binary(max_size=300), st.integers(0, 400), st.integers(1, 50))
async def test_whatever_comes_is_an_envelope_or_a_problem(
    tmp_path: Path, junk: bytes, at: int, size: int
) -> None:
    good = form(part("label", b"x"), part("image", b"\x00" * 90, filename="f", kind="a/b"))
    for data in (junk, good[:at] + junk + good[at:]):
        desk = Desk(tmp_path)
        status = 200
        try:
            members(await desk.receive(data, size=size))
        except Problem as problem:
            status = problem.kind.status
        assert status == 200 or 400 <= status < 500
