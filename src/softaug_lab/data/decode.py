"""Image files to uint8 pixels: grey or RGB, upright, without alpha, of one size.

c channels, h w pixels; a shape is (channels, height, width).
"""

import math
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from PIL import Image
from torch import Tensor

from softaug_lab.basics.errors import SoftaugError
from softaug_lab.basics.machine import cores
from softaug_lab.data.objects import FULL, object_map
from softaug_lab.data.opening import open_image, reason, refuse_size
from softaug_lab.data.resize import fit, without_far_ends
from softaug_lab.data.sample import Sample, Unreadable

IMAGE_ENDINGS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"}
    | {".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".avif", ".npy"}
)
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
    """One decoded image with the name and label of its sample, and the map of its object if any."""

    name: str
    label: int
    pixels: UInt8[Tensor, "c h w"]
    object: UInt8[Tensor, "1 h w"] | None = None


@dataclass(frozen=True)
class Decoded:
    """A sequence of samples after decoding: the readable images, and why the others are not.

    names, places: of the images; a place is an index into the sequence of samples. objects: maps of
    their objects, 255 where all is object; None where no sample has any.
    """

    images: UInt8[Tensor, "m c h w"]
    labels: Int64[Tensor, "m"]
    names: list[str]
    places: list[int]
    unreadable: list[Unreadable]
    objects: UInt8[Tensor, "m 1 h w"] | None = None


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
    objects: Tensor | None = None
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
                if outcome.object is not None and objects is None:
                    objects = torch.full((n, 1, *shape[1:]), FULL, dtype=torch.uint8)
                if outcome.object is not None and objects is not None:
                    objects[len(labels)] = outcome.object
                names.append(outcome.name)
                labels.append(outcome.label)
                places.append(place)
            place += 1
    label_tensor = torch.tensor(labels, dtype=torch.int64)
    return Decoded(
        images[: len(labels)],
        label_tensor,
        names,
        places,
        unreadable,
        None if objects is None else objects[: len(labels)],
    )


def decoders() -> ThreadPoolExecutor:
    """Make the threads to decode in; Pillow releases Python's global lock while it decodes.

    One for each core, which the processes that torchrun began on a machine divide; 16 at most.
    """
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return ThreadPoolExecutor(min(16, max(1, cores() // beside)), "decode")


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
        found = None if sample.object is None else _object(sample, height, width)
    # Pillow's decoders raise errors of many types.
    except Exception as error:
        return Unreadable(sample.name, reason(error))
    pixels = torch.from_numpy(array).permute(2, 0, 1)[None]
    pixels = fit(without_far_ends(pixels, height, width), height, width)[0]
    return Picture(sample.name, sample.label, pixels, found)


def _object(sample: Sample, height: int, width: int) -> UInt8[Tensor, "1 h w"]:
    """Make the map of a sample's object; raises what Pillow raises, and RefusedError."""
    assert sample.object is not None
    with open_image(sample.content) as image:
        size = image.size[::-1] if _is_sideways(image) else image.size
    return object_map(sample.object, size, height, width)


def thumbnail(sample: Sample, side: int) -> UInt8[Tensor, "3 s s"] | Unreadable:
    """Decode one sample to RGB of side x side pixels, all of it, whatever its proportions are.

    Nothing is cropped, so that copies of an image in other sizes have almost the same thumbnail.
    """
    try:
        image = _decoded(sample, 3, side, side).resize((side, side), Image.Resampling.BILINEAR)
        array = np.array(image, dtype=np.uint8)
    except Exception as error:
        return Unreadable(sample.name, reason(error))
    return torch.from_numpy(array).permute(2, 0, 1)


def read_header(sample: Sample | Unreadable) -> Header | Unreadable:
    """Read size and colour of an image, or return why it is unreadable."""
    if isinstance(sample, Unreadable):
        return sample
    try:
        with open_image(sample.content) as image:
            width, height = image.size[::-1] if _is_sideways(image) else image.size
            return Header(width, height, image.mode in GREY_MODES)
    except Exception as error:
        return Unreadable(sample.name, reason(error))


def _decoded(sample: Sample, channels: int, height: int, width: int) -> Image.Image:
    """Decode an image upright, to 8 bits, at no more than about twice height x width for a JPEG.

    Raises what Pillow raises.
    """
    with open_image(sample.content) as opened:
        _decode_smaller(opened, height, width)
        refuse_size(opened, 1)
        return _flatten(_upright(opened), channels)


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
