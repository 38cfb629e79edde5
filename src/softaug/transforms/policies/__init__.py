"""Policies: RandAugment and TrivialAugment, with torchvision's pixels and our map.

Operations that move pixels (shears, translations, rotation) keep areas, and move the map along with
the pixels; changes of colour multiply it by a share; Identity, AutoContrast and Equalize keep all.
It imports the transforms' common parts; torchvision is imported on first use.

Softening helps less where many types of operation are mixed: `softaug.Gated` has the evidence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from softaug.transforms.base import Drawn, Images, Seen, call, host_draws
from softaug.transforms.pixels import constants, fill_value
from softaug.transforms.policies.batch import (
    Steps,
    apply_operations,
    at_least_single,
    look_up_operations,
)
from softaug.transforms.policies.confidences import (
    LOSSY,
    FromConfidence,
    ShareKept,
    human_confidence,
    polynomial_confidence,
    share_kept,
    smoothed_confidence,
)
from softaug.transforms.policies.operations import (
    OPERATIONS,
    Strength,
    check_range,
    check_torchvision,
)

__all__ = [
    "OPERATIONS",
    "FromConfidence",
    "RandAugment",
    "TrivialAugment",
    "human_confidence",
    "polynomial_confidence",
    "smoothed_confidence",
]

# The result is the same for any chance; k is that of the default curve.
POLYNOMIAL = FromConfidence(polynomial_confidence, chance=0.0, k=2.0)


@dataclass(frozen=True)
class RandAugment:
    """Apply `num_ops` operations, each drawn from the 14, at one magnitude and a random sign.

    Images are uint8, or float in [0, 1] (so before normalisation). Pixels equal those of
    torchvision's `v2.RandAugment` on tensors, with nearest interpolation.

    num_ops: 0 or more; magnitude: one of num_magnitude_bins steps, from 0, nothing, to
        num_magnitude_bins - 1: shears of 0.3, translations by 150/331 of the side, rotation by 30
        degrees, factors of 0.1 and 1.9, 4 bits, all inverted.
    fill: a number, or one for each channel, in the units of the images.
    kept: (operation, magnitude) -> share of the map, in [0, 1], that a change of colour keeps. The
        default is `polynomial_confidence` for curves with k = 2; `FromConfidence` takes others.

    In images with neither 1 nor 3 channels each channel is treated as a grey image. Color does
    nothing to grey images and keeps all of their map.

    Source: Cubuk et al. 2020, "RandAugment", arXiv 1909.13719. Soft labels gain little or nothing
    among so many types of operation: see `softaug.Gated`.

    >>> images, seen = RandAugment()(torch.rand(8, 3, 32, 32))
    >>> images.shape, seen.shape
    (torch.Size([8, 3, 32, 32]), torch.Size([8, 1, 32, 32]))
    """

    num_ops: int = 2
    magnitude: int = 9
    num_magnitude_bins: int = 31
    fill: float | Sequence[float] = 0
    kept: ShareKept = POLYNOMIAL

    def __post_init__(self) -> None:
        check_torchvision("RandAugment")
        _check_bins("RandAugment", self.num_magnitude_bins)
        if self.num_ops < 0:
            raise ValueError(f"RandAugment: num_ops must be 0 or more, got {self.num_ops}")
        if self.magnitude not in range(self.num_magnitude_bins):
            raise ValueError(
                f"RandAugment: magnitude must be a whole number from 0 to num_magnitude_bins - 1 = "
                f"{self.num_magnitude_bins - 1}, got {self.magnitude}"
            )

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        return _draw((n, self.num_ops), self.bins, generator)

    def apply(self, images: Images, seen: Seen | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        return _apply(self, images, seen, drawn)

    @property
    def bins(self) -> range:
        """The magnitude bins that can be drawn."""
        return range(self.magnitude, self.magnitude + 1)

    @property
    def strength(self) -> Strength:
        return Strength(
            self.num_magnitude_bins,
            shear=0.3,
            shift=0.0,
            shift_share=150 / 331,
            degrees=30.0,
            factor=0.9,
            bits=4,
        )

    __call__ = call


@dataclass(frozen=True)
class TrivialAugment:
    """Apply one operation, drawn from the 14, at a random magnitude and sign.

    Images are uint8, or float in [0, 1] (so before normalisation). Pixels equal those of
    torchvision's `v2.TrivialAugmentWide` on tensors, with nearest interpolation.

    num_magnitude_bins: 2 or more steps from nothing to shears of 0.99, translations by 32 pixels
        (for images of any size), rotation by 135 degrees, factors of 0.01 and 1.99, 2 bits, all
        inverted.
    fill, kept, and images with other numbers of channels: as in `RandAugment`.

    Source: Müller and Hutter 2021, "TrivialAugment", arXiv 2103.10158. Soft labels gain little or
    nothing among so many types of operation: see `softaug.Gated`.
    """

    num_magnitude_bins: int = 31
    fill: float | Sequence[float] = 0
    kept: ShareKept = POLYNOMIAL

    def __post_init__(self) -> None:
        check_torchvision("TrivialAugment")
        _check_bins("TrivialAugment", self.num_magnitude_bins)

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        return _draw((n, 1), self.bins, generator)

    def apply(self, images: Images, seen: Seen | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        return _apply(self, images, seen, drawn)

    @property
    def bins(self) -> range:
        """The magnitude bins that can be drawn."""
        return range(self.num_magnitude_bins)

    @property
    def strength(self) -> Strength:
        return Strength(
            self.num_magnitude_bins,
            shear=0.99,
            shift=32.0,
            shift_share=0.0,
            degrees=135.0,
            factor=0.99,
            bits=2,
        )

    __call__ = call


def _draw(size: tuple[int, int], bins: range, generator: Generator | None) -> Drawn:
    return {
        "operation": torch.randint(len(OPERATIONS), size, generator=generator, device="cpu"),
        "bin": torch.randint(bins.start, bins.stop, size, generator=generator, device="cpu"),
        "negative": torch.randint(2, size, generator=generator, device="cpu").bool(),
    }


def _apply(
    policy: RandAugment | TrivialAugment, images: Images, seen: Seen | None, drawn: Drawn
) -> tuple[Tensor, Tensor]:
    check_range(images)
    fill = fill_value(policy.fill, at_least_single(images[:0]))
    n = len(images)
    columns = (
        host_draws(drawn, "operation", n),
        host_draws(drawn, "bin", n),
        host_draws(drawn, "negative", n, torch.bool),
    )
    if torch.compiler.is_compiling():
        # Imported here because it loads the compiler, which takes longer than softaug itself.
        from softaug.transforms.policies import compiled

        differentiated = images.requires_grad or (seen is not None and seen.requires_grad)
        if compiled.TRACEABLE and not (differentiated and torch.is_grad_enabled()):
            return compiled.apply_in_graph(policy, images, seen, *columns, fill)
        return compiled.apply_outside_graph(policy, images, seen, drawn)
    steps = look_up_operations(*columns, policy.strength, *images.shape[-2:])
    return apply_operations(steps, _share_kept(policy.kept, steps, images), images, seen, fill)


def _share_kept(kept: ShareKept, steps: Steps, images: Images) -> Float[Tensor, "n"]:
    """The share of its map that each sample keeps through all changes of colour."""
    coloured = images.shape[1] == 3
    lossy = {operation for operation in chain(*steps) if operation.name in LOSSY}
    share_by_operation = {operation: share_kept(kept, *operation, coloured) for operation in lossy}
    shares = [1.0] * len(images)
    for operations in steps:
        shares = [
            share * share_by_operation.get(operation, 1.0)
            for share, operation in zip(shares, operations, strict=True)
        ]
    return constants(shares, images, torch.float32)


def _check_bins(policy: str, bins: int) -> None:
    if bins < 2:
        raise ValueError(f"{policy}: num_magnitude_bins must be 2 or more, got {bins}")
