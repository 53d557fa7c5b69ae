"""Pictures: how ``PIL.Image.Image`` crosses, as PNG, JPEG, WebP and others.

Nothing is decoded before its header has said how many pixels it has. Pillow is imported by whoever
has it in a hint, and not by this plugin.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

import skipper

_FORMATS = {
    "image/png": "PNG",
    "image/jpeg": "JPEG",
    "image/webp": "WEBP",
    "image/gif": "GIF",
    "image/bmp": "BMP",
    "image/tiff": "TIFF",
}
"""Media type → Pillow's name. Those that Pillow decodes itself, with no other program."""
_OCTETS = "application/octet-stream"
_OF_JPEG = ("L", "RGB", "CMYK")
_OF_OTHERS = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
_OF_NUMBERS = ("I", "F")
"""How modes begin whose pixels are of more than 8 bits."""
_QUALITY = 90


class ImageSettings(BaseModel):
    """``[plugins.image-values]``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_pixels: int = Field(default=50_000_000, ge=1)
    """A picture of more pixels is refused unread."""


_settings = ImageSettings()


@skipper.hook
def skipper_settings(source: str, settings: Mapping[str, Any]) -> None:
    """Take ``max_pixels``."""
    global _settings  # noqa: PLW0603 - one table a process, read before any picture
    del source
    _settings = ImageSettings.model_validate(settings)


@skipper.hook
def skipper_value_type(hint: Any, marks: tuple[Any, ...]) -> skipper.ValueType | None:
    """Pictures, of a class that is Pillow's only where somebody has imported it."""
    pillow = sys.modules.get("PIL.Image")
    if pillow is None or hint is not pillow.Image:
        return None
    own = [mark for mark in marks if isinstance(mark, skipper.Image)]
    return ImageType(own[-1] if own else skipper.Image())


class ImageType(skipper.ValueType):
    """Pictures, converted to what ``mark`` says. Raises ValueError for a mode that is none."""

    name = "a picture"
    reads = (*_FORMATS, _OCTETS)
    writes = ("image/png", "image/jpeg", "image/webp", "application/json")
    native = "image/png"
    is_base64_in_json = True

    def __init__(self, mark: skipper.Image) -> None:
        import PIL.Image

        self._pillow, self._mark = PIL.Image, mark
        if mark.mode is not None and mark.mode not in PIL.Image.MODES:
            known = ", ".join(PIL.Image.MODES)
            raise ValueError(f"skipper.Image: there is no mode {mark.mode!r}; there are {known}")
        if mark.size is not None and (len(mark.size) != 2 or min(mark.size) < 1):
            raise ValueError(f"skipper.Image: size={mark.size!r}: write width and height")

    def is_value(self, value: object) -> bool:
        return isinstance(value, self._pillow.Image)

    def read(self, content: skipper.Content) -> Any:
        format_ = _FORMATS.get(content.media_type)
        formats = [format_] if format_ else [*_FORMATS.values()]
        try:
            image = self._pillow.open(io.BytesIO(content.view()), formats=formats)
        except self._pillow.DecompressionBombError:
            raise ValueError(f"the picture has far more pixels than {_taken()}") from None
        except Exception:  # noqa: BLE001 - what a decoder makes of a caller's bytes, it raises
            what = format_ or "a picture of a format that is taken"
            raise ValueError(f"these bytes are not {what}") from None
        self._check_size(image)
        try:
            is_animated = _is_animated(image)  # which reads on in the file
            image.load()
        except Exception as error:  # noqa: BLE001 - the same
            raise ValueError(f"the picture is damaged: {error}") from None
        if is_animated:
            raise ValueError("the picture has more than one frame: send the one that is meant")
        return image

    def _check_size(self, image: Any) -> None:
        """Raise ValueError for more pixels than are taken; the header alone has been read."""
        pixels = image.width * image.height
        if pixels > _settings.max_pixels:
            raise ValueError(
                f"the picture has {image.width} by {image.height} pixels, more than {_taken()}"
            )

    def accepted(self, value: Any) -> Any:
        """The picture as it is to be seen, in the mode and the size of the hint."""
        import PIL.ImageOps

        # Cameras turn the picture by a tag and not by its pixels.
        image: Any = PIL.ImageOps.exif_transpose(value)
        mode, size = self._mark.mode, self._mark.size
        if mode is not None and image.mode != mode:
            image = _without_alpha(image, mode, self._pillow).convert(mode)
        return image if size is None or image.size == size else image.resize(size)

    def to_json(self, value: Any) -> str:
        import base64

        return base64.b64encode(self._encoded(value, "PNG")).decode()

    def write(self, value: Any, media_type: str) -> skipper.Written:
        return skipper.Written(
            media_type=media_type, buffers=(self._encoded(value, _FORMATS[media_type]),)
        )

    def _encoded(self, image: Any, format_: str) -> bytes:
        if format_ != "PNG" and image.mode[0] in _OF_NUMBERS:
            raise _unlike(image.mode, format_)
        if format_ == "JPEG" and image.mode not in _OF_JPEG:
            image = _without_alpha(image, "RGB", self._pillow).convert("RGB")
        elif format_ == "WEBP" and image.mode not in ("RGB", "RGBA"):
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        elif format_ == "PNG" and image.mode not in _OF_OTHERS:
            raise _unlike(image.mode, format_)
        stream = io.BytesIO()
        options = {"quality": _QUALITY} if format_ != "PNG" else {"compress_level": 1}
        image.save(stream, format_, **options)
        return stream.getvalue()


def _is_animated(image: Any) -> bool:
    """Whether a picture has more frames; the second of a photograph (MPO) is its preview."""
    return image.format != "MPO" and bool(getattr(image, "is_animated", False))


def _unlike(mode: str, format_: str) -> ValueError:
    return ValueError(
        f"a picture of mode {mode} is no {format_} without being changed; return it converted: "
        "picture.convert('RGB')"
    )


def _taken() -> str:
    return f"the {_settings.max_pixels:,} that are taken (plugins.image-values.max_pixels)"


def _without_alpha(image: Any, mode: str, pillow: Any) -> Any:
    """A picture on white, where ``mode`` has no transparency that it could keep."""
    if "A" in mode or mode == "P" or not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    ground = pillow.new("RGBA", image.size, "white")
    ground.alpha_composite(image)
    return ground
