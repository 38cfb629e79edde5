"""Read image files for serve.py as in training; a broken file is a line, and the others go on.

Needs numpy and pillow.
"""

import re
import sys
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageOps

# What would steer a terminal: control characters, changes of the writing direction, no text.
STEERING = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def inert(text: object) -> str:
    """Return the text on one line, with escapes (`\\x1b`) for what would steer a terminal."""
    return STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def centre(image: Image.Image, width: int, height: int) -> Image.Image:
    """Crop an image to its centre."""
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def from_array(file: str) -> Image.Image:
    """Read an array [H,W], [1,H,W] or [3,H,W] of NumPy as an image."""
    array = np.load(file, allow_pickle=False)
    array = array[None] if array.ndim == 2 else array
    if array.dtype.kind == "f" and ((array >= 0) & (array <= 1)).all():
        array = (array * 255).round().astype(np.uint8)
    if array.dtype != np.uint8 or array.ndim != 3 or len(array) not in (1, 3):
        kinds = "[H,W], [1,H,W] or [3,H,W] of uint8, or of floats in [0, 1]"
        raise ValueError(f"an array must be {kinds}, got {list(array.shape)} of {array.dtype}")
    return Image.fromarray(array[0] if len(array) == 1 else np.moveaxis(array, 0, -1))


def read(file: str, w: int, h: int, mode: str) -> Image.Image:
    """Read an image as in training: upright, of 8 bits, with white where it is transparent."""
    is_array = file.lower().endswith(".npy")
    image = from_array(file) if is_array else ImageOps.exif_transpose(Image.open(file))
    if image.mode == "F":  # what is white in floating point, nobody knows
        raise ValueError("floating-point pixels; convert it to 8 or 16 bits")
    # The ends of a very long image, which the centre crop drops, would take gigabytes.
    longest = max(1, 100 * w * image.height // h), max(1, 100 * h * image.width // w)
    image = centre(image, *map(min, image.size, longest))
    if image.mode.startswith("I"):  # 16 bits, of which 65535 is white
        image = image.convert("I").point([(level + 128) // 257 for level in range(1 << 16)], "L")
    elif image.mode[-1] in "Aa" or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def cover(image: Image.Image, w: int, h: int) -> Image.Image:
    """Scale an image to cover w x h pixels, and crop it to its centre."""
    size = max(w, h * image.width // image.height), max(h, w * image.height // image.width)
    return centre(image.resize(size, Image.Resampling.BILINEAR), w, h)


def classify_files(
    classify: Callable[[Image.Image], tuple[str, float]], w: int, h: int, mode: str
) -> None:
    """Print file, class and confidence of each image file that the command line names."""
    unreadable = 0
    for file in sys.argv[1:]:
        try:
            label, confidence = classify(read(file, w, h, mode))
        except Exception as error:  # Pillow raises errors of many types
            why = inert(error) or type(error).__name__
            print(f"{inert(file)}: unreadable ({why})", file=sys.stderr)
            unreadable += 1
        else:
            print(inert(file), inert(label), f"{confidence:.4f}", sep="\t")
    if unreadable:
        sys.exit(f"{unreadable} of {len(sys.argv) - 1} images unreadable")
