"""Image files to uint8 pixels: grey or RGB, upright, without alpha, of one size."""

import io
import math
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from softaug_lab.basics.errors import SoftaugError, UsageError
from softaug_lab.data.resize import centre_crop, fit
from softaug_lab.data.sample import Sample, Slice

IMAGE_ENDINGS = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
)
# None that Pillow gives to another program, as PostScript, whatever a file is called.
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
RIBBON = 100  # an image is one that is this many times longer than what is left by the crop
GREY = frozenset({"1", "L", "I", "I;16", "I;16B", "I;16L"})


@dataclass(frozen=True)
class Decoded:
    """The images that could be read, and which of the samples they are."""

    images: UInt8[Tensor, "m c h w"]
    kept: Bool[Tensor, "n"]


@dataclass(frozen=True)
class _Header:
    width: int
    height: int
    grey: bool


def decode_all(
    samples: Sequence[Sample | str], size: int | None, max_unreadable: float, source: str
) -> tuple[Decoded, list[str]]:
    """Decode all samples to one tensor, and return notes for the user with it.

    Grey if all are, else RGB. samples: a text stands for one that could not be had, and says why.
    size: short side to `size`, then centre crop; None where all have one size already.
    Unreadable images up to a share of `max_unreadable` are left out and counted; more are all
    named in one SoftaugError.
    """
    with decoders() as pool:
        headers = list(pool.map(_header, samples))
        faults = {i: h for i, h in enumerate(headers) if isinstance(h, str)}
        good = [h for h in headers if isinstance(h, _Header)]
        if not good:
            raise SoftaugError(unreadable_summary(source, list(faults.values())))
        if size is None:
            sizes = Counter((h.width, h.height) for h in good)
            if len(sizes) > 1:
                shown = ", ".join(f"{w} x {h} ({n})" for (w, h), n in sizes.most_common(4))
                side = min(min(s) for s in sizes)
                raise UsageError(
                    f"{source}: images of {len(sizes)} sizes ({shown}, ...); "
                    f"--size {side} makes them one (short side to {side}, centre crop)"
                )
            target = next(iter(sizes))
        else:
            target = (size, size)
        channels = 1 if all(h.grey for h in good) else 3
        notes = check_memory(source, len(samples), channels, *target)
        images = torch.zeros(len(samples), channels, target[1], target[0], dtype=torch.uint8)

        def fill(i: int) -> str | None:
            pixels = decode(samples[i], channels, target)
            if isinstance(pixels, str):
                return pixels
            images[i] = pixels
            return None

        readable = [i for i in range(len(samples)) if i not in faults]
        for i, fault in zip(readable, pool.map(fill, readable), strict=True):
            if fault is not None:
                faults[i] = fault
    kept = torch.ones(len(samples), dtype=torch.bool)
    if faults:
        named = [faults[i] for i in sorted(faults)]
        if len(named) > max_unreadable * len(samples):
            # Rounded up, so that it is enough.
            enough = math.ceil(1000 * len(named) / len(samples)) / 1000
            raise SoftaugError(
                f"{unreadable_summary(source, named)}; "
                f"--max-unreadable {enough:g} would leave them out"
            )
        notes.append(f"{len(named)} unreadable images were left out, such as {named[0]}")
        kept[sorted(faults)] = False
        images = images[kept]
    return Decoded(images, kept), notes


def read_image(path: Path, channels: int, height: int, width: int) -> UInt8[Tensor, "c h w"]:
    """One image file as a model takes it: scaled to cover height x width, then centre crop.

    Raises SoftaugError naming the file where it cannot be read.
    """
    pixels = decode(Sample(str(path), path, 0), channels, (width, height))
    if isinstance(pixels, str):
        raise SoftaugError(pixels)
    return pixels


def decoders() -> ThreadPoolExecutor:
    """Threads to decode in; Pillow lets go of Python's lock meanwhile."""
    return ThreadPoolExecutor(min(8, os.cpu_count() or 1), "decode")


def _header(sample: Sample | str) -> _Header | str:
    """Size and kind of an image, upright, or what is wrong with it."""
    if isinstance(sample, str):
        return sample
    try:
        with Image.open(_file(sample), formats=FORMATS) as image:
            _refuse_bomb(image)
            width, height = image.size[::-1] if _on_its_side(image) else image.size
            if image.mode == "F":
                return f"{sample.name}: floating-point pixels; convert it to 8 or 16 bits"
            return _Header(width, height, image.mode in GREY)
    except Exception as error:
        return _unreadable(sample, error)


def decode(
    sample: Sample | str, channels: int, target: tuple[int, int]
) -> UInt8[Tensor, "c h w"] | str:
    """Decode to [C,H,W] of the target (width, height), or say what is wrong."""
    if isinstance(sample, str):
        return sample
    try:
        with Image.open(_file(sample), formats=FORMATS) as opened:
            _refuse_bomb(opened)
            _decode_smaller(opened, target)
            image = _flat(ImageOps.exif_transpose(opened), channels)
        array = np.array(image, dtype=np.uint8).reshape(image.height, image.width, channels)
    except Exception as error:
        return _unreadable(sample, error)
    width, height = target
    pixels = torch.from_numpy(array).permute(2, 0, 1)[None]
    return fit(_middle(pixels, height, width), height, width)[0]


def _middle(images: UInt8[Tensor, "1 c h w"], height: int, width: int) -> UInt8[Tensor, "1 c y x"]:
    """Of a ribbon the middle: scaling the ends too, for the crop to drop, would take gigabytes."""
    tall, wide = images.shape[-2:]
    tallest = max(1, RIBBON * height * wide // width)
    widest = max(1, RIBBON * width * tall // height)
    return centre_crop(images, min(tall, tallest), min(wide, widest))


def _decode_smaller(image: Image.Image, target: tuple[int, int]) -> None:
    """Have a JPEG decoded at a half, a quarter or an eighth, if that is twice the target or more.

    Antialiased scaling of what is twice as large differs little from that of the whole, and photos
    are often ten times as large.
    """
    goals = target[::-1] if _on_its_side(image) else target
    factor = 2 * max(goal / side for goal, side in zip(goals, image.size, strict=True))
    image.draft(None, (math.ceil(factor * image.width), math.ceil(factor * image.height)))


def _on_its_side(image: Image.Image) -> bool:
    orientation: int = image.getexif().get(0x0112, 1)
    return orientation >= 5


def _flat(image: Image.Image, channels: int) -> Image.Image:
    """8 bits, grey or RGB; what is transparent shows white, the colour of a page."""
    if image.mode.startswith("I"):
        # 16-bit grey: 65535 is white.
        values = np.clip(np.asarray(image, dtype=np.float64) / 257, 0, 255).round()
        image = Image.fromarray(values.astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        page = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(page, image)
    return image.convert("L" if channels == 1 else "RGB")


def _file(sample: Sample) -> Path | io.BytesIO:
    content = sample.content
    if isinstance(content, Slice):
        with content.path.open("rb") as file:
            file.seek(content.offset)
            content = file.read(content.length)
    return io.BytesIO(content) if isinstance(content, bytes) else content


def _refuse_bomb(image: Image.Image) -> None:
    """Raise where Pillow only warns: a small file may ask for more memory than there is."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise Image.DecompressionBombError


def _unreadable(sample: Sample, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{sample.name}: no such file"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return (
            f"{sample.name}: more than {Image.MAX_IMAGE_PIXELS:,} pixels, too large to be decoded"
        )
    if isinstance(error, UnidentifiedImageError):
        return f"{sample.name}: no image, or of an unknown format"
    return f"{sample.name}: unreadable ({' '.join(str(error).split()) or type(error).__name__})"


def unreadable_summary(source: str, faults: list[str]) -> str:
    count = "1 unreadable image" if len(faults) == 1 else f"{len(faults)} unreadable images"
    more = f"; and {len(faults) - 10} more" if len(faults) > 10 else ""
    return f"{source}: {count}: {'; '.join(faults[:10])}{more}"


def check_memory(source: str, n: int, channels: int, width: int, height: int) -> list[str]:
    """A note where the decoded images take over half of the free memory; an error for all of it."""
    free = _available_memory()
    if free is None:
        return []
    needed = n * channels * width * height
    text = (
        f"{source}: {n:,} images of {width} x {height} px take {needed / 2**30:.1f} GiB decoded, "
        f"{free / 2**30:.1f} GiB are free; a smaller --size would help"
    )
    if needed > free:
        raise SoftaugError(text)
    return [text] if needed > free / 2 else []


def _available_memory() -> int | None:
    """Bytes that can be had without swapping, None where the system does not say."""
    # Free pages alone would leave out those that only cache files, most of them after reading data.
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    kilobytes = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return next((1024 * int(number) for number in kilobytes), None)
