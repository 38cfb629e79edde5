"""Policies in a graph of torch.compile: one step that it doesn't see into."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from softaug.kept import Kept, share_kept
from softaug.operations import Strength, choices
from softaug.perform import look_up, perform
from softaug.transforms.base import Images, Seen
from softaug.transforms.pixels import empty


def perform_traced(
    images: Images,
    seen: Seen | None,
    operation: Tensor,
    bins: Tensor,
    negative: Tensor,
    kept: Kept,
    fill: Tensor,
    strength: Strength,
) -> tuple[Tensor, Tensor]:
    """Pixels and map, as `perform` makes them; without a derivative."""
    shares = torch.tensor(_shares(kept, images.shape[1] == 3, *strength))
    share = shares[operation, bins, negative.long()].prod(dim=1).to(images.device)
    made: tuple[Tensor, Tensor] = perform_opaquely(
        images, seen, operation, bins, negative, share, fill, strength
    )
    return made


@torch.library.custom_op("softaug::perform", mutates_args=())
def perform_opaquely(
    images: Tensor,
    seen: Tensor | None,
    operation: Tensor,
    bins: Tensor,
    negative: Tensor,
    kept: Tensor,
    fill: Tensor,
    strength: Sequence[float],
) -> tuple[Tensor, Tensor]:
    """`look_up` and `perform`, in the types that such a step may have."""
    count, shear, shift, share, degrees, factor, bits = strength
    known = Strength(int(count), shear, shift, share, degrees, factor, int(bits))
    steps = look_up(operation, bins, negative, known, *images.shape[-2:])
    return perform(steps, kept, images, seen, fill)


@perform_opaquely.register_fake
def _(
    images: Tensor, _seen: object, _o: object, _b: object, _n: object, kept: Tensor, *_: object
) -> tuple[Tensor, Tensor]:
    return empty(images), kept.new_empty(len(images), 1, *images.shape[-2:])


def _shares(kept: Kept, coloured: bool, *strength: Any) -> list[list[list[float]]]:
    """What is left by all that can be drawn, for images of any size: moves lose nothing here."""
    return [
        [[share_kept(kept, *use, coloured) for use in signs] for signs in bins]
        for bins in choices(Strength(*strength), 1, 1)
    ]


# A graph holds them as they were when it was made.
torch.compiler.assume_constant_result(_shares)
