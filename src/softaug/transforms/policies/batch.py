"""Operations performed on a batch, to each sample its own."""

import math
from collections.abc import Sequence
from itertools import chain

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from softaug.transforms.base import Images, Seen
from softaug.transforms.pixels import in_layout_of, ones
from softaug.transforms.policies.colours import recolour
from softaug.transforms.policies.operations import GEOMETRIC, Strength, Use, choices, show, source

SMALL = 2**14  # pixel values: images above are no faster together on a CPU
MOVE = "Move"  # any of the geometric operations

Steps = Sequence[Sequence[Use]]  # for each step one use for each sample


def look_up(
    operation: Int[Tensor, "n steps"],
    bins: Int[Tensor, "n steps"],
    negative: Bool[Tensor, "n steps"],
    strength: Strength,
    height: int,
    width: int,
) -> Steps:
    """What is done to each sample, and how much."""
    of = choices(strength, height, width)
    drawn = (column.tolist() for column in (operation.T, bins.T, negative.T))
    return [
        [of[number][at][sign] for number, at, sign in zip(*step, strict=True)]
        for step in zip(*drawn, strict=True)
    ]


def perform(
    steps: Steps, kept: Float[Tensor, "n"], images: Images, seen: Seen | None, fill: Tensor
) -> tuple[Images, Seen]:
    """Pixels and map after all steps, the map times what is kept of each sample.

    fill: [1,C,1,1] or [1,1,1,1], in the dtype of `at_least_single(images)`. All samples at once; on
    a CPU large images one by one, each in its cache.
    """
    images = images.as_subclass(Tensor)  # of which `contiguous` would be another object
    share = kept[:, None, None, None]
    if images.device.type != "cpu" or math.prod(images.shape[1:]) <= SMALL:
        pixels, after = _after(steps, images, seen, fill)
        pixels = images.clone() if pixels is images else pixels.to(images.dtype)
        return in_layout_of(images, pixels), (ones(images) if after is None else after) * share
    out = in_layout_of(images, images.new_empty(images.shape))
    out_seen = kept.new_empty(len(images), 1, *images.shape[-2:])
    for i in range(len(images)):
        one, its_steps = slice(i, i + 1), [uses[i : i + 1] for uses in steps]
        before = None if seen is None else seen[one]
        out[one], after = _after(its_steps, images[one], before, fill)
        out_seen[one] = share[one] if after is None else after * share[one]
    return out, out_seen


def at_least_single(images: Images) -> Images:
    """Half precision is computed in float32, as by the other transforms."""
    return images.float() if images.dtype in (torch.float16, torch.bfloat16) else images


def _after(
    steps: Steps, images: Images, seen: Seen | None, fill: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Pixels and map after all steps; they may be what was given."""
    pixels = at_least_single(images).contiguous()
    for uses in steps if len(images) else ():
        pixels, seen = _step(uses, pixels, seen, fill)
    return pixels, seen


def _step(
    uses: Sequence[Use], pixels: Images, seen: Seen | None, fill: Tensor
) -> tuple[Tensor, Tensor | None]:
    """All samples of one operation at once, and all whose pixels move; they are sorted for that."""
    groups: dict[str, list[int]] = {}
    for sample, use in enumerate(uses):
        groups.setdefault(MOVE if use.operation in GEOMETRIC else use.operation, []).append(sample)
    if len(groups) == 1:
        (group,) = groups
        if group == MOVE:
            return _move(uses, pixels, ones(pixels) if seen is None else seen, fill)
        return _recoloured(group, uses, pixels), seen
    order = torch.tensor([*chain(*groups.values())])
    there, back = order.to(pixels.device), order.argsort().to(pixels.device)
    parts = pixels.index_select(0, there).split([len(group) for group in groups.values()])
    done = []
    for (group, samples), some in zip(groups.items(), parts, strict=True):
        its_uses = [uses[sample] for sample in samples]
        if group != MOVE:
            done.append(_recoloured(group, its_uses, some))
            continue
        index = torch.tensor(samples, device=pixels.device)
        seen = ones(pixels) if seen is None else seen
        moved, moved_seen = _move(its_uses, some, seen.index_select(0, index), fill)
        done.append(moved)
        seen = seen.index_copy(0, index, moved_seen)
    return torch.cat(done).index_select(0, back), seen


def _recoloured(operation: str, uses: Sequence[Use], pixels: Images) -> Images:
    if operation == "Identity":
        return pixels
    return recolour(operation, [use.magnitude for use in uses], pixels)


def _move(uses: Sequence[Use], pixels: Images, seen: Seen, fill: Tensor) -> tuple[Tensor, Tensor]:
    sources = [source(use.operation, use.magnitude, *pixels.shape[-2:]) for use in uses]
    index = torch.stack(sources).to(pixels.device).long()
    return show(pixels, index, fill), _moved(seen, index)


def _moved(seen: Seen, index: Int[Tensor, "n h w"]) -> Seen:
    """The map under pixels that move; no sample is seen better than before.

    The nearest neighbour can show a pixel twice. Where that adds to a map, it is scaled back.
    """
    moved = show(seen, index, seen.new_zeros(1, 1, 1, 1))
    before, after = (of.sum(dim=(1, 2, 3), keepdim=True) for of in (seen, moved))
    more = after > before
    # Where not, 0 / 0 would leave a gradient that is NaN.
    return moved * torch.where(more, before / torch.where(more, after, 1.0), 1.0)
