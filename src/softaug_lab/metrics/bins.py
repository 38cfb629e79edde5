"""Sort confidences into bins of equal width or equal mass, and draw up reliability diagrams.

n samples; a confidence is in [0, 1].
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

BINS = 15


@dataclass(frozen=True)
class Bin:
    """One bar of a reliability diagram: the samples whose confidence is in (low, high].

    confidence and accuracy are the means over these samples, None in an empty bin. The first bin
    includes confidence 0.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


def width_index(confidence: Float[Tensor, "n"], bins: int) -> Int64[Tensor, "n"]:
    """Bin of equal width of each confidence, in [0, bins): i / bins < confidence <= (i + 1) / bins.

    0 is in the first bin. 1 is in the last (torchmetrics 1.9.0 gives 1 a bin of its own).
    """
    _check_bins(bins)
    confidence = checked_confidence(confidence)
    inner_edges = torch.arange(1, bins, dtype=torch.float64, device=confidence.device) / bins
    return torch.bucketize(confidence, inner_edges)


def mass_index(confidence: Float[Tensor, "n"], bins: int) -> Int64[Tensor, "n"]:
    """Bin of equal mass of each confidence, in [0, bins): floor(bins * middle rank / N).

    Equal confidences share the middle of their ranks, so no bin's edge parts them and their order
    does not matter; where ties are many, some bins hold more samples and others may be empty.
    Without ties the counts of two bins differ by at most 1.
    """
    _check_bins(bins)
    _, inverse, counts = checked_confidence(confidence).unique(
        return_inverse=True, return_counts=True
    )
    # In whole numbers, as ranks that fall on an edge must not round.
    twice_middle = 2 * (counts.cumsum(dim=0) - counts) + counts
    index: Tensor = (twice_middle * bins // (2 * len(confidence)))[inverse]
    return index


def reliability_diagram(
    confidence: Float[Tensor, "n"], correct: Bool[Tensor, "n"], bins: int = BINS
) -> list[Bin]:
    """Mean confidence and accuracy in bins of equal width; the bins are those of `width_index`."""
    index = width_index(confidence, bins)
    require_same_shape(confidence, correct)
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


def checked_confidence(confidence: Float[Tensor, "n"]) -> Float64[Tensor, "n"]:
    """Return confidences as float64; raise ValueError unless [N], N >= 1, each in [0, 1]."""
    if confidence.ndim != 1 or len(confidence) == 0:
        raise ValueError(f"confidence must be [N] with N >= 1, got {list(confidence.shape)}")
    # A NaN fails both comparisons, so this refuses it too.
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise ValueError("confidence must be in [0, 1]")
    return confidence.double()


def require_same_shape(confidence: Tensor, correct: Tensor) -> None:
    """Raise ValueError where there is not one `correct` for each confidence."""
    if correct.shape != confidence.shape:
        raise ValueError(
            f"correct must be [N] = {list(confidence.shape)}, got {list(correct.shape)}"
        )


def _check_bins(bins: int) -> None:
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
