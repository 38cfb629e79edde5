"""Policies under torch.compile: one custom operator, which the compiler does not trace into."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor, library

from softaug.devices import to_device
from softaug.transforms.base import Drawn, Images, Seen
from softaug.transforms.pixels import empty
from softaug.transforms.policies.batch import apply_operations, look_up_operations
from softaug.transforms.policies.confidences import ShareKept, share_kept
from softaug.transforms.policies.operations import Strength, check_range, operation_table

Pair: TypeAlias = tuple[Tensor, Tensor]

# Earlier versions of torch.compile cannot run our Python while they make a graph.
TRACEABLE = torch.__version__ >= "2.13"
SCHEMA = (
    "(Tensor images, Tensor? seen, Tensor operation, Tensor bins, Tensor negative, "
    "Tensor share_kept, Tensor fill, float[] strength) -> (Tensor, Tensor)"
)


@runtime_checkable  # for checks of annotations at run time
class Policy(Protocol):
    """The part of RandAugment and TrivialAugment that a graph needs."""

    @property
    def kept(self) -> ShareKept: ...
    @property
    def bins(self) -> range: ...
    @property
    def strength(self) -> Strength: ...
    def apply(self, images: Images, seen: Seen | None, drawn: Drawn) -> Pair: ...


def apply_in_graph(
    policy: Policy,
    images: Images,
    seen: Seen | None,
    operation: Tensor,
    bins: Tensor,
    negative: Tensor,
    fill: Tensor,
) -> Pair:
    """Images and map as from `apply_operations`, within a graph and without derivatives."""
    coloured = True if images.shape[1] == 3 else False  # noqa: SIM210  (a constant of the graph)
    shares = torch.tensor(_shares(policy, coloured), dtype=torch.float64, device="cpu")
    share = to_device(shares[operation, bins, negative.long()].prod(dim=1).float(), images.device)
    made: Pair = policy_operator(
        images, seen, operation, bins, negative, share, fill, _strength(policy)
    )
    return made


# The schema is written out because torch 2.6 cannot infer it from this signature.
@library.custom_op("softaug::apply_policy", mutates_args=(), schema=SCHEMA)
def policy_operator(
    images: Tensor,
    seen: Tensor | None,
    operation: Tensor,
    bins: Tensor,
    negative: Tensor,
    share_kept: Tensor,
    fill: Tensor,
    strength: Sequence[float],
) -> tuple[Tensor, Tensor]:
    """`look_up_operations` and `apply_operations`, with the argument types an operator may have."""
    check_range(images)
    count, shear, shift, shift_share, degrees, factor, bits = strength
    limits = Strength(int(count), shear, shift, shift_share, degrees, factor, int(bits))
    steps = look_up_operations(operation, bins, negative, limits, *images.shape[-2:])
    pixels, moved = apply_operations(steps, share_kept, images, seen, fill)
    return pixels, moved.contiguous()


@policy_operator.register_fake
def _(
    images: Tensor, _seen: object, _o: object, _b: object, _n: object, share: Tensor, *_: object
) -> tuple[Tensor, Tensor]:
    return empty(images), share.new_empty(len(images), 1, *images.shape[-2:])


def _shares(policy: Policy, coloured: bool) -> list[list[list[float]]]:
    """Share kept by each operation that can be drawn, [operation][bin][negative].

    It does not depend on the size of the images: moves keep all here.
    """
    return [
        [
            [
                share_kept(policy.kept, *operation, coloured) if at in policy.bins else 1.0
                for operation in signs
            ]
            for at, signs in enumerate(bins)
        ]
        for bins in operation_table(policy.strength, 1, 1)
    ]


def _strength(policy: Policy) -> list[float]:
    return [float(number) for number in policy.strength]


def _apply(policy: Policy, images: Images, seen: Seen | None, drawn: Drawn) -> Pair:
    return policy.apply(images, seen, drawn)


# Breaks the graph and runs `policy.apply` outside of it, where derivatives work.
apply_outside_graph: Callable[[Policy, Images, Seen | None, Drawn], Pair] = torch.compiler.disable(
    _apply
)

# These run as Python while a graph is made, once for each policy; the graph holds their results.
torch.compiler.assume_constant_result(_shares)
torch.compiler.assume_constant_result(_strength)
