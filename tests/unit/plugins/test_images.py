"""Pictures cross without a changed pixel; what is none, or far too large, is refused unread."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

import skipper
import skipper_images
from skipper.errors import DefinitionError
from skipper.values.crossing import Adapter
from skipper.values.envelope import Part
from skipper.values.opening import NO_PLACES, OpenParts, PartContent
from skipper_images import ImageType

ANY = ImageType(skipper.Image())


def content(data: bytes, media_type: str) -> skipper.Content:
    part = Part(media_type=media_type, size=len(data), data=data)
    return PartContent(part, OpenParts([part], NO_PLACES))


def picture(mode: str = "RGB", size: tuple[int, int] = (7, 5)) -> PIL.Image.Image:
    rng = np.random.default_rng(7)
    pixels = rng.integers(0, 255, (size[1], size[0], 4), dtype=np.uint8)
    return PIL.Image.fromarray(pixels, "RGBA").convert(mode)


def encoded(image: PIL.Image.Image, format_: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format_, **options)
    return stream.getvalue()


def assert_same(one: PIL.Image.Image, two: PIL.Image.Image) -> None:
    assert (one.mode, one.size, one.tobytes()) == (two.mode, two.size, two.tobytes())


@pytest.fixture(autouse=True)
def usual_settings() -> Iterator[None]:
    yield
    skipper_images.skipper_settings("f", {})


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA"])
def test_a_picture_comes_back_as_it_was_sent(mode: str) -> None:
    image = picture(mode)
    (data,) = ANY.write(image, "image/png").buffers
    assert_same(ANY.read(content(bytes(data), "image/png")), image)
    adapter = Adapter(PIL.Image.Image)
    assert_same(adapter.validator.validate_json(adapter.serializer.to_json(image)), image)


@pytest.mark.parametrize(
    ("media_type", "format_"),
    [
        ("image/png", "PNG"),
        ("image/jpeg", "JPEG"),
        ("image/webp", "WEBP"),
        ("image/gif", "GIF"),
        ("image/bmp", "BMP"),
        ("image/tiff", "TIFF"),
    ],
)
def test_pictures_of_many_formats_are_read(media_type: str, format_: str) -> None:
    data = encoded(picture(), format_)
    for said in (media_type, "application/octet-stream"):
        assert ANY.read(content(data, said)).size == (7, 5)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA", "CMYK", "HSV"])
@pytest.mark.parametrize("media_type", ["image/jpeg", "image/webp"])
def test_pictures_of_every_mode_are_written_as_what_is_accepted(mode: str, media_type: str) -> None:
    (data,) = ANY.write(picture(mode), media_type).buffers
    assert PIL.Image.open(io.BytesIO(data)).size == (7, 5)


def test_what_is_transparent_lies_on_white_where_there_is_no_transparency() -> None:
    (data,) = ANY.write(PIL.Image.new("RGBA", (9, 9), (0, 0, 0, 0)), "image/jpeg").buffers
    assert PIL.Image.open(io.BytesIO(data)).getpixel((4, 4)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("mode", "media_type", "message"),
    [
        ("F", "image/png", "mode F is no PNG"),
        ("F", "image/webp", "mode F is no WEBP"),
        ("I", "image/jpeg", "mode I is no JPEG"),
        ("I;16", "image/jpeg", "mode I;16 is no JPEG"),
    ],
)
def test_a_mode_that_a_format_cannot_hold_is_told(mode: str, media_type: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ANY.write(PIL.Image.new(mode, (2, 2)), media_type)


def test_a_palette_may_be_transparent() -> None:
    image = PIL.Image.new("P", (2, 2))
    image.info["transparency"] = 0
    (data,) = ANY.write(image, "image/jpeg").buffers
    assert PIL.Image.open(io.BytesIO(data)).getpixel((0, 0)) == (255, 255, 255)
    (data,) = ANY.write(image, "image/webp").buffers
    assert PIL.Image.open(io.BytesIO(data)).getpixel((0, 0))[3] == 0  # type: ignore[index] # of RGBA


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG", "TIFF"])
def test_a_picture_of_many_frames_is_refused(format_: str) -> None:
    frames = [PIL.Image.new("RGB", (3, 3), colour) for colour in ("red", "blue", "green")]
    data = encoded(frames[0], format_, save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match="more than one frame"):
        ANY.read(content(data, f"image/{format_.lower()}"))


def test_the_preview_within_a_photograph_is_no_frame() -> None:
    data = encoded(picture(), "MPO", save_all=True, append_images=[picture(size=(2, 2))])
    assert ANY.read(content(data, "image/jpeg")).size == (7, 5)


def test_a_hint_converts() -> None:
    adapter = Adapter(Annotated[PIL.Image.Image, skipper.Image("L", (8, 4))])
    text = base64.b64encode(encoded(picture("RGBA"), "PNG")).decode()
    found = adapter.validator.validate_json(f'"{text}"')
    assert (found.mode, found.size) == ("L", (8, 4))


def test_a_cameras_turn_is_carried_out() -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # lies on its side
    data = encoded(picture(), "JPEG", exif=exif)
    assert ANY.accepted(ANY.read(content(data, "image/jpeg"))).size == (5, 7)


def test_pictures_stand_in_models_and_lists() -> None:
    class Album(BaseModel):
        cover: Annotated[PIL.Image.Image, skipper.Image()]
        pages: list[Annotated[PIL.Image.Image, skipper.Image("L")]]

    adapter = Adapter(Album)
    album = Album(cover=picture(), pages=[picture("L")])
    again = adapter.validator.validate_json(adapter.serializer.to_json(album))
    assert_same(again.cover, album.cover)
    assert_same(again.pages[0], album.pages[0])


def bomb(width: int, height: int) -> bytes:
    """A PNG that promises so many pixels."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("data", "media_type", "message"),
    [
        (bomb(100_000, 100_000), "image/png", "far more pixels than the 50,000,000 that are taken"),
        (bomb(10_000, 6_000), "image/png", "10000 by 6000 pixels, more than the 50,000,000"),
        (encoded(picture(size=(99, 99)), "PNG")[:-900], "image/png", "the picture is damaged"),
        (encoded(picture(size=(99, 99)), "JPEG")[:-900], "image/jpeg", "the picture is damaged"),
        (encoded(picture(), "PNG"), "image/jpeg", "these bytes are not JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "application/octet-stream", "not a picture of a format"),
        (b"<svg/>", "application/octet-stream", "not a picture of a format"),
        (b"", "image/png", "these bytes are not PNG"),
    ],
)
def test_what_is_no_picture_is_refused(data: bytes, media_type: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ANY.read(content(data, media_type))


def test_the_settings_say_how_many_pixels_are_taken() -> None:
    skipper_images.skipper_settings("f", {"max_pixels": 34})
    with pytest.raises(ValueError, match="more than the 34 that are taken"):
        ANY.read(content(encoded(picture(), "PNG"), "image/png"))
    with pytest.raises(ValidationError):
        skipper_images.skipper_settings("f", {"max_pixel": 34})


@pytest.mark.parametrize("mark", [skipper.Image("RGBX2"), skipper.Image(None, (0, 5))])
def test_a_mark_that_is_wrong_is_told(mark: skipper.Image) -> None:
    with pytest.raises(DefinitionError, match=r"skipper\.Image"):
        Adapter(Annotated[PIL.Image.Image, mark])


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"]),
    st.integers(0, 300),
    st.binary(max_size=8),
)
def test_whatever_comes_is_a_picture_or_a_value_error(format_: str, at: int, junk: bytes) -> None:
    good = encoded(picture(), format_)
    data = good[:at] + junk + good[at + len(junk) :]
    try:
        found = ANY.read(content(data, f"image/{format_.lower()}"))
    except ValueError:
        return
    assert found.width * found.height <= 50_000_000
