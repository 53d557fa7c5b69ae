"""A tar is read without trusting any number in it."""

from __future__ import annotations

import io
import tarfile

import pytest

from skipper.errors import FormatError
from skipper.gateway.unpacking import TarReader

END = bytes(2 * tarfile.BLOCKSIZE)


def block(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def read(data: bytes) -> dict[str, bytes]:
    reader, found = TarReader(io.BytesIO(data)), {}
    while (member := reader.next()) is not None:
        found[member.name] = b"".join(reader.content(member))
    return found


class NoMore(io.BytesIO):
    """Fails who would hold more than a piece."""

    def read(self, size: int | None = -1) -> bytes:
        assert size is not None
        assert 0 <= size <= 1 << 20
        return super().read(size)


def test_files_come_in_order_with_their_content() -> None:
    data = block("a", 3) + b"abc".ljust(512, b"\0") + block("b", 0) + END
    assert read(data) == {"a": b"abc", "b": b""}
    assert read(data + bytes(8192)) == {"a": b"abc", "b": b""}


@pytest.mark.parametrize("size", [1 << 40, 8 << 30, 5000])
def test_a_name_of_any_length_is_not_held(size: int) -> None:
    """CVE-2019-20907 and its kin: a header whose size the reader believes."""
    reader = TarReader(NoMore(block("././@LongLink", size, tarfile.GNUTYPE_LONGNAME) + END))
    with pytest.raises(FormatError, match="a name in it has more than"):
        reader.next()


def test_a_content_of_any_length_is_not_held() -> None:
    reader = TarReader(NoMore(block("a", 1 << 50) + END))
    member = reader.next()
    assert member is not None
    with pytest.raises(FormatError, match="cut off"):
        list(reader.content(member))


@pytest.mark.parametrize("cut", [0, 100, 511, 512, 600, 1023, 1024, 1536])
def test_what_is_cut_off_is_refused(cut: int) -> None:
    data = block("a", 3) + b"abc".ljust(512, b"\0") + END
    with pytest.raises(FormatError):
        read(data[:cut])


@pytest.mark.parametrize(
    "data",
    [
        b"x" * 1024,
        block("a", 0)[:-400] + b"!" + block("a", 0)[-399:] + END,
        block("a", -5) + END,
        block("a", 0) + END + b"more",
        block("a", 0) + END + bytes(1 << 20),
        block("././@LongLink", 2, tarfile.GNUTYPE_LONGNAME) + b"\xff\xff".ljust(512, b"\0") + END,
        block("././@LongLink", 2, tarfile.GNUTYPE_LONGNAME) + b"aa".ljust(512, b"\0") + END,
    ],
    ids=["rubbish", "checksum", "negative", "tail", "padding", "no UTF-8", "no file"],
)
def test_what_is_damaged_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        read(data)
