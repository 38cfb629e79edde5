"""Curves: from visibility to the confidence that the label keeps.

A curve is any function from visibility [N] in [0, 1] to confidence [N] in [0, 1].
"""

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from softaug.checks import check_numbers, check_positive, check_unit, check_whole
from softaug.devices import to_device

Curve = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class PowerCurve:
    """confidence = ceiling - (ceiling - chance) (1 - v)^k.

    k > 0: 1 is linear, larger is flatter near v = 1; the paper takes 2.
    chance in [0, 1): the confidence where nothing is visible, 1/num_classes in the paper.
    ceiling in (chance, 1]: the confidence where all is visible; below 1 it adds label smoothing.
    Source: Liu et al. 2023, eq. 7 (ceiling 1).

    >>> PowerCurve(k=2, chance=0.01)(torch.tensor([0.375]))
    tensor([0.6133])
    """

    k: float = 2.0
    _: KW_ONLY
    chance: float
    ceiling: float = 1.0

    def __post_init__(self) -> None:
        check_positive("PowerCurve", "k", self.k, "the paper: 2")
        check_numbers("PowerCurve", "chance and ceiling", self.chance, self.ceiling)
        if not 0 <= self.chance < 1:
            raise ValueError(
                "PowerCurve: chance must be in [0, 1) (the paper: 1/num_classes), "
                f"got {self.chance}"
            )
        if not self.chance < self.ceiling <= 1:
            raise ValueError(
                f"PowerCurve: ceiling must be above chance {self.chance} and at most 1, "
                f"got {self.ceiling}"
            )

    def __call__(self, visibility: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        # Rounding can lift the mean of a resampled map above 1; a root of a negative number is NaN.
        lost = (1 - visibility).clamp(min=0)
        return self.ceiling - (self.ceiling - self.chance) * lost**self.k


@dataclass(frozen=True)
class Constant:
    """The same confidence p in [0, 1] for every image: label smoothing.

    On rows of sum 1, p = 1 - e(K-1)/K equals torch's `label_smoothing=e` over K classes;
    p = 1 keeps labels hard.
    """

    p: float

    def __post_init__(self) -> None:
        check_unit("Constant", "p", self.p)

    def __call__(self, visibility: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        return torch.full_like(visibility, self.p)


@dataclass(frozen=True)
class TableCurve:
    """Interpolate linearly between measured confidences.

    points: two or more pairs (visibility, confidence), visibilities rising and confidences not
    falling, all in [0, 1]. Outside of the visibilities given, the nearest confidence holds.

    >>> TableCurve([(0.0, 0.1), (0.5, 0.9), (1.0, 1.0)])(torch.tensor([0.25]))
    tensor([0.5000])
    """

    points: Sequence[tuple[float, float]]

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", tuple((float(v), float(p)) for v, p in self.points))
        if len(self.points) < 2:
            raise ValueError(f"TableCurve: expected 2 points or more, got {len(self.points)}")
        for point in self.points:
            if not all(0 <= value <= 1 for value in point):
                raise ValueError(
                    f"TableCurve: visibility and confidence must be in [0, 1], got {point}"
                )
        for before, after in pairwise(self.points):
            if after[0] <= before[0] or after[1] < before[1]:
                raise ValueError(
                    "TableCurve: visibilities must rise and confidences must not fall, "
                    f"got {before} before {after}"
                )

    def __call__(self, visibility: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        numbers = torch.tensor(self.points, dtype=visibility.dtype, device="cpu")
        table = to_device(numbers, visibility.device)
        v, p = table[:, 0].contiguous(), table[:, 1]
        after = torch.bucketize(visibility, v).clamp(1, len(v) - 1)
        share = (visibility - v[after - 1]) / (v[after] - v[after - 1])
        return p[after - 1] + share.clamp(0, 1) * (p[after] - p[after - 1])


@dataclass(frozen=True)
class Gated:
    """Soften less than a curve, the more types of operation are mixed.

    confidence = 1 - g (1 - curve(v)), with g = (limit - operations) / (limit - 1), at least 0: the
    curve's full softening for one type of operation, none from `limit` types on.

    operations: the number of types that can lose something, 1 or more (11 of the policies' 14);
    limit: 2 or more.
    Source: Siedel et al. 2025, arXiv 2507.16427. In their data soft labels are ahead of hard ones
    by 4.5 points of accuracy with one operation of TrivialAugment, by 0.1 with seven, and behind
    with eight and more (CIFAR-100, operations added in one order, a single run each). That the gain
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
        check_whole("Gated", "operations", self.operations, 1)
        check_whole("Gated", "limit", self.limit, 2, "operations")

    def __call__(self, visibility: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        gate = max(0.0, (self.limit - self.operations) / (self.limit - 1))
        return 1 - gate * (1 - self.curve(visibility))
