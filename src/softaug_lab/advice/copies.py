"""Images that occur more than once: exact copies by their bytes, near copies by their thumbnails.

n, m images, d values of a thumbnail.
"""

from collections import defaultdict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from softaug_lab.data import Glance

# Photos that are saved again as JPEG (quality 30 to 70) at the whole, half and quarter size have a
# correlation of 0.971 to 0.9999 with themselves, and of at most 0.89 with others (ants and bees).
SAME = 0.96
# Pictures of one kind, such as trousers before a white wall, are all alike; a copy is far closer
# than they are: its distance is at most this share of that of the eighth nearest image.
CLOSER, NEIGHBOURS = 0.1, 8
FLAT = 4.0  # levels of 255: images that vary less are too plain to tell copies by
ROWS = 512  # images that are compared at once


def shared(
    train: Sequence[Glance], test: Sequence[Glance]
) -> tuple[dict[int, int], dict[int, int]]:
    """Find the test images that are exact copies of training images, and those that look alike.

    Returns places in `train` by places in `test` for both. What looks alike may be saved again or
    resized, or only alike, as drawings are; mirrored and cropped copies are not found.
    """
    by_key = {one.key: i for i, one in enumerate(train)}
    exact = {i: by_key[one.key] for i, one in enumerate(test) if one.key in by_key}
    return exact, {i: j for i, j in _near(train, test).items() if i not in exact}


def surplus(images: Sequence[Glance]) -> int:
    """Count the images that are exact copies of an earlier one."""
    return len(images) - len({one.key for one in images})


def contradictory(images: Sequence[Glance]) -> list[tuple[Glance, Glance]]:
    """Pair exact copies that have different labels, one pair for each such image."""
    copies: dict[bytes, list[Glance]] = defaultdict(list)
    for one in images:
        copies[one.key].append(one)
    pairs = []
    for first, *others in copies.values():
        other = next((one for one in others if one.label != first.label), None)
        if other is not None:
            pairs.append((first, other))
    return pairs


def _near(train: Sequence[Glance], test: Sequence[Glance]) -> dict[int, int]:
    """Find near copies by the correlation of thumbnails, among the nearest by their 8 x 8 greys."""
    if not train or not test:
        return {}
    known, asked = (torch.stack([one.thumbnail for one in part]) for part in (train, test))
    grey_known, count = _standard(_grey(known)), min(NEIGHBOURS, len(train))
    found = {}
    for start in range(0, len(asked), ROWS):
        block = asked[start : start + ROWS]
        nearest = (_standard(_grey(block)) @ grey_known.T).topk(count, dim=1).indices
        ours, theirs = _standard(block.float()), _standard(known[nearest].flatten(0, 1).float())
        likeness = torch.einsum("nd,nmd->nm", ours, theirs.unflatten(0, nearest.shape))
        best, place = likeness.max(dim=1)
        close = 1 - best <= CLOSER * (1 - likeness.min(dim=1).values)
        for i in ((best >= SAME) & close).nonzero()[:, 0].tolist():
            found[start + i] = int(nearest[i, place[i]])
    return found


def _grey(thumbnails: Tensor) -> Float[Tensor, "n 1 8 8"]:
    return F.avg_pool2d(thumbnails.float().mean(dim=1, keepdim=True), thumbnails.shape[-1] // 8)


def _standard(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
    """Make the dot product of two images their correlation; flat images become 0."""
    rows = images.flatten(1)
    rows = rows - rows.mean(dim=1, keepdim=True)
    rows = rows * (rows.std(dim=1, keepdim=True) > FLAT)
    return F.normalize(rows, dim=1)
