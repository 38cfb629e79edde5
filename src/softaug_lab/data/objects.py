"""Maps of where the object of an image is, from a mask or from boxes, in the image's final size.

Visibility is measured on the object where the map `seen` begins with such a map. h w pixels.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from softaug import as_seen
from softaug_lab.basics.errors import SoftaugError, plural
from softaug_lab.data.opening import RefusedError, open_image, reason
from softaug_lab.data.resize import fit, without_far_ends
from softaug_lab.data.sample import Boxes, Content, Object, Unreadable

FULL = 255  # a pixel that is all object
SLACK = 1.0  # pixels by which a box may exceed its image: coordinates are rounded
EXPECTED = "expected left, top, width and height in pixels of the image as it is stored upright"


def object_map(
    found: Object, size: tuple[int, int], height: int, width: int
) -> UInt8[Tensor, "1 h w"]:
    """Make the map of an object, scaled and cropped as its image is; 255 where all is object.

    size: width and height of the upright image before it is scaled. Raises RefusedError that names
    a mask of another size than the image, or a box outside of it.
    """
    if isinstance(found, Unreadable):
        raise RefusedError(found.why)
    mask = _drawn(found, size) if isinstance(found, Boxes) else _mask(found, size)
    pixels = torch.from_numpy(mask)[None, None]
    return fit(without_far_ends(pixels, height, width), height, width)[0]


def begun(objects: UInt8[Tensor, "n 1 h w"] | None) -> Float[Tensor, "n 1 h w"] | None:
    """Return the maps `seen` that images begin with, of mean 1; None, for whole images, for None.

    An image whose map is empty counts whole.
    """
    return None if objects is None else as_seen(objects, empty="uniform")


def describe(source: str, objects: UInt8[Tensor, "n 1 h w"]) -> list[str]:
    """Return notes on how much of the training images is object, and on empty maps.

    Raises SoftaugError where all maps are empty, or all are full: then they say nothing.
    """
    parts = objects.split(500)  # a few at a time, since float32 takes four times the memory
    share = torch.cat([some.float().mean(dim=(1, 2, 3)) / FULL for some in parts])
    empty = int((share == 0).sum())
    if empty == len(share):
        raise SoftaugError(f"{source}: no image has an object; masks are nonzero on the object")
    if all(bool((some == FULL).all()) for some in parts):
        raise SoftaugError(f"{source}: all images are object; masks are 0 outside of the object")
    notes = [
        f"{source}: visibility is that of the object, which covers "
        f"{share[share > 0].median():.0%} of an image (median)"
    ]
    if empty:
        notes.append(
            f"{source}: {empty:,} of {plural(len(share), 'training image')} without an object in "
            "the square that is trained on; of these the whole image counts"
        )
    return notes


def _mask(content: Content, size: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Decode a mask: nonzero in any channel, or by its number in a palette, and not transparent."""
    name = "the mask" if isinstance(content, bytes) else f"mask {content}"
    try:
        with open_image(content) as image:
            if image.size != size:
                raise RefusedError(
                    f"is {_by(image.size)} px and the image {_by(size)}; expected the same"
                )
            pixels = np.asarray(image)
            # The last of these channels is how opaque a pixel is.
            channels = image.getbands()
    except Exception as error:
        raise RefusedError(f"{name} {reason(error)}") from error
    marked = pixels != 0
    if marked.ndim == 3:
        if channels[-1] in ("A", "a"):
            marked = marked[..., :-1] & marked[..., -1:]
        marked = np.any(marked, axis=2)
    return np.where(marked, np.uint8(FULL), np.uint8(0))


def _drawn(found: Boxes, size: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Draw boxes, united, on a mask of the image's size."""
    width, height = size
    stated = found.size
    if stated is not None and stated != size:
        raise RefusedError(
            f"{found.source} has boxes for {_by(stated)} px, and the image has {_by(size)}; scale "
            "the boxes, or take the images they were drawn on"
        )
    mask = np.zeros((height, width), np.uint8)
    for box in found.boxes:
        try:
            left, top, across, down = map(float, box)
        except (TypeError, ValueError):
            raise RefusedError(f"{found.source} has the box {box!r}; {EXPECTED}") from None
        right, bottom = left + across, top + down
        inside = min(left, top) >= -SLACK and right <= width + SLACK and bottom <= height + SLACK
        # A box within the first pixel is one in shares of the image.
        if not (inside and across > 0 and down > 0 and max(right, bottom) > 1):
            raise RefusedError(
                f"{found.source} has a box of {across:g} x {down:g} px at ({left:g}, {top:g}), and "
                f"the image has {_by(size)} px; {EXPECTED}"
            )
        x, y = min(max(0, round(left)), width - 1), min(max(0, round(top)), height - 1)
        mask[y : max(y + 1, round(bottom)), x : max(x + 1, round(right))] = FULL
    return mask


def _by(size: tuple[Any, Any]) -> str:
    return f"{size[0]} x {size[1]}"
