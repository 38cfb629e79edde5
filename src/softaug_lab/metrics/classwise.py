"""Calibration of every class's probability, not of the largest alone; parts of the Brier score.

Logits [N,K] and labels int64 [N] in. n samples, k classes, b bins of equal width as in
`metrics.reliability`, the same for each class. Memory grows with N, with K * B and with the blocks
of `metrics.log_probabilities`, never with N * K.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from softaug_lab.metrics.calibration import BINS, bin_index
from softaug_lab.metrics.proper import brier, log_probabilities
from softaug_lab.metrics.significance import CHUNK, Counts, bootstrap_interval


@dataclass(frozen=True, eq=False)
class ClassBins:
    """For each class and bin: how many samples, the sum of their probabilities, their hits.

    A hit is a sample whose label is the class. float64 [K,B], a bin's count being over samples.
    """

    counts: Float[Tensor, "k b"]
    probabilities: Float[Tensor, "k b"]
    hits: Float[Tensor, "k b"]

    @property
    def samples(self) -> float:
        return self.counts[0].sum().item()


@dataclass(frozen=True)
class BrierParts:
    """reliability - resolution + uncertainty is the Brier score."""

    reliability: float
    resolution: float
    uncertainty: float


def class_bins(
    logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"], bins: int = BINS
) -> ClassBins:
    """Sort each class's probabilities into bins, and count."""
    shape = (logits.shape[1], bins)
    counts, sums, hits = torch.zeros(3, shape[0] * bins, dtype=torch.float64)
    for some, probabilities, cells in _blocks(logits, labels, bins):
        counts += cells.flatten().bincount(minlength=len(counts))
        sums += cells.flatten().bincount(probabilities.flatten(), minlength=len(sums))
        own = cells.gather(1, labels[some, None].cpu())[:, 0]
        hits += own.bincount(minlength=len(hits))
    return ClassBins(counts.view(shape), sums.view(shape), hits.view(shape))


def classwise_ece(bins: ClassBins) -> float:
    """The mean over classes of the binary ECE of that class's probability, in [0, 1].

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
) -> float:
    """The class-wise ECE that a perfectly calibrated model with these probabilities measures.

    The mean over `draws` with each label drawn from its sample's probabilities; few are enough, as
    each is a mean over classes already. labels are only checked.
    """
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    generator = torch.Generator().manual_seed(seed)
    count = logits.shape[1] * bins
    # A hit adds 1 to a cell of its draw; the sum of all probabilities is the same in each draw.
    excess = torch.zeros(draws * count, dtype=torch.float64)
    for _, probabilities, cells in _blocks(logits, labels, bins):
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
) -> tuple[float, float]:
    """Bootstrap interval over samples of the class-wise ECE as measured on this many, in [0, 1].

    See `calibration.interval`. The work is resamples * N * K * B.
    """
    samples, classes = logits.shape
    normaliser = torch.cat(
        [
            logits[some, 0].double() - block[:, 0]
            for some, block in log_probabilities(logits, labels)
        ]
    )
    together = max(1, CHUNK // (samples * bins))  # classes of one matrix product

    def statistic(counts: Counts) -> Counts:
        rows, total = torch.from_numpy(counts), torch.zeros(len(counts), dtype=torch.float64)
        for first in range(0, classes, together):
            some = torch.arange(first, min(first + together, classes))
            p = (logits[:, some].double() - normaliser[:, None]).exp().clamp(max=1)
            excess = (labels[:, None] == some).double() - p
            cells = bin_index(p.flatten(), bins).view(p.shape) + bins * torch.arange(len(some))
            spread = torch.zeros(samples, bins * len(some), dtype=torch.float64)
            total += (rows @ spread.scatter_(1, cells, excess)).abs().sum(dim=1)
        sizes: Counts = (total / (samples * classes)).numpy()
        return sizes

    low, high = bootstrap_interval(statistic, samples, resamples, level, seed)
    return max(low, 0.0), min(high, 1.0)


def brier_parts(
    logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"], bins: ClassBins
) -> BrierParts:
    """The Brier score of all classes, taken apart class by class in their bins; each part summed.

    With p the mean probability and y the share of hits of a class in a bin, q that class's share
    of all samples: reliability is the mean over samples of (p - y)^2, less is better; uncertainty
    q * (1 - q), the data's own; resolution the mean of (y - q)^2, more is better, with what
    becomes of the differences of probabilities within a bin (less their variance, plus twice their
    covariance with the hits), so that the sum holds exactly for whatever bins.

    References: Murphy 1973, "A New Vector Partition of the Probability Score"; Stephenson et al.
    2008, "Two Extra Components in the Brier Score Decomposition", for the terms within bins.
    """
    filled = bins.counts > 0
    gaps = (bins.probabilities - bins.hits)[filled].square() / bins.counts[filled]
    reliability = gaps.sum().item() / bins.samples
    share = bins.hits.sum(dim=1) / bins.samples
    uncertainty = (share * (1 - share)).sum().item()
    # The terms of resolution are what reliability and uncertainty leave of the score.
    resolution = reliability + uncertainty - brier(logits, labels)
    return BrierParts(reliability, resolution, uncertainty)


def _blocks(
    logits: Tensor, labels: Tensor, bins: int
) -> Iterator[tuple[slice, Float[Tensor, "some k"], Int64[Tensor, "some k"]]]:
    """Which samples, their probabilities, and the cell, class * bins + bin, of each; on the CPU."""
    first = bins * torch.arange(logits.shape[1])
    for some, block in log_probabilities(logits, labels):
        probabilities = block.exp().cpu()
        index = bin_index(probabilities.flatten(), bins).view(probabilities.shape)
        yield some, probabilities, index + first
