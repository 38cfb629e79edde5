"""How often a model is wrong, and how well it knows: error, NLL, Brier score, calibration.

Logits [N,K] and labels int64 [N] in, plain numbers out, all arithmetic in float64. n samples,
k classes. Lower is better for all but the calibration gap, which is best at 0.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from softaug_lab.metrics.calibration import BINS, bin_index, equal_width, floor

BLOCK = 4_000_000  # entries of the logits that are turned into float64 at a time: 32 MB


@dataclass(frozen=True)
class Bin:
    """One bar of a reliability diagram: the samples whose confidence is in (low, high].

    confidence and accuracy are the means over them, None in an empty bin. The first bin holds 0.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


def top_k_error(logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"], k: int = 1) -> float:
    """Share of samples whose label is not among the k largest logits, in [0, 1].

    Among equal logits the lower class index ranks first, so k = 1 is `logits.argmax(1) != labels`.
    With k of at least K it is 0.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    check(logits, labels)
    own = logits.gather(1, labels[:, None])
    earlier = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    rank = ((logits > own) | ((logits == own) & earlier)).sum(dim=1)
    return (rank >= k).double().mean().item()


def nll(logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"]) -> float:
    """Negative log-likelihood of the labels in nats, the mean over samples; >= 0."""
    return sample_nll(logits, labels).mean().item()


def sample_nll(logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"]) -> Float[Tensor, "n"]:
    """Negative log-likelihood of each sample's label in nats, float64 [N]."""
    return torch.cat(
        [
            -block.gather(1, labels[some, None])[:, 0]
            for some, block in log_probabilities(logits, labels)
        ]
    )


def brier(logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"]) -> float:
    """Squared distance from the probabilities to the one-hot label, summed over classes: [0, 2]."""
    total = 0.0
    for some, block in log_probabilities(logits, labels):
        error = block.exp()
        error[torch.arange(len(error), device=labels.device), labels[some]] -= 1
        total += error.square().sum().item()
    return total / len(labels)


def top_confidence(
    logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"]
) -> tuple[Float[Tensor, "n"], Bool[Tensor, "n"]]:
    """Each sample's largest probability, float64 [N], and whether its class is the label, [N]."""
    highest = [block.amax(dim=1).exp() for _, block in log_probabilities(logits, labels)]
    # The class comes from the logits: two that differ can round to the same probability.
    correct = logits.argmax(dim=1) == labels
    return torch.cat(highest), correct


def calibration_gap(logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"]) -> float:
    """Mean top-1 confidence minus accuracy, in [-1, 1]: positive is over-confident."""
    confidence, correct = top_confidence(logits, labels)
    return (confidence.mean() - correct.double().mean()).item()


def reliability(
    confidence: Float[Tensor, "n"], correct: Bool[Tensor, "n"], bins: int = BINS
) -> list[Bin]:
    """Confidence and accuracy in bins of equal width, right-closed; 0 is in the first bin.

    A confidence of exactly 1.0 is in the last bin (torchmetrics 1.9.0 gives it one of its own).
    """
    index = bin_index(confidence, bins)
    if correct.shape != confidence.shape:
        raise ValueError(
            f"correct must be [N] = {list(confidence.shape)}, got {list(correct.shape)}"
        )
    counts = index.bincount(minlength=bins).tolist()
    confidences = index.bincount(confidence.double(), minlength=bins).tolist()
    hits = index.bincount(correct.double(), minlength=bins).tolist()
    return [
        Bin(
            low=i / bins,
            high=(i + 1) / bins,
            count=count,
            confidence=confidences[i] / count if count else None,
            accuracy=hits[i] / count if count else None,
        )
        for i, count in enumerate(counts)
    ]


def ece(bins: Iterable[Bin]) -> float:
    """Expected calibration error: the mean of abs(accuracy - confidence) over samples, in [0, 1].

    References: Guo et al. 2017, "On Calibration of Modern Neural Networks", eq. 3.
    """
    total, gaps = 0, 0.0
    for entry in bins:
        if entry.confidence is not None and entry.accuracy is not None:
            total += entry.count
            gaps += entry.count * abs(entry.accuracy - entry.confidence)
    if total == 0:
        raise ValueError("ece needs at least one sample; all bins are empty")
    return gaps / total


def ece_floor(
    confidence: Float[Tensor, "n"], bins: int = BINS, draws: int = 200, seed: int = 0
) -> float:
    """The ECE that a perfectly calibrated model with these confidences measures on average.

    See `calibration.floor`.
    """
    return floor(equal_width(confidence, bins), confidence, draws, seed)


def log_probabilities(
    logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"]
) -> Iterator[tuple[slice, Float[Tensor, "some k"]]]:
    """Log softmax in float64 of some samples after others, and which: [N,K] need not fit as such.

    Raises ValueError before the first for logits and labels that don't fit, and for NaN.
    """
    check(logits, labels)
    for some in row_blocks(logits):
        block = logits[some].double().log_softmax(dim=1)
        if block.isnan().any():
            raise ValueError("logits must not hold +inf, nor -inf for every class of a sample")
        yield some, block


def row_blocks(logits: Float[Tensor, "n k"]) -> Iterator[slice]:
    """Slices that cover the samples in order, each of at most BLOCK logits or of one sample."""
    rows = max(1, BLOCK // logits.shape[1])
    return (slice(start, start + rows) for start in range(0, len(logits), rows))


def check(logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"]) -> None:
    """Raise ValueError unless logits [N,K] without NaN and labels [N] in [0, K) fit together."""
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or logits.numel() == 0:
        raise ValueError(
            "logits must be [N,K] and labels [N] with N >= 1, "
            f"got {list(logits.shape)} and {list(labels.shape)}"
        )
    bad = logits.isnan().any(dim=1)
    if bad.any():
        raise ValueError(f"logits are NaN for {int(bad.sum())} of {len(logits)} samples")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(
            f"labels must be in [0, {logits.shape[1]}), "
            f"got {int(labels.min())} to {int(labels.max())}"
        )
