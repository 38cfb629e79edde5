"""Class-wise calibration error (every class's probability) and the parts of the Brier score.

Logits [N,K] and labels int64 [N] in. n samples, k classes, m bins of equal width, the same for each
class, b samples of a block. Memory grows with N, with K * M and with the block, never with N * K.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from softaug_lab.metrics.bins import BINS, width_index
from softaug_lab.metrics.logits import BLOCK, log_probabilities
from softaug_lab.metrics.proper import brier
from softaug_lab.metrics.significance import Array, Counts, bootstrap_interval


@dataclass(frozen=True, eq=False)
class ClassBins:
    """For each class and bin: number of samples, sum of their probabilities, hits; float64 [K,M].

    A hit is a sample whose label is the class. Every row of `counts` sums to N.
    """

    counts: Float[Tensor, "k m"]
    probabilities: Float[Tensor, "k m"]
    hits: Float[Tensor, "k m"]

    @property
    def samples(self) -> float:
        """N."""
        return self.counts[0].sum().item()


@dataclass(frozen=True)
class BrierParts:
    """Decomposition: reliability - resolution + uncertainty is the Brier score."""

    reliability: float
    resolution: float
    uncertainty: float


def class_bins(
    logits: Float[Tensor, "n k"],
    labels: Int64[Tensor, "n"],
    bins: int = BINS,
    block: int = BLOCK,
) -> ClassBins:
    """Sort each class's probabilities into bins of equal width, and count."""
    shape = (logits.shape[1], bins)
    counts, sums, hits = torch.zeros(3, shape[0] * bins, dtype=torch.float64)
    for rows, probabilities, cells in _binned_blocks(logits, labels, bins, block):
        counts += cells.flatten().bincount(minlength=len(counts))
        sums += cells.flatten().bincount(probabilities.flatten(), minlength=len(sums))
        label_cells = cells.gather(1, labels[rows, None].cpu())[:, 0]
        hits += label_cells.bincount(minlength=len(hits))
    return ClassBins(counts.view(shape), sums.view(shape), hits.view(shape))


def classwise_ece(bins: ClassBins) -> float:
    """Class-wise ECE: the mean over classes of the binary ECE of that class, in [0, 1].

    References: Kull et al. 2019, "Beyond Temperature Scaling", eq. 2 ("classwise-ECE").
    """
    gaps = (bins.hits - bins.probabilities).abs().sum().item()
    return gaps / (bins.samples * len(bins.counts))


def classwise_ece_floor(
    logits: Float[Tensor, "n k"],
    labels: Int64[Tensor, "n"],
    bins: int = BINS,
    draws: int = 20,
    seed: int = 0,
    block: int = BLOCK,
) -> float:
    """Noise floor: the class-wise ECE that a perfectly calibrated model measures on average.

    The mean over `draws`, with each label drawn from its sample's probabilities. A few draws are
    enough, as each is a mean over classes already. The labels themselves are only checked. The
    draws depend on `seed` and `block`.
    """
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    generator = torch.Generator().manual_seed(seed)
    count = logits.shape[1] * bins
    # A hit adds 1 to a cell of its draw; the sum of all probabilities is the same in each draw.
    excess = torch.zeros(draws * count, dtype=torch.float64)
    for _, probabilities, cells in _binned_blocks(logits, labels, bins, block):
        uniform = torch.rand(len(cells), draws, generator=generator, dtype=torch.float64)
        drawn = torch.searchsorted(probabilities.cumsum(dim=1), uniform, right=True)
        # The probabilities' sum can round to less than the draw.
        hits = cells.gather(1, drawn.clamp(max=logits.shape[1] - 1))
        hits += count * torch.arange(draws)
        excess += hits.flatten().bincount(minlength=len(excess))
        expected = cells.flatten().bincount(probabilities.flatten(), minlength=count)
        excess -= expected.repeat(draws)
    return excess.abs().sum().item() / (draws * logits.numel())


def classwise_ece_interval(
    logits: Float[Tensor, "n k"],
    labels: Int64[Tensor, "n"],
    bins: int = BINS,
    resamples: int = 200,
    level: float = 0.95,
    seed: int = 0,
    block: int = BLOCK,
) -> tuple[float, float]:
    """Bootstrap interval over samples of the class-wise ECE as measured on this many, in [0, 1].

    See `calibration.interval`. The work is proportional to resamples * N * K * M.
    """
    samples, classes = logits.shape
    normaliser = torch.cat(
        [
            logits[rows, 0].double() - values[:, 0]
            for rows, values in log_probabilities(logits, labels, block)
        ]
    )
    classes_at_once = max(1, block // (samples * bins))

    def statistic(counts: Counts) -> Array:
        resampled, total = torch.from_numpy(counts), torch.zeros(len(counts), dtype=torch.float64)
        for chosen in torch.arange(classes).split(classes_at_once):
            p = (logits[:, chosen].double() - normaliser[:, None]).exp().clamp(max=1)
            excess = (labels[:, None] == chosen).double() - p
            index = width_index(p.flatten(), bins).view(p.shape)
            spread = torch.zeros(samples, bins * len(chosen), dtype=torch.float64)
            spread.scatter_(1, index + bins * torch.arange(len(chosen)), excess)
            total += (resampled @ spread).abs().sum(dim=1)
        errors: Array = (total / (samples * classes)).numpy()
        return errors

    low, high = bootstrap_interval(statistic, samples, resamples, level, seed, block)
    return max(low, 0.0), min(high, 1.0)


def brier_parts(
    logits: Float[Tensor, "n k"],
    labels: Int64[Tensor, "n"],
    bins: ClassBins,
    block: int = BLOCK,
) -> BrierParts:
    """Decompose the Brier score class by class over the bins; each part is summed over classes.

    With p the mean probability and y the share of hits of a class in a bin, and q the class's share
    of all samples: reliability is the mean over samples of (p - y)^2, less is better. Uncertainty
    is q * (1 - q), a property of the data. Resolution is the mean of (y - q)^2, more is better,
    and includes the contribution of different probabilities within a bin (less their variance,
    plus twice their covariance with the hits), so that the sum holds exactly for any bins.

    References: Murphy 1973, "A New Vector Partition of the Probability Score"; Stephenson et al.
    2008, "Two Extra Components in the Brier Score Decomposition", for the terms within bins.
    """
    filled = bins.counts > 0
    gaps = (bins.probabilities - bins.hits)[filled].square() / bins.counts[filled]
    reliability = gaps.sum().item() / bins.samples
    share = bins.hits.sum(dim=1) / bins.samples
    uncertainty = (share * (1 - share)).sum().item()
    # The terms of resolution are what reliability and uncertainty leave of the score.
    resolution = reliability + uncertainty - brier(logits, labels, block)
    return BrierParts(reliability, resolution, uncertainty)


def _binned_blocks(
    logits: Tensor, labels: Tensor, bins: int, block: int
) -> Iterator[tuple[slice, Float[Tensor, "b k"], Int64[Tensor, "b k"]]]:
    """Yield samples of a block, their probabilities and cells (class * bins + bin), on the CPU."""
    first = bins * torch.arange(logits.shape[1])
    for rows, values in log_probabilities(logits, labels, block):
        probabilities = values.exp().cpu()
        index = width_index(probabilities.flatten(), bins).view(probabilities.shape)
        yield rows, probabilities, index + first
