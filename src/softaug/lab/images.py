"""Image files to uint8 pixels: grey or RGB, upright, without alpha, of one size."""

import io
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from softaug.lab.errors import SoftaugError, UsageError

GREY = frozenset({"1", "L", "I", "I;16", "I;16B", "I;16L"})


@dataclass(frozen=True)
class Sample:
    """One labelled image before it is decoded; the name is for messages."""

    name: str
    content: Path | bytes
    label: int


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
    samples: Sequence[Sample], size: int | None, skip_unreadable: bool, source: str
) -> tuple[Decoded, list[str]]:
    """Decode all samples to one tensor, and return notes for the user with it.

    Grey if all are, else RGB. size: short side to `size`, then centre crop; None where all have
    one size already. Unreadable images are all named in one SoftaugError, or left out and counted.
    """
    workers = min(8, os.cpu_count() or 1)
    with _bombs_refused(), ThreadPoolExecutor(workers) as pool:
        headers = list(pool.map(_header, samples))
        faults = {i: h for i, h in enumerate(headers) if isinstance(h, str)}
        good = [h for h in headers if isinstance(h, _Header)]
        if not good:
            raise SoftaugError(_summary(source, list(faults.values())))
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
        notes = _check_memory(source, len(samples), channels, *target)
        images = torch.zeros(len(samples), channels, target[1], target[0], dtype=torch.uint8)

        def decode(i: int) -> str | None:
            pixels = _pixels(samples[i], channels, target)
            if isinstance(pixels, str):
                return pixels
            images[i] = pixels
            return None

        readable = [i for i in range(len(samples)) if i not in faults]
        for i, fault in zip(readable, pool.map(decode, readable), strict=True):
            if fault is not None:
                faults[i] = fault
    kept = torch.ones(len(samples), dtype=torch.bool)
    if faults:
        named = [faults[i] for i in sorted(faults)]
        if not skip_unreadable:
            raise SoftaugError(_summary(source, named) + "; --skip-unreadable leaves them out")
        notes.append(f"{len(named)} unreadable images were left out, such as {named[0]}")
        kept[sorted(faults)] = False
        images = images[kept]
    return Decoded(images, kept), notes


def read_image(path: Path, channels: int, height: int, width: int) -> UInt8[Tensor, "c h w"]:
    """One image file as a model takes it: scaled to cover height x width, then centre crop.

    Raises SoftaugError naming the file where it cannot be read.
    """
    with _bombs_refused():
        pixels = _pixels(Sample(str(path), path, 0), channels, (width, height))
    if isinstance(pixels, str):
        raise SoftaugError(pixels)
    return pixels


def _header(sample: Sample) -> _Header | str:
    """Size and kind of an image, upright, or what is wrong with it."""
    try:
        with Image.open(_file(sample)) as image:
            width, height = image.size
            # EXIF orientations 5 to 8 are on their side.
            if image.getexif().get(0x0112, 1) >= 5:
                width, height = height, width
            if image.mode == "F":
                return f"{sample.name}: floating-point pixels; convert it to 8 or 16 bits"
            return _Header(width, height, image.mode in GREY)
    except Exception as error:
        return _unreadable(sample, error)


def _pixels(sample: Sample, channels: int, target: tuple[int, int]) -> UInt8[Tensor, "c h w"] | str:
    """Decode to [C,H,W] of the target (width, height), or say what is wrong."""
    try:
        with Image.open(_file(sample)) as opened:
            opened.load()
            image = _flat(ImageOps.exif_transpose(opened), channels)
        if image.size != target:
            image = ImageOps.fit(image, target, Image.Resampling.BILINEAR)
        array = np.array(image, dtype=np.uint8)
    except Exception as error:
        return _unreadable(sample, error)
    pixels = torch.from_numpy(array)
    return pixels[None] if channels == 1 else pixels.permute(2, 0, 1)


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
    return io.BytesIO(sample.content) if isinstance(sample.content, bytes) else sample.content


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


def _summary(source: str, faults: list[str]) -> str:
    count = "1 unreadable image" if len(faults) == 1 else f"{len(faults)} unreadable images"
    more = f"; and {len(faults) - 10} more" if len(faults) > 10 else ""
    return f"{source}: {count}: {'; '.join(faults[:10])}{more}"


def _check_memory(source: str, n: int, channels: int, width: int, height: int) -> list[str]:
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


@contextmanager
def _bombs_refused() -> Iterator[None]:
    """Make Pillow's warning of a decompression bomb an error, as its error for larger ones is."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield
