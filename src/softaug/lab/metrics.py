"""How often a model is wrong, and how well it knows: error, NLL, Brier score, calibration.

Logits [N,K] and labels int64 [N] in, plain numbers out, all arithmetic in float64. n samples,
k classes. Lower is better for all but the calibration gap, which is best at 0.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


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
    _check(logits, labels)
    own = logits.gather(1, labels[:, None])
    earlier = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    rank = ((logits > own) | ((logits == own) & earlier)).sum(dim=1)
    return (rank >= k).double().mean().item()


def nll(logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"]) -> float:
    """Negative log-likelihood of the labels in nats, the mean over samples; >= 0."""
    return sample_nll(logits, labels).mean().item()


def sample_nll(logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"]) -> Float[Tensor, "n"]:
    """Negative log-likelihood of each sample's label in nats, float64 [N]."""
    return -_log_probabilities(logits, labels).gather(1, labels[:, None])[:, 0]


def brier(logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"]) -> float:
    """Squared distance from the probabilities to the one-hot label, summed over classes: [0, 2]."""
    error = _log_probabilities(logits, labels).exp()
    error[torch.arange(len(labels), device=labels.device), labels] -= 1
    return error.square().sum(dim=1).mean().item()


def top_confidence(
    logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"]
) -> tuple[Float[Tensor, "n"], Bool[Tensor, "n"]]:
    """Each sample's largest probability, float64 [N], and whether its class is the label, [N]."""
    log_probabilities = _log_probabilities(logits, labels)
    # The class comes from the logits: two that differ can round to the same probability.
    correct = logits.argmax(dim=1) == labels
    return log_probabilities.amax(dim=1).exp(), correct


def calibration_gap(logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"]) -> float:
    """Mean top-1 confidence minus accuracy, in [-1, 1]: positive is over-confident."""
    confidence, correct = top_confidence(logits, labels)
    return (confidence.mean() - correct.double().mean()).item()


def reliability(
    confidence: Float[Tensor, "n"], correct: Bool[Tensor, "n"], bins: int = 15
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
    confidence: Float[Tensor, "n"], bins: int = 15, draws: int = 200, seed: int = 0
) -> float:
    """The ECE that a perfectly calibrated model with these confidences measures on average.

    The mean over `draws` of the ECE with correct ~ Bernoulli(confidence): what chance alone puts
    on the figure at this number of samples. The same on every device and for every order of calls.
    """
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    confidence = confidence.double().cpu()
    index = bin_index(confidence, bins)
    generator = torch.Generator().manual_seed(seed)
    total = 0.0
    for _ in range(draws):
        uniform = torch.rand(len(confidence), generator=generator, dtype=torch.float64)
        excess = (uniform < confidence).double() - confidence
        # A bin's count times its gap is its summed excess.
        total += index.bincount(excess, minlength=bins).abs().sum().item()
    return total / (draws * len(confidence))


def bin_index(confidence: Float[Tensor, "n"], bins: int) -> Int64[Tensor, "n"]:
    """The bin of each confidence, in [0, bins): i where i / bins < confidence <= (i + 1) / bins."""
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    if confidence.ndim != 1 or len(confidence) == 0:
        raise ValueError(f"confidence must be [N] with N >= 1, got {list(confidence.shape)}")
    # A NaN fails both comparisons, so this refuses it too.
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise ValueError("confidence must be in [0, 1]")
    inner_edges = torch.arange(1, bins, dtype=torch.float64, device=confidence.device) / bins
    return torch.bucketize(confidence.double(), inner_edges)


def _log_probabilities(logits: Tensor, labels: Tensor) -> Tensor:
    """Log softmax in float64 [N,K] of checked logits."""
    _check(logits, labels)
    log_probabilities = logits.double().log_softmax(dim=1)
    if log_probabilities.isnan().any():
        raise ValueError("logits must not hold +inf, nor -inf for every class of a sample")
    return log_probabilities


def _check(logits: Tensor, labels: Tensor) -> None:
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
