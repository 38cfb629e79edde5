"""Operations on a batch: each sample gets its own, samples of the same operation go together."""

import math
from collections.abc import Sequence
from itertools import chain
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from softaug.devices import to_device
from softaug.transforms.base import Images, Seen
from softaug.transforms.pixels import constants, in_layout_of, ones
from softaug.transforms.policies.colours import recolour
from softaug.transforms.policies.operations import (
    GEOMETRIC,
    Operation,
    Strength,
    gather_pixels,
    operation_table,
    source_index,
)

BATCHED_VALUES = 2**14  # larger images (in pixel values) are no faster together on a CPU
MOVE = "Move"  # the group of all geometric operations

Steps: TypeAlias = Sequence[Sequence[Operation]]  # for each step, the operation of each sample


def look_up_operations(
    operation: Int[Tensor, "n steps"],
    bins: Int[Tensor, "n steps"],
    negative: Bool[Tensor, "n steps"],
    strength: Strength,
    height: int,
    width: int,
) -> Steps:
    """Turn drawn numbers into the operations of each step and sample."""
    table = operation_table(strength, height, width)
    columns = (column.tolist() for column in (operation.T, bins.T, negative.T))
    return [
        [table[number][at][sign] for number, at, sign in zip(*step, strict=True)]
        for step in zip(*columns, strict=True)
    ]


def apply_operations(
    steps: Steps, share_kept: Float[Tensor, "n"], images: Images, seen: Seen | None, fill: Tensor
) -> tuple[Images, Seen]:
    """Images and map after all steps, with each sample's map multiplied by `share_kept`.

    fill: [1,C,1,1] or [1,1,1,1], in the dtype of `at_least_single(images)`. All samples are
    computed at once; on a CPU large images one by one, which fit its cache.
    """
    images = images.as_subclass(Tensor)  # `contiguous` of a subclass would be another object
    share = share_kept[:, None, None, None]
    if images.device.type != "cpu" or math.prod(images.shape[1:]) <= BATCHED_VALUES:
        pixels, moved = _apply_steps(steps, images, seen, fill)
        pixels = images.clone() if pixels is images else pixels.to(images.dtype)
        return in_layout_of(images, pixels), (ones(images) if moved is None else moved) * share
    out = in_layout_of(images, images.new_empty(images.shape))
    out_seen = share_kept.new_empty(len(images), 1, *images.shape[-2:])
    for i in range(len(images)):
        sample, sample_steps = slice(i, i + 1), [operations[i : i + 1] for operations in steps]
        sample_seen = None if seen is None else seen[sample]
        out[sample], moved = _apply_steps(sample_steps, images[sample], sample_seen, fill)
        out_seen[sample] = share[sample] if moved is None else moved * share[sample]
    return out, out_seen


def at_least_single(images: Images) -> Images:
    """Images in float32 where they are half precision, as the other transforms compute them."""
    return images.float() if images.dtype in (torch.float16, torch.bfloat16) else images


def _apply_steps(
    steps: Steps, images: Images, seen: Seen | None, fill: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Pixels and map after all steps; these may be the arguments themselves."""
    pixels = at_least_single(images).contiguous()
    for operations in steps if len(images) else ():
        pixels, seen = _apply_step(operations, pixels, seen, fill)
    return pixels, seen


def _apply_step(
    operations: Sequence[Operation], pixels: Images, seen: Seen | None, fill: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Sort the samples by operation, all geometric ones as one group, and apply each group once."""
    groups: dict[str, list[int]] = {}
    for sample, operation in enumerate(operations):
        group = MOVE if operation.name in GEOMETRIC else operation.name
        groups.setdefault(group, []).append(sample)
    if len(groups) == 1:
        (group,) = groups
        if group == MOVE:
            return _move(operations, pixels, ones(pixels) if seen is None else seen, fill)
        return _recolour(group, operations, pixels), seen
    there = torch.tensor([*chain(*groups.values())], device="cpu")
    back = there.argsort()
    there, back = (to_device(index, pixels.device) for index in (there, back))
    parts = pixels.index_select(0, there).split([len(samples) for samples in groups.values()])
    done = []
    for (group, samples), part in zip(groups.items(), parts, strict=True):
        group_operations = [operations[sample] for sample in samples]
        if group != MOVE:
            done.append(_recolour(group, group_operations, part))
            continue
        index = constants(samples, pixels, torch.int64)
        seen = ones(pixels) if seen is None else seen
        moved, moved_seen = _move(group_operations, part, seen.index_select(0, index), fill)
        done.append(moved)
        seen = seen.index_copy(0, index, moved_seen)
    return torch.cat(done).index_select(0, back), seen


def _recolour(name: str, operations: Sequence[Operation], pixels: Images) -> Images:
    if name == "Identity":
        return pixels
    return recolour(name, [operation.magnitude for operation in operations], pixels)


def _move(
    operations: Sequence[Operation], pixels: Images, seen: Seen, fill: Tensor
) -> tuple[Tensor, Tensor]:
    height, width = pixels.shape[-2:]
    sources = [
        source_index(name, magnitude, height, width, pixels.device)
        for name, magnitude in operations
    ]
    index = torch.stack(sources).long()
    return gather_pixels(pixels, index, fill), _move_map(seen, index)


def _move_map(seen: Seen, index: Int[Tensor, "n h w"]) -> Seen:
    """The map gathered by `index`, scaled back where its sum would grow.

    Nearest neighbours can show a pixel twice.
    """
    moved = gather_pixels(seen, index, seen.new_zeros(1, 1, 1, 1))
    sum_before, sum_after = (x.sum(dim=(1, 2, 3), keepdim=True) for x in (seen, moved))
    grows = sum_after > sum_before
    # The inner `where` avoids 0 / 0, whose gradient is NaN.
    return moved * torch.where(grows, sum_before / torch.where(grows, sum_after, 1.0), 1.0)
