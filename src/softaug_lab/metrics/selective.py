"""Selective prediction: the error of a model that answers only its most confident samples.

n samples, answered in the order of their confidence. Risk is the error among the answered samples,
coverage their share. Equal confidences have no order: the risk is the mean over all their orders.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor


@dataclass(frozen=True)
class Risk:
    """Error among the share `coverage` of samples with the highest confidence; fractions."""

    coverage: float
    risk: float


def risks(confidence: Float[Tensor, "n"], correct: Bool[Tensor, "n"]) -> Float64[Tensor, "n"]:
    """Risk of answering the 1, 2, ... N most confident samples, each in [0, 1]."""
    if confidence.shape != correct.shape or len(confidence) == 0:
        raise ValueError(
            "confidence and correct must be [N] with N >= 1, "
            f"got {list(confidence.shape)} and {list(correct.shape)}"
        )
    if confidence.isnan().any():
        raise ValueError("confidence must not be NaN")
    _, group, counts = (-confidence).unique(return_inverse=True, return_counts=True)
    errors = group.bincount((~correct).double(), minlength=len(counts))
    # Each of a group of ties is wrong with the group's share of errors.
    wrong = (errors / counts).repeat_interleave(counts).cumsum(dim=0)
    risk: Tensor = wrong / torch.arange(1, len(wrong) + 1, device=wrong.device)
    return risk


def risk_coverage(
    confidence: Float[Tensor, "n"], correct: Bool[Tensor, "n"], points: int = 100
) -> list[Risk]:
    """Risk-coverage curve at coverages of 1 / points, 2 / points ... 1, rounded up to samples.

    The curve has fewer points where there are fewer samples; the last one is the error of all.

    References: El-Yaniv & Wiener 2010, "On the Foundations of Noise-free Selective Classification".
    """
    if points < 1:
        raise ValueError(f"points must be at least 1, got {points}")
    curve, n = risks(confidence, correct).tolist(), len(confidence)
    answered = sorted({math.ceil(n * i / points) for i in range(1, points + 1)})
    return [Risk(coverage=count / n, risk=curve[count - 1]) for count in answered]


def aurc(confidence: Float[Tensor, "n"], correct: Bool[Tensor, "n"]) -> float:
    """Area under the risk-coverage curve: the mean risk over 1, 2, ... N samples, in [0, 1].

    References: Geifman & El-Yaniv 2017, "Selective Classification for Deep Neural Networks"; as a
    metric, Geifman et al. 2019, "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers".
    """
    return risks(confidence, correct).mean().item()


def excess_aurc(confidence: Float[Tensor, "n"], correct: Bool[Tensor, "n"]) -> float:
    """AURC minus that of the best order, all errors last: 0 where confidence ranks perfectly.

    References: Geifman et al. 2019, "Bias-Reduced Uncertainty Estimation", section 3 (E-AURC).
    """
    return aurc(confidence, correct) - aurc(correct.double(), correct)
