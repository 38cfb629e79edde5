"""Error rate, proper scores (NLL, Brier) and the top-1 confidence.

Logits [N,K] and labels int64 [N] in, plain numbers out, all arithmetic in float64. n samples,
k classes. Lower is better for all but the calibration gap, which is best at 0.
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from softaug_lab.metrics.logits import BLOCK, check_logits, log_probabilities


def top_k_error(logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"], k: int = 1) -> float:
    """Share of samples whose label is not among the k largest logits, in [0, 1].

    Among equal logits the lower class index ranks first, so k = 1 is `logits.argmax(1) != labels`.
    The error is 0 where k is at least K.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    check_logits(logits, labels)
    label_logits = logits.gather(1, labels[:, None])
    earlier = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    rank = ((logits > label_logits) | ((logits == label_logits) & earlier)).sum(dim=1)
    return (rank >= k).double().mean().item()


def nll(logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"]) -> float:
    """Negative log-likelihood of the labels in nats, the mean over samples; >= 0."""
    return sample_nll(logits, labels).mean().item()


def sample_nll(
    logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"], block: int = BLOCK
) -> Float[Tensor, "n"]:
    """Negative log-likelihood of each sample's label in nats, float64 [N]."""
    return torch.cat(
        [
            -values.gather(1, labels[rows, None])[:, 0]
            for rows, values in log_probabilities(logits, labels, block)
        ]
    )


def brier(logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"], block: int = BLOCK) -> float:
    """Squared distance from the probabilities to the one-hot label, summed over classes: [0, 2].

    The mean over samples.
    """
    total = 0.0
    for rows, values in log_probabilities(logits, labels, block):
        error = values.exp()
        error[torch.arange(len(error), device=labels.device), labels[rows]] -= 1
        total += error.square().sum().item()
    return total / len(labels)


def top_confidence(
    logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"], block: int = BLOCK
) -> tuple[Float[Tensor, "n"], Bool[Tensor, "n"]]:
    """Largest probability of each sample, float64 [N], and whether its class is the label, [N]."""
    highest = [values.amax(dim=1).exp() for _, values in log_probabilities(logits, labels, block)]
    # The class comes from the logits: two that differ can round to the same probability.
    correct = logits.argmax(dim=1) == labels
    return torch.cat(highest), correct


def calibration_gap(logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"]) -> float:
    """Mean top-1 confidence minus accuracy, in [-1, 1]: positive is over-confident."""
    confidence, correct = top_confidence(logits, labels)
    return (confidence.mean() - correct.double().mean()).item()
