"""Policies: operations drawn from a list of 14, with torchvision's pixels and our map.

Operations that move pixels (shears, translations, rotation) keep areas, and move the map along with
the pixels; changes of colour multiply it by `kept`; Identity, AutoContrast and Equalize keep all.

Softening fades where many types of operation are mixed: `Gated` has the evidence. Which samples get
which operation is looked up as Python runs: under torch.compile policies break the graph.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from softaug.curves import Curve
from softaug.kept import LOSSY, FromConfidence, Kept, polynomial_confidence
from softaug.operations import (
    GEOMETRIC,
    OPERATIONS,
    Choices,
    Use,
    check_range,
    choices,
    show,
    source,
)
from softaug.recolour import recolour
from softaug.transforms.base import Drawn, Images, Seen, call
from softaug.transforms.pixels import fill_value, in_layout_of, ones

SMALL = 2**14  # pixel values: images above are no faster together on a CPU
MOVE = "Move"  # any of the geometric operations

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
        return _draw((n, self.num_ops), range(self.magnitude, self.magnitude + 1), generator)

    def apply(self, images: Images, seen: Seen | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        height, width = images.shape[-2:]
        shift = (150 / 331 * width, 150 / 331 * height)
        of = choices(
            self.num_magnitude_bins, shear=0.3, shift=shift, degrees=30.0, factor=0.9, bits=4
        )
        return _apply(self, images, seen, drawn, of)

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
        return _draw((n, 1), range(self.num_magnitude_bins), generator)

    def apply(self, images: Images, seen: Seen | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        of = choices(
            self.num_magnitude_bins,
            shear=0.99,
            shift=(32.0, 32.0),
            degrees=135.0,
            factor=0.99,
            bits=2,
        )
        return _apply(self, images, seen, drawn, of)

    __call__ = call


@dataclass(frozen=True)
class Gated:
    """A curve that softens less, the more types of operation are mixed.

    confidence = 1 - g (1 - curve(v)), g = (limit - operations) / (limit - 1), at least 0: all of
    the curve's softening for one type of operation, none from `limit` on.

    operations: how many types can lose something, 1 or more (11 of the policies' 14); limit: 2 or
    more.
    Source: Siedel et al. 2025, arXiv 2507.16427. In its data soft labels are ahead of hard ones by
    4.5 points of accuracy with one operation of TrivialAugment, by 0.1 with seven, and behind with
    eight and more (CIFAR-100, operations added in one order, a single run each). That the gain
    falls along a straight line is our simplification.

    >>> from softaug import PowerCurve
    >>> curve = PowerCurve(chance=0.0)
    >>> [Gated(curve, n)(torch.tensor([0.5])).item() for n in (1, 4, 8)]
    [0.75, 0.8571428656578064, 1.0]
    """

    curve: Curve
    operations: int
    limit: int = 8

    def __post_init__(self) -> None:
        if self.operations < 1:
            raise ValueError(f"Gated: operations must be 1 or more, got {self.operations}")
        if self.limit < 2:
            raise ValueError(f"Gated: limit must be 2 operations or more, got {self.limit}")

    def __call__(self, visibility: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        gate = max(0.0, (self.limit - self.operations) / (self.limit - 1))
        return 1 - gate * (1 - self.curve(visibility))


def _draw(size: tuple[int, int], bins: range, generator: Generator | None) -> Drawn:
    return {
        "operation": torch.randint(len(OPERATIONS), size, generator=generator),
        "bin": torch.randint(bins.start, bins.stop, size, generator=generator),
        "negative": torch.randint(2, size, generator=generator).bool(),
    }


def _apply(
    policy: RandAugment | TrivialAugment,
    images: Images,
    seen: Seen | None,
    drawn: Drawn,
    of: Choices,
) -> tuple[Tensor, Tensor]:
    """All samples at once; on a CPU large images one by one, each in its cache."""
    check_range(images)
    steps = [_uses(drawn, step, of) for step in range(drawn["operation"].shape[1])]
    kept = _kept(policy.kept, steps, images)[:, None, None, None]
    fill = fill_value(policy.fill, _at_least_single(images[:0]))
    if images.device.type != "cpu" or math.prod(images.shape[1:]) <= SMALL:
        pixels, seen = _after(steps, images, seen, fill)
        pixels = images.clone() if pixels is images else pixels
        seen = ones(images) if seen is None else seen
        return in_layout_of(images, pixels.to(images.dtype)), seen * kept
    out = in_layout_of(images, images.new_empty(images.shape))
    out_seen = kept.new_empty(len(images), 1, *images.shape[-2:])
    for i in range(len(images)):
        one, its_steps = slice(i, i + 1), [uses[i : i + 1] for uses in steps]
        before = None if seen is None else seen[one]
        out[one], after = _after(its_steps, images[one], before, fill)
        out_seen[one] = kept[one] if after is None else after * kept[one]
    return out, out_seen


def _after(
    steps: list[list[Use]], images: Images, seen: Seen | None, fill: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Pixels and map after all steps; they may be what was given."""
    pixels = _at_least_single(images).contiguous()
    for uses in steps if len(images) else ():
        pixels, seen = _step(uses, pixels, seen, fill)
    return pixels, seen


def _at_least_single(images: Images) -> Images:
    """Half precision is computed in float32, as by the other transforms."""
    return images.float() if images.dtype in (torch.float16, torch.bfloat16) else images


def _uses(drawn: Drawn, step: int, of: Choices) -> list[Use]:
    """What is done to each sample, and how much."""
    columns = (drawn[key][:, step].tolist() for key in ("operation", "bin", "negative"))
    return [of[operation][at][negative] for operation, at, negative in zip(*columns, strict=True)]


def _step(
    uses: list[Use], pixels: Images, seen: Seen | None, fill: Tensor
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
    order = torch.tensor([sample for group in groups.values() for sample in group])
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


def _recoloured(operation: str, uses: list[Use], pixels: Images) -> Images:
    if operation == "Identity":
        return pixels
    return recolour(operation, [use.magnitude for use in uses], pixels)


def _move(uses: list[Use], pixels: Images, seen: Seen, fill: Tensor) -> tuple[Tensor, Tensor]:
    sources = [source(use.operation, use.magnitude, *pixels.shape[-2:]) for use in uses]
    index = torch.stack(sources).to(pixels.device).long()
    return show(pixels, index, fill), _moved(seen, index)


def _moved(seen: Seen, index: Int[Tensor, "n h w"]) -> Seen:
    """The map under pixels that move; no sample is seen better than before.

    The nearest neighbour can show a pixel twice. Where that adds to a map, it is scaled back.
    """
    moved = show(seen, index, seen.new_zeros(1, 1, 1, 1))
    before, after = (of.sum(dim=(1, 2, 3), keepdim=True) for of in (seen, moved))
    return moved * torch.where(after > before, before / after, 1.0)


def _kept(kept: Kept, steps: list[list[Use]], images: Images) -> Float[Tensor, "n"]:
    """The share of the map that all changes of colour together leave to each sample."""
    lossy = {*LOSSY} if images.shape[1] == 3 else {*LOSSY} - {"Color"}
    share_of = {use: _share(kept, *use) for use in {*chain(*steps)} if use.operation in lossy}
    shares = [1.0] * len(images)
    for uses in steps:
        shares = [share * share_of.get(use, 1.0) for share, use in zip(shares, uses, strict=True)]
    return torch.tensor(shares, device=images.device)


def _share(kept: Kept, operation: str, magnitude: float) -> float:
    share = kept(operation, magnitude)
    if not 0 <= share <= 1:
        raise ValueError(
            f"kept must give a share in [0, 1], got {share} for {operation} at magnitude "
            f"{magnitude:.4g}"
        )
    return share


def _check_bins(policy: str, bins: int) -> None:
    if bins < 2:
        raise ValueError(f"{policy}: num_magnitude_bins must be 2 or more, got {bins}")
