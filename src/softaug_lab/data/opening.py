"""Open encoded images with Pillow: formats that run no other program, sizes that fit in memory."""

import io
from pathlib import Path
from stat import S_ISREG

from PIL import Image, UnidentifiedImageError

from softaug_lab.data.sample import Content, Slice

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
    image = Image.open(open_content(content), formats=FORMATS)
    try:
        if image.mode == "F":  # what is white in floating point, nobody knows
            raise RefusedError("floating-point pixels; convert it to 8 or 16 bits")
        refuse_size(image, 2 if image.format == "JPEG" else 1)
    except BaseException:
        image.close()
        raise
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
