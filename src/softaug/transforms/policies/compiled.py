"""Policies in a graph of torch.compile: one step that it doesn't see into."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, library

from softaug.transforms.base import Drawn, Images, Seen
from softaug.transforms.pixels import empty
from softaug.transforms.policies import RandAugment, TrivialAugment
from softaug.transforms.policies.batch import look_up, perform
from softaug.transforms.policies.confidences import share_kept
from softaug.transforms.policies.operations import Strength, check_range, choices

Policy: TypeAlias = RandAugment | TrivialAugment
Pair: TypeAlias = tuple[Tensor, Tensor]

# Before, torch.compile can't run our Python while it makes a graph.
TRACEABLE = torch.__version__ >= "2.13"
SCHEMA = (
    "(Tensor images, Tensor? seen, Tensor operation, Tensor bins, Tensor negative, Tensor kept, "
    "Tensor fill, float[] strength) -> (Tensor, Tensor)"
)


def perform_traced(
    policy: Policy,
    images: Images,
    seen: Seen | None,
    operation: Tensor,
    bins: Tensor,
    negative: Tensor,
    fill: Tensor,
) -> Pair:
    """Pixels and map, as `perform` makes them; without a derivative."""
    coloured = True if images.shape[1] == 3 else False  # noqa: SIM210  (a constant of the graph)
    shares = torch.tensor(_shares(policy, coloured), dtype=torch.float64)
    share = shares[operation, bins, negative.long()].prod(dim=1).float().to(images.device)
    made: Pair = perform_opaquely(
        images, seen, operation, bins, negative, share, fill, _strength(policy)
    )
    return made


# Read from the signature the schema would be refused by torch 2.6.
@library.custom_op("softaug::perform", mutates_args=(), schema=SCHEMA)
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
    check_range(images)
    count, shear, shift, share, degrees, factor, bits = strength
    known = Strength(int(count), shear, shift, share, degrees, factor, int(bits))
    steps = look_up(operation, bins, negative, known, *images.shape[-2:])
    pixels, after = perform(steps, kept, images, seen, fill)
    return pixels, after.contiguous()


@perform_opaquely.register_fake
def _(
    images: Tensor, _seen: object, _o: object, _b: object, _n: object, kept: Tensor, *_: object
) -> tuple[Tensor, Tensor]:
    return empty(images), kept.new_empty(len(images), 1, *images.shape[-2:])


def _shares(policy: Policy, coloured: bool) -> list[list[list[float]]]:
    """What is left by all that can be drawn, for images of any size: moves lose nothing here."""
    return [
        [
            [share_kept(policy.kept, *use, coloured) if at in policy.bins else 1.0 for use in signs]
            for at, signs in enumerate(bins)
        ]
        for bins in choices(policy.strength, 1, 1)
    ]


def _strength(policy: Policy) -> list[float]:
    return [float(number) for number in policy.strength]


def _apply(policy: Policy, images: Images, seen: Seen | None, drawn: Drawn) -> Pair:
    return policy.apply(images, seen, drawn)


# As it is without a graph, which breaks here; with a derivative.
apply_outside: Callable[[Policy, Images, Seen | None, Drawn], Pair] = torch.compiler.disable(_apply)

# They run as Python while a graph is made, anew for each policy, and it holds what they gave.
torch.compiler.assume_constant_result(_shares)
torch.compiler.assume_constant_result(_strength)
