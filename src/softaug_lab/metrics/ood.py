"""Out-of-distribution detection: scores of known (in-distribution) data against other data.

Known data are the positive class: a score is high for them. Logits [N,K] of the known and [M,K] of
the other data in, fractions out, scores in float64. n, m samples, k classes; the logits of an
ensemble have its e members as a leading axis.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from softaug_lab.basics.errors import SoftaugError, UsageError

TPR_PERCENT = 95


@dataclass(frozen=True)
class Detection:
    """How well a score separates known data from other data; fractions.

    auroc: 0.5 for a score without information, 1 for one that is never wrong. fpr95: the share of
    the other data above the threshold that 95 % of the known data reach.
    """

    auroc: float
    fpr95: float


def detect(known: Float[Tensor, "*e n k"], other: Float[Tensor, "*e m k"]) -> dict[str, Detection]:
    """Detect other data by maximum softmax probability and by energy; keys "softmax", "energy".

    For an ensemble: by the maximum of the mean probabilities and by the mean energy.
    Raises UsageError where shapes do not fit, SoftaugError where logits are not finite.
    """
    same_axes = known.ndim == other.ndim and known.ndim in (2, 3)
    if not same_axes or known.shape[:-2] != other.shape[:-2] or known.shape[-1] != other.shape[-1]:
        raise UsageError(
            "known and other logits must be [N,K] and [M,K], "
            f"got {list(known.shape)} and {list(other.shape)}"
        )
    for logits, which in ((known, "known"), (other, "out-of-distribution")):
        bad = int((~logits.isfinite()).any(dim=-1).sum())
        if bad:
            raise SoftaugError(
                f"the model's logits are not finite for {bad} of {logits[..., 0].numel()} {which} "
                "images"
            )
    scores = {"softmax": max_softmax, "energy": negative_energy}
    return {name: detect_by(score(known), score(other)) for name, score in scores.items()}


def detect_by(known: Float[Tensor, "n"], other: Float[Tensor, "m"]) -> Detection:
    """Detect other data by any score that is high for known data."""
    return Detection(auroc(known, other), fpr95(known, other))


def max_softmax(logits: Float[Tensor, "*e n k"]) -> Float[Tensor, "n"]:
    """Largest probability of each sample, in [1/K, 1]; probabilities are averaged over members.

    References: Hendrycks and Gimpel 2017, "A Baseline for Detecting Misclassified and
    Out-of-Distribution Examples in Neural Networks".
    """
    return _mean_of_members(logits.double().softmax(dim=-1), 2).amax(dim=1)


def negative_energy(logits: Float[Tensor, "*e n k"]) -> Float[Tensor, "n"]:
    """log sum exp of each sample's logits: minus the energy at temperature 1.

    The mean over members of an ensemble: logits that are the log of the mean probability would
    have the same energy for every sample.

    References: Liu et al. 2020, "Energy-based Out-of-distribution Detection", eq. 4.
    """
    return _mean_of_members(logits.double().logsumexp(dim=-1), 1)


def _mean_of_members(values: Tensor, ndim: int) -> Tensor:
    return values.mean(dim=0) if values.ndim > ndim else values


def auroc(known: Float[Tensor, "n"], other: Float[Tensor, "m"]) -> float:
    """P(known score > other score) + P(equal) / 2 over all pairs, exact: the rank statistic."""
    _check(known, other)
    ordered = other.sort().values
    # Twice the wins, in whole numbers: `below` counts lower scores, `not_above` also equal ones.
    below = torch.searchsorted(ordered, known.contiguous())
    not_above = torch.searchsorted(ordered, known.contiguous(), right=True)
    return int((below + not_above).sum()) / (2 * len(known) * len(other))


def fpr95(known: Float[Tensor, "n"], other: Float[Tensor, "m"]) -> float:
    """False positive rate: share of other scores >= t, where 95 % of the known scores are >= t.

    t is the largest such threshold.
    """
    _check(known, other)
    passed = -(-TPR_PERCENT * len(known) // 100)  # rounded up, in whole numbers
    threshold = known.sort(descending=True).values[passed - 1]
    return (other >= threshold).double().mean().item()


def _check(known: Tensor, other: Tensor) -> None:
    if known.ndim != 1 or other.ndim != 1 or not len(known) or not len(other):
        raise ValueError(
            f"scores must be [N] and [M] with N, M >= 1, got {list(known.shape)} and "
            f"{list(other.shape)}"
        )
    if known.isnan().any() or other.isnan().any():
        raise ValueError("scores must not be NaN")
