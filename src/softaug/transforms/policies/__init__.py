"""Policies: operations drawn from a list of 14, with torchvision's pixels and our map.

Operations that move pixels (shears, translations, rotation) keep areas, and move the map along with
the pixels; changes of colour multiply it by `kept`; Identity, AutoContrast and Equalize keep all.

Softening fades where many types of operation are mixed: `Gated` has the evidence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from softaug.transforms.base import Drawn, Images, Seen, call
from softaug.transforms.pixels import fill_value
from softaug.transforms.policies.batch import Steps, at_least_single, look_up, perform
from softaug.transforms.policies.confidences import (
    LOSSY,
    FromConfidence,
    Kept,
    polynomial_confidence,
    share_kept,
)
from softaug.transforms.policies.operations import OPERATIONS, Strength, check_range

# Chance has no say in it, and k is that of the standard curve.
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
        standard is `polynomial_confidence` for curves with k = 2; `FromConfidence` has others.

    Images with neither 1 nor 3 channels: each channel is treated as a grey image of its own. Color
    does nothing to grey, and there keeps all of the map.

    Source: Cubuk et al. 2020, "RandAugment", arXiv 1909.13719. Soft labels gain little or nothing
    among so many types of operation: see `Gated`.

    >>> images, seen = RandAugment()(torch.rand(8, 3, 32, 32))
    >>> images.shape, seen.shape
    (torch.Size([8, 3, 32, 32]), torch.Size([8, 1, 32, 32]))
    """

    num_ops: int = 2
    magnitude: int = 9
    num_magnitude_bins: int = 31
    fill: float | Sequence[float] = 0
    kept: Kept = POLYNOMIAL

    def __post_init__(self) -> None:
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
        """The steps that can be drawn."""
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
    (whatever the image's size), rotation by 135 degrees, factors of 0.01 and 1.99, 2 bits, all
    inverted. fill, kept, and images of other channels: as in `RandAugment`.

    Source: Müller and Hutter 2021, "TrivialAugment", arXiv 2103.10158. Soft labels gain little or
    nothing among so many types of operation: see `Gated`.
    """

    num_magnitude_bins: int = 31
    fill: float | Sequence[float] = 0
    kept: Kept = POLYNOMIAL

    def __post_init__(self) -> None:
        _check_bins("TrivialAugment", self.num_magnitude_bins)

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        return _draw((n, 1), self.bins, generator)

    def apply(self, images: Images, seen: Seen | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        return _apply(self, images, seen, drawn)

    @property
    def bins(self) -> range:
        """The steps that can be drawn."""
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
        "operation": torch.randint(len(OPERATIONS), size, generator=generator),
        "bin": torch.randint(bins.start, bins.stop, size, generator=generator),
        "negative": torch.randint(2, size, generator=generator).bool(),
    }


def _apply(
    policy: RandAugment | TrivialAugment, images: Images, seen: Seen | None, drawn: Drawn
) -> tuple[Tensor, Tensor]:
    check_range(images)
    fill = fill_value(policy.fill, at_least_single(images[:0]))
    columns = (drawn["operation"], drawn["bin"], drawn["negative"])
    if torch.compiler.is_compiling():
        # Only now: it loads the compiler, which takes longer than softaug itself.
        from softaug.transforms.policies.compiled import TRACEABLE, apply_outside, perform_traced

        differentiated = images.requires_grad or (seen is not None and seen.requires_grad)
        if TRACEABLE and not (differentiated and torch.is_grad_enabled()):
            return perform_traced(policy, images, seen, *columns, fill)
        return apply_outside(policy, images, seen, drawn)
    steps = look_up(*columns, policy.strength, *images.shape[-2:])
    return perform(steps, _kept(policy.kept, steps, images), images, seen, fill)


def _kept(kept: Kept, steps: Steps, images: Images) -> Float[Tensor, "n"]:
    """The share of the map that all changes of colour together leave to each sample."""
    coloured = images.shape[1] == 3
    lossy = {use for use in chain(*steps) if use.operation in LOSSY}
    share_of = {use: share_kept(kept, *use, coloured) for use in lossy}
    shares = [1.0] * len(images)
    for uses in steps:
        shares = [share * share_of.get(use, 1.0) for share, use in zip(shares, uses, strict=True)]
    return torch.tensor(shares, device=images.device)


def _check_bins(policy: str, bins: int) -> None:
    if bins < 2:
        raise ValueError(f"{policy}: num_magnitude_bins must be 2 or more, got {bins}")
