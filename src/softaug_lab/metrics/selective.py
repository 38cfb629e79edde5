"""Selective prediction: the error of a model that answers only its most confident samples.

n samples, answered in the order of their confidence. Risk is the error among the answered samples,
coverage their share. Equal confidences have no order: the risk is the mean over all their orders.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from softaug_lab.metrics.significance import (
    Array,
    Counts,
    Estimate,
    Statistic,
    bootstrap_estimate,
    paired_arrays,
)


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


def paired_bootstrap_aurc(
    conf_a: npt.ArrayLike,
    correct_a: npt.ArrayLike,
    conf_b: npt.ArrayLike,
    correct_b: npt.ArrayLike,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Bootstrap over test images of AURC(a) - AURC(b), the mean over seeds; all [seeds, images].

    conf: top-1 confidences; correct: bool. The AURC of every resample is computed anew. Images are
    resampled as in `paired_bootstrap`.
    """
    confidence_a, confidence_b = paired_arrays(conf_a, conf_b)
    hits_a, hits_b = paired_arrays(correct_a, correct_b)
    if hits_a.shape != confidence_a.shape:
        raise ValueError(
            f"correct must have the shape of conf, {confidence_a.shape}, got {hits_a.shape}"
        )
    first, second = (
        [_resampled_aurc(confidence, hits) for confidence, hits in zip(*pair, strict=True)]
        for pair in ((confidence_a, hits_a), (confidence_b, hits_b))
    )

    def statistic(counts: Counts) -> Array:
        a, b = (np.mean([one(counts) for one in arm], axis=0) for arm in (first, second))
        differences: Array = a - b
        return differences

    return bootstrap_estimate(statistic, confidence_a.shape[1], resamples, level, seed)


def _resampled_aurc(confidence: Array, hits: Array) -> Statistic:
    """From counts of images [r,images] to the AURC of each resample [r].

    The error at rank k counts in the risks at k, k + 1, ... N, and so sum(1 / j, j = k ... N) / N
    times in the AURC; W(k) is the sum of these weights over the ranks up to k. Equal confidences,
    as those of the copies of one image, share their ranks.
    """
    order = np.argsort(-confidence, kind="stable")
    wrong, ranked = (1 - hits[order]).astype(np.int32), confidence[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    n = len(confidence)
    tails = np.cumsum(1 / np.arange(n, 0, -1))[::-1] / n
    summed = np.concatenate([[0.0], np.cumsum(tails)])
    erring = np.flatnonzero(np.add.reduceat(wrong, starts))  # the others add nothing

    def of_groups(values: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Sum the columns of equal confidences."""
        return values if len(starts) == n else np.add.reduceat(values, starts, axis=1)

    def statistic(counts: Counts) -> Array:
        drawn = counts.astype(np.int32).take(order, axis=1)
        tied = of_groups(drawn)
        reached = np.cumsum(tied, axis=1, dtype=np.int32).take(erring, axis=1)
        errors, tied = (of_groups(drawn * wrong).take(erring, axis=1), tied.take(erring, axis=1))
        weights = summed[reached] - summed[reached - tied]
        values: Array = (errors / np.maximum(tied, 1) * weights).sum(axis=1)
        return values

    return statistic
