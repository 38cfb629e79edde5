"""Selective prediction: how often a model is wrong where it answers only when it is sure.

n samples, answered in the order of their confidence. Equal confidences have no order: the risk is
the mean over all orders of them. Risk is the error among the answered, coverage their share.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor


@dataclass(frozen=True)
class Risk:
    """The error among the share `coverage` of samples with the highest confidence; fractions."""

    coverage: float
    risk: float


def risks(confidence: Float[Tensor, "n"], correct: Bool[Tensor, "n"]) -> Float64[Tensor, "n"]:
    """The risk of answering the 1, 2, ... N surest samples, each in [0, 1]."""
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
    """The curve at coverages of 1 / points, 2 / points ... 1, rounded up to whole samples.

    Fewer points where there are fewer samples; the last is the error of all.

    References: El-Yaniv & Wiener 2010, "On the Foundations of Noise-free Selective Classification".
    """
    if points < 1:
        raise ValueError(f"points must be at least 1, got {points}")
    curve, n = risks(confidence, correct).tolist(), len(confidence)
    answered = sorted({math.ceil(n * i / points) for i in range(1, points + 1)})
    return [Risk(coverage=count / n, risk=curve[count - 1]) for count in answered]


def aurc(confidence: Float[Tensor, "n"], correct: Bool[Tensor, "n"]) -> float:
    """Area under the risk-coverage curve: the mean of the risk over 1, 2, ... N samples, in [0, 1].

    References: Geifman & El-Yaniv 2017, "Selective Classification for Deep Neural Networks"; as a
    figure, Geifman et al. 2019, "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers".
    """
    return risks(confidence, correct).mean().item()


def excess_aurc(confidence: Float[Tensor, "n"], correct: Bool[Tensor, "n"]) -> float:
    """AURC above that of the best order, all errors last: 0 where confidence ranks perfectly.

    References: Geifman et al. 2019, "Bias-Reduced Uncertainty Estimation", section 3 (E-AURC).
    """
    return aurc(confidence, correct) - aurc(correct.double(), correct)
