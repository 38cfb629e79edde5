"""Image files to uint8 pixels: grey or RGB, upright, without alpha, of one size.

c channels, h w pixels; a shape is (channels, height, width).
"""

import io
import math
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from stat import S_ISREG

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from softaug_lab.basics.errors import SoftaugError
from softaug_lab.data.resize import centre_crop, fit
from softaug_lab.data.sample import Sample, Slice, Unreadable

IMAGE_ENDINGS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"}
    | {".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".avif"}
)
# Pillow hands other formats, such as PostScript, to another program, whatever the file is called.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
MAX_ELONGATION = 100  # longer images are cropped to their middle before they are scaled
AT_ONCE = 256  # samples that are decoded before the results are stored
UPRIGHT = {  # what makes an image upright, by its EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
GREY_MODES = frozenset({"1", "L", "I", "I;16", "I;16B", "I;16L"})  # of Pillow


@dataclass(frozen=True, slots=True)
class Header:
    """Upright size in pixels and colour of an image, known without decoding it."""

    width: int
    height: int
    grey: bool


@dataclass(frozen=True, slots=True)
class Picture:
    """One decoded image with the name and label of its sample."""

    name: str
    label: int
    pixels: UInt8[Tensor, "c h w"]


@dataclass(frozen=True)
class Decoded:
    """A sequence of samples after decoding: the readable images, and why the others are not.

    names, places: of the images; a place is an index into the sequence of samples.
    """

    images: UInt8[Tensor, "m c h w"]
    labels: Int64[Tensor, "m"]
    names: list[str]
    places: list[int]
    unreadable: list[Unreadable]


def decode_all(
    samples: Iterable[Sample | Unreadable],
    n: int,
    shape: tuple[int, int, int],
    pool: ThreadPoolExecutor | None = None,
) -> Decoded:
    """Decode at most n samples to one tensor, in order, on several threads.

    At most 256 samples are held encoded at a time. pool: threads to use, else new ones.
    """
    if pool is None:
        with decoders() as new_pool:
            return decode_all(samples, n, shape, new_pool)
    images = torch.empty(n, *shape, dtype=torch.uint8)
    names: list[str] = []
    labels: list[int] = []
    places: list[int] = []
    unreadable: list[Unreadable] = []
    remaining, place = iter(samples), 0
    while chunk := list(islice(remaining, AT_ONCE)):
        for outcome in pool.map(lambda sample: decode_image(sample, shape), chunk):
            if isinstance(outcome, Unreadable):
                unreadable.append(outcome)
            else:
                images[len(labels)] = outcome.pixels
                names.append(outcome.name)
                labels.append(outcome.label)
                places.append(place)
            place += 1
    label_tensor = torch.tensor(labels, dtype=torch.int64)
    return Decoded(images[: len(labels)], label_tensor, names, places, unreadable)


def decoders() -> ThreadPoolExecutor:
    """Make the threads to decode in; Pillow releases Python's global lock while it decodes."""
    return ThreadPoolExecutor(min(8, os.cpu_count() or 1), "decode")


def read_image(path: Path, channels: int, height: int, width: int) -> UInt8[Tensor, "c h w"]:
    """Decode one image file, scaled to cover height x width, then cropped to its centre.

    Raises SoftaugError that names the file where it is unreadable.
    """
    outcome = decode_image(Sample(str(path), path, 0), (channels, height, width))
    if isinstance(outcome, Unreadable):
        raise SoftaugError(str(outcome))
    return outcome.pixels


def decode_image(sample: Sample | Unreadable, shape: tuple[int, int, int]) -> Picture | Unreadable:
    """Decode one sample to a shape [C,H,W], or return why that is impossible.

    A sample that is unreadable already is returned as it is.
    """
    if isinstance(sample, Unreadable):
        return sample
    channels, height, width = shape
    try:
        image = _decoded(sample, channels, height, width)
        array = np.array(image, dtype=np.uint8).reshape(image.height, image.width, channels)
    # Pillow's decoders raise errors of many types.
    except Exception as error:
        return Unreadable(sample.name, _reason(error))
    pixels = torch.from_numpy(array).permute(2, 0, 1)[None]
    pixels = fit(_without_far_ends(pixels, height, width), height, width)[0]
    return Picture(sample.name, sample.label, pixels)


def thumbnail(sample: Sample, side: int) -> UInt8[Tensor, "3 s s"] | Unreadable:
    """Decode one sample to RGB of side x side pixels, all of it, whatever its proportions are.

    Nothing is cropped, so that copies of an image in other sizes have almost the same thumbnail.
    """
    try:
        image = _decoded(sample, 3, side, side).resize((side, side), Image.Resampling.BILINEAR)
        array = np.array(image, dtype=np.uint8)
    except Exception as error:
        return Unreadable(sample.name, _reason(error))
    return torch.from_numpy(array).permute(2, 0, 1)


def read_header(sample: Sample | Unreadable) -> Header | Unreadable:
    """Read size and colour of an image, or return why it is unreadable."""
    if isinstance(sample, Unreadable):
        return sample
    try:
        with Image.open(open_content(sample), formats=FORMATS) as image:
            _refuse(image)
            width, height = image.size[::-1] if _is_sideways(image) else image.size
            return Header(width, height, image.mode in GREY_MODES)
    except Exception as error:
        return Unreadable(sample.name, _reason(error))


def _decoded(sample: Sample, channels: int, height: int, width: int) -> Image.Image:
    """Decode an image upright, to 8 bits, at no more than about twice height x width for a JPEG.

    Raises what Pillow raises.
    """
    with Image.open(open_content(sample), formats=FORMATS) as opened:
        _refuse(opened)
        _decode_smaller(opened, height, width)
        _refuse_size(opened, 1)
        return _flatten(_upright(opened), channels)


def open_content(sample: Sample) -> Path | io.BytesIO:
    """Return what Pillow opens: a path, or the bytes of the encoded image."""
    content = sample.content
    if isinstance(content, Slice):
        with content.path.open("rb") as file:
            file.seek(content.offset)
            content = file.read(content.length)
    if isinstance(content, bytes):
        return io.BytesIO(content)
    if not S_ISREG(content.stat().st_mode):
        raise OSError("neither a file nor a link to one")  # a FIFO would be waited for for ever
    return content


def _refuse(image: Image.Image) -> None:
    """Raise for more pixels than fit in memory, where Pillow warns, and for pixels without a scale.

    A small file may decode to any number of pixels; what is white in floating point, nobody knows.
    A JPEG may have twice as many, as the photos of some phones have: it is decoded smaller.
    """
    if image.mode == "F":
        raise _FloatingPointError
    _refuse_size(image, 2 if image.format == "JPEG" else 1)


def _refuse_size(image: Image.Image, times: int) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > times * limit:
        raise Image.DecompressionBombError


def _decode_smaller(image: Image.Image, height: int, width: int) -> None:
    """Let Pillow decode a JPEG at 1/2, 1/4 or 1/8 where that is still twice height x width.

    Scaling from twice the size with antialiasing differs little from scaling the whole image, and
    photographs are often ten times as large.
    """
    goals = (height, width) if _is_sideways(image) else (width, height)
    factor = 2 * max(goal / side for goal, side in zip(goals, image.size, strict=True))
    image.draft(None, (math.ceil(factor * image.width), math.ceil(factor * image.height)))


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 where it is missing or anything but a number of 2 to 8."""
    try:
        found = image.getexif().get(0x0112)
    except Exception:  # broken EXIF raises errors of many types, and the image is whole
        return 1
    return found if isinstance(found, int) and found in UPRIGHT else 1


def _is_sideways(image: Image.Image) -> bool:
    """Return whether the EXIF orientation swaps height and width."""
    return _orientation(image) >= 5


def _upright(image: Image.Image) -> Image.Image:
    """Turn and mirror an image as its EXIF orientation asks."""
    orientation = _orientation(image)
    return image if orientation == 1 else image.transpose(UPRIGHT[orientation])


def _flatten(image: Image.Image, channels: int) -> Image.Image:
    """Convert to 8-bit grey or RGB; transparent pixels are blended with white."""
    if image.mode.startswith("I"):
        # 16-bit grey: 65535 is white. A table, since arithmetic would take 8 bytes for each pixel.
        table = ((np.arange(1 << 16) + 128) // 257).astype(np.uint8)
        image = Image.fromarray(table[np.clip(np.asarray(image), 0, 65535)])
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(background, image)
    return image.convert("L" if channels == 1 else "RGB")


def _without_far_ends(
    images: UInt8[Tensor, "1 c h w"], height: int, width: int
) -> UInt8[Tensor, "1 c y x"]:
    """Crop a very elongated image to its middle before it is scaled.

    Scaling the ends, which the centre crop drops, would take gigabytes.
    """
    old_height, old_width = images.shape[-2:]
    max_height = max(1, MAX_ELONGATION * height * old_width // width)
    max_width = max(1, MAX_ELONGATION * width * old_height // height)
    return centre_crop(images, min(old_height, max_height), min(old_width, max_width))


class _FloatingPointError(Exception):
    """An image of floating-point pixels."""


def _reason(error: Exception) -> str:
    """Word an error of Pillow or the file system."""
    if isinstance(error, _FloatingPointError):
        return "floating-point pixels; convert it to 8 or 16 bits"
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"more than {Image.MAX_IMAGE_PIXELS:,} pixels, too large to be decoded"
    if isinstance(error, UnidentifiedImageError):
        return "no image, or of an unknown format"
    return f"unreadable ({' '.join(str(error).split()) or type(error).__name__})"
