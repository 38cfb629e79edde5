"""Open encoded images with Pillow: formats that run no other program, sizes that fit in memory.

Arrays in NumPy's format, such as spectrograms, are opened as images too.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from stat import S_ISREG

import numpy as np
from PIL import Image, UnidentifiedImageError

from softaug_lab.data.sample import Content, Slice

ARRAY_MAGIC = b"\x93NUMPY"  # the first bytes of a .npy file
# Pillow hands other formats, such as PostScript, to another program, whatever the file is called.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")


class RefusedError(Exception):
    """An image, or what belongs to it, that cannot be used; the text says why."""


def open_image(content: Content) -> Image.Image:
    """Open an image without decoding it, to be closed by `with`.

    Raises RefusedError or what Pillow raises, also for more pixels than fit in memory, where Pillow
    only warns: a small file may decode to any number of pixels. A JPEG may have twice as many, as
    the photos of some phones have: it is decoded smaller.
    """
    opened = open_content(content)
    if _is_array(opened):
        return _array_image(opened)
    image = Image.open(opened, formats=FORMATS)
    try:
        if image.mode == "F":  # what is white in floating point, nobody knows
            raise RefusedError("floating-point pixels; convert it to 8 or 16 bits")
        refuse_size(image, 2 if image.format in ("JPEG", "MPO") else 1)
    except BaseException:
        image.close()
        raise
    return image


def are_arrays(names: Sequence[str]) -> bool:
    """Whether images of these names are all arrays, such as spectrograms, and there are any."""
    return bool(names) and all(name.lower().endswith(".npy") for name in names)


def _is_array(opened: Path | io.BytesIO) -> bool:
    if isinstance(opened, Path):  # by its name, so that no image is opened twice
        return opened.suffix.lower() == ".npy"
    return opened.getbuffer()[: len(ARRAY_MAGIC)] == ARRAY_MAGIC


def _array_image(opened: Path | io.BytesIO) -> Image.Image:
    """Make an image of a NumPy array [H,W], [1,H,W] or [3,H,W]: 8 bits, or floats in [0, 1].

    Raises RefusedError for other arrays. Objects in a file are never unpickled.
    """
    try:
        with opened.open("rb") if isinstance(opened, Path) else opened as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    except ValueError as error:
        raise RefusedError(f"no array of numbers in NumPy's format ({error})") from error
    if array.ndim == 3 and len(array) in (1, 3):
        array = array[0] if len(array) == 1 else np.moveaxis(array, 0, -1)
    elif array.ndim != 2:
        shape = list(array.shape)
        raise RefusedError(f"an array must be [H,W], [1,H,W] or [3,H,W], this one is {shape}")
    if array.size == 0:
        raise RefusedError("an array without pixels")
    if np.issubdtype(array.dtype, np.floating):
        if not ((array >= 0) & (array <= 1)).all():  # not a number is neither
            least, largest = array.min(), array.max()
            raise RefusedError(
                f"floating-point pixels must be in [0, 1], got {least:g} to {largest:g}; scale all "
                "arrays alike"
            )
        array = (array * 255).round().astype(np.uint8)
    if array.dtype != np.uint8:
        kind = array.dtype
        raise RefusedError(f"an array must be uint8, or floats in [0, 1], this one is {kind}")
    image = Image.fromarray(np.ascontiguousarray(array))
    refuse_size(image, 1)
    return image


def open_content(content: Content) -> Path | io.BytesIO:
    """Return what Pillow opens: a path, or the bytes of the encoded image."""
    if isinstance(content, Slice):
        with content.path.open("rb") as file:
            file.seek(content.offset)
            content = file.read(content.length)
    if isinstance(content, bytes):
        return io.BytesIO(content)
    if not S_ISREG(content.stat().st_mode):
        raise OSError("neither a file nor a link to one")  # a FIFO would be waited for for ever
    return content


def refuse_size(image: Image.Image, times: int) -> None:
    """Raise Pillow's error for an image of more than `times` the pixels that it allows."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > times * limit:
        raise Image.DecompressionBombError


def reason(error: Exception) -> str:
    """Word an error of Pillow or the file system."""
    if isinstance(error, RefusedError):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"more than {Image.MAX_IMAGE_PIXELS:,} pixels, too large to be decoded"
    if isinstance(error, UnidentifiedImageError):
        return "no image, or of an unknown format"
    return f"unreadable ({' '.join(str(error).split()) or type(error).__name__})"
