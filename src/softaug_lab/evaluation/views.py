"""Views of test images that lack a part: cut off by the frame, or hidden by a rectangle.

Where a view lacks the image follows from the image's number in the test set and a seed alone: all
models see the same, in any batches on any number of processes. n images, c channels, h w pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

import softaug
from softaug_lab.basics.seeds import hashed_uniform, keyed
from softaug_lab.evaluation.fills import Fills
from softaug_lab.metrics import KINDS, LOST_SHARES

WHOLE = -1  # in the mix
# The mix by eighths: whole, or the number of a kind. With all shares lost this makes 32 cells.
EIGHTHS = (WHOLE, 0, 1, 0, 1, WHOLE, 0, 1)
CELLS = len(EIGHTHS) * len(LOST_SHARES)


@dataclass(frozen=True, eq=False)
class Views:
    """Where each of n images lacks a part, and with what it is filled.

    offset: (y, x), so that pixel (y, x) of the view shows pixel (y + offset[0], x + offset[1]) of
    the image. rectangle: top, left, bottom, right, ends exclusive; it shows the fill, as does all
    that lies outside of the image. fill: number of each image's fill in its group.
    """

    offset: Int64[Tensor, "n 2"]
    rectangle: Int64[Tensor, "n 4"]
    fill: UInt8[Tensor, "n"]


def left_sides(kind: str, share: float, height: int, width: int) -> tuple[int, int]:
    """Height and width in whole pixels: of what a cut leaves, of what a rectangle hides.

    Both have the image's aspect; a cut leaves a pixel at least. share: of the image's area that is
    lost, in [0, 1); ValueError for another one.
    """
    if not 0 <= share < 1:
        raise ValueError(f"share must be in [0, 1), got {share}")
    if kind == "hidden":
        return round(height * share**0.5), round(width * share**0.5)
    left = (1 - share) ** 0.5
    return max(1, round(height * left)), max(1, round(width * left))


def actual_share(kind: str, share: float, height: int, width: int) -> float:
    """Share of the area that is really lost, as whole pixels make a difference; in [0, 1]."""
    tall, wide = left_sides(kind, share, height, width)
    area = tall * wide / (height * width)
    return area if kind == "hidden" else 1 - area


def level_views(
    kind: str, share: float, fills: Sequence[str], shape: torch.Size, seed: int, group: str
) -> Views:
    """Draw the views of one kind and share for test images of this shape, [n,c,h,w].

    The fills take turns in a random order of the images, another one for each kind, share and
    group: their numbers of images differ by 1 at most. The places are the same for all groups.
    """
    n, _, height, width = shape
    places = _places(kind, share, n, height, width, ("level", seed))
    turn = _turns(n, "fills", seed, kind, share, group)
    return Views(*places, (turn % len(fills)).to(torch.uint8))


def mixed_views(fills: Sequence[str], shape: torch.Size, seed: int) -> Views:
    """Draw the mix: of 32 images 8 are whole and 3 of each kind and share; fills take turns."""
    n, _, height, width = shape
    turn = _turns(n, "mix", seed)
    cell, place = turn % CELLS, turn % len(EIGHTHS)
    kind = torch.tensor(EIGHTHS)[place]
    share = (cell // len(EIGHTHS) + place) % len(LOST_SHARES)
    offset, rectangle = (torch.zeros(n, size, dtype=torch.long) for size in (2, 4))
    for i, name in enumerate(KINDS):
        for j, lost in enumerate(LOST_SHARES):
            chosen = ((kind == i) & (share == j))[:, None]
            moved, hidden = _places(name, lost, n, height, width, ("mix", seed))
            offset = torch.where(chosen, moved, offset)
            rectangle = torch.where(chosen, hidden, rectangle)
    # One further in each round, so that every cell gets every fill.
    return Views(offset, rectangle, ((turn + turn // CELLS) % len(fills)).to(torch.uint8))


def show(
    images: UInt8[Tensor, "n c h w"],
    views: Views,
    rows: slice | Tensor,
    fills: Fills,
    names: Sequence[str],
    *key: object,
) -> UInt8[Tensor, "rows c h w"]:
    """Make the views of some rows of all n test images.

    names: of the fills' group. key: what the fills' random numbers depend on, beside the image.
    """
    numbers = torch.arange(len(images))[rows]
    ty, tx = views.offset[rows].T
    edges = dict(zip(("top", "left", "bottom", "right"), views.rectangle[rows].T, strict=True))
    moved, seen = softaug.UniformCrop().apply(images[rows], None, {"tx": tx, "ty": ty})
    _, seen = softaug.Erase(fill=0).apply(moved, seen, edges)
    painted = fills.paint(names, views.fill[rows], numbers, *key)
    return torch.where(seen == 0, painted.to(images.device), moved)


def example_views(
    fills: Fills, number: int, share: float, seed: int = 0
) -> Iterator[tuple[str, str, UInt8[Tensor, "c h w"]]]:
    """Show one test image with a share lost, by kind and fill: kind, fill and the view [c,h,w]."""
    images, rows = fills.images, slice(number, number + 1)
    for kind in KINDS:
        for group, names in fills.groups.items():
            views = level_views(kind, share, names, images.shape, seed, group)
            for i, name in enumerate(names):
                views.fill[number] = i
                yield kind, name, show(images, views, rows, fills, names, kind, share, seed)[0]


def _places(
    kind: str, share: float, n: int, height: int, width: int, key: tuple[object, ...]
) -> tuple[Int64[Tensor, "n 2"], Int64[Tensor, "n 4"]]:
    """Draw where images lack a part: offset and rectangle, as in Views."""
    tall, wide = left_sides(kind, share, height, width)
    drawn = hashed_uniform(torch.arange(n), 2, "places", kind, share, *key)
    if kind == "hidden":
        top, left = (drawn * torch.tensor([height - tall + 1, width - wide + 1])).long().T
        edges = torch.stack([top, left, top + tall, left + wide], dim=1)
        return torch.zeros(n, 2, dtype=torch.long), edges
    sign = 1 - 2 * (drawn < 0.5).long()
    return sign * torch.tensor([height - tall, width - wide]), torch.zeros(n, 4, dtype=torch.long)


def _turns(n: int, *key: object) -> Int64[Tensor, "n"]:
    """A random order of the images: the turn of each, all of 0 to n - 1."""
    return torch.randperm(n, generator=keyed(*key))
