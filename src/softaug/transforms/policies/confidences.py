"""The share of the map that a change of colour keeps, from published confidences.

A published rule gives the confidence p in the label after an operation. A policy needs a share v of
the map, of which the curve in force makes a confidence again. So p is taken back through that
curve, v = 1 - ((1 - p) / (1 - chance))^(1/k), and the curve acts once.

Magnitudes are torchvision's: Brightness, Color, Contrast and Sharpness change by the factor 1 + m;
Posterize keeps m bits of 8; Solarize inverts from the brightness m, in [0, 1], up.

All numbers come from Siedel et al. 2025, "Combined Image Data Augmentations diminish the benefits
of Adaptive Label Smoothing", arXiv 2507.16427, and its published code. There no rule beat hard
labels in accuracy within TrivialAugment; differences between the rules are as small as the noise.
"""

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import TypeAlias

Rule: TypeAlias = Callable[[str, float, float], float]  # operation, magnitude, chance: confidence
ShareKept: TypeAlias = Callable[[str, float], float]  # operation, magnitude: share kept, in [0, 1]

# Operations that can lose information without moving a pixel; rules are called for these alone.
LOSSY = ("Brightness", "Color", "Contrast", "Sharpness", "Posterize", "Solarize")

# (contrast left, human accuracy), both in [0, 1], with straight lines between the points.
HUMAN_CONTRAST = ((0.043, 0.32), (0.109, 0.966), (0.967, 1.0))

# Operation and sign of its magnitude: (exponent, floor) of 1 - (1 - floor) x^exponent.
SMOOTHED = {
    "Brightness+": (3.0, 0.86),
    "Brightness-": (5.0, 0.32),
    "Color+": (1.0, 1.0),
    "Color-": (3.0, 0.95),
    "Contrast+": (2.0, 0.976),
    "Contrast-": (5.0, 0.32),
    "Sharpness+": (1.0, 0.992),
    "Sharpness-": (4.0, 0.884),
    "Posterize": (10.0, 0.86),
    "Solarize": (1.5, 0.512),
}


@dataclass(frozen=True)
class FromConfidence:
    """Convert a rule that gives confidences to shares of the map, for the curve in force.

    v = 1 - ((1 - p) / (1 - chance))^(1/k), within [0, 1]. `PowerCurve(k, chance=chance)` turns this
    share into p again, or into chance where the rule gives less than chance.

    rule: (operation, magnitude, chance) -> confidence in [0, 1], such as `polynomial_confidence`.
    chance in [0, 1) and k > 0: those of the curve. Raises ValueError for other values, and where
    the rule leaves [0, 1].

    >>> FromConfidence(polynomial_confidence, chance=0.01, k=2)("Brightness", -0.25)
    0.75
    """

    rule: Rule
    _: KW_ONLY
    chance: float
    k: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.chance < 1:
            raise ValueError(
                f"FromConfidence: chance must be in [0, 1), the curve's own, got {self.chance}"
            )
        if not 0 < self.k < math.inf:
            raise ValueError(
                f"FromConfidence: k must be finite and above 0, the curve's own, got {self.k}"
            )

    def __repr__(self) -> str:
        rule = getattr(self.rule, "__name__", repr(self.rule))
        return f"FromConfidence({rule}, chance={self.chance:g}, k={self.k:g})"

    def __call__(self, operation: str, magnitude: float) -> float:
        p = self.rule(operation, magnitude, self.chance)
        if not 0 <= p <= 1:
            raise ValueError(
                f"FromConfidence: the rule must give a confidence in [0, 1], got {p} for "
                f"{operation} at magnitude {magnitude}"
            )
        return 1.0 - math.pow(min(1.0, (1 - p) / (1 - self.chance)), 1 / self.k)


def polynomial_confidence(operation: str, magnitude: float, chance: float) -> float:
    """Confidence 1 - (1 - chance) x^2, where x in [0, 1] is the extent of the operation.

    x: |m| for Brightness, Color, Contrast and Sharpness, 1 - m/8 for Posterize, 1 - m for Solarize.
    For a curve of exponent k the share kept is 1 - x^(2/k), whatever chance is; at k = 2, 1 - x.
    """
    return 1 - (1 - chance) * _extent(operation, magnitude) ** 2


def human_confidence(operation: str, magnitude: float, chance: float) -> float:  # noqa: ARG001
    """Human accuracy at the contrast that is left, 1 - |m|; 1 for operations not measured.

    The study uses one measured curve for Contrast and Brightness of either sign, and none for
    Color, Sharpness, Posterize and Solarize. Three straight lines match its table of 31 magnitudes
    to 0.002: 0.32 up to a contrast of 4 %, 0.64 at 7.6 %, 0.97 at 11 %, then slowly up to 1.
    """
    left = 1 - _extent(operation, magnitude)
    if operation not in ("Brightness", "Contrast"):
        return 1.0
    (x0, p0), (x1, p1), (x2, p2) = HUMAN_CONTRAST
    if left <= x1:
        return p0 + (p1 - p0) * max(0.0, left - x0) / (x1 - x0)
    return p1 + (p2 - p1) * min(1.0, (left - x1) / (x2 - x1))


def smoothed_confidence(operation: str, magnitude: float, chance: float) -> float:  # noqa: ARG001
    """Confidence 1 - (1 - floor) x^exponent, fitted by hand to accuracies of people and a network.

    The study publishes one table of both sources: floor 0.32, for less Brightness and less
    Contrast, is human accuracy; the other floors are a network's. x is that of
    `polynomial_confidence`, but (8 - m)/6 for Posterize, whose minimum is 2 bits; more Color keeps
    all.
    """
    x = _extent(operation, magnitude)
    if operation == "Posterize":
        x = min(1.0, x * 8 / 6)
    elif operation != "Solarize":
        operation += "-" if magnitude < 0 else "+"
    exponent, floor = SMOOTHED[operation]
    return 1 - (1 - floor) * math.pow(x, exponent)


def share_kept(kept: ShareKept, operation: str, magnitude: float, coloured: bool) -> float:
    """Share of the map that one operation keeps: below 1 only for the operations in LOSSY.

    Color keeps all of grey images (`coloured` False). Raises ValueError where `kept` leaves [0, 1].
    """
    if operation not in LOSSY or (operation == "Color" and not coloured):
        return 1.0
    share = kept(operation, magnitude)
    if not 0 <= share <= 1:
        raise ValueError(
            f"kept must give a share in [0, 1], got {share} for {operation} at magnitude "
            f"{magnitude:.4g}"
        )
    return share


def _extent(operation: str, magnitude: float) -> float:
    """Extent of an operation in [0, 1]: 0 changes nothing, 1 leaves nothing or inverts all."""
    if operation not in LOSSY:
        raise ValueError(f"operation must be one of {', '.join(LOSSY)}, got {operation!r}")
    if operation == "Posterize":
        return 1 - magnitude / 8
    return 1 - magnitude if operation == "Solarize" else abs(magnitude)
