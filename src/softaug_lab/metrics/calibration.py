"""Calibration errors of the top-1 confidence, each with its noise floor and its interval.

They all sum the excess, correct - confidence, over samples of like confidence, and measure how far
these sums are from 0. They differ in what is like: the same bin of equal width, the same bin of
equal mass, or near by under a smooth kernel. n samples; float64 on the CPU.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from softaug_lab.metrics.significance import Counts, bootstrap_interval

BINS = 15
GRID = 1024  # cells of the smooth error, whose bandwidths are rarely below five of them
HALVINGS = 20  # of [0, 1], the range of the bandwidth


@dataclass(frozen=True, eq=False)
class Cells:
    """One way to sum excesses: sample i puts share[i,j] of its own into cell index[i,j].

    size: from sums [R,count], already divided by N, to R errors in [0, 1].
    """

    index: Int64[Tensor, "n j"]
    share: Float[Tensor, "n j"]
    count: int
    size: Callable[[Tensor], Tensor]

    def sums(self, excess: Float[Tensor, "n"]) -> Float[Tensor, "cells"]:
        """The sum of each cell, divided by N."""
        weights = (self.share * excess[:, None]).flatten()
        return self.index.flatten().bincount(weights, minlength=self.count) / len(excess)


def equal_width(confidence: Float[Tensor, "n"], bins: int = BINS) -> Cells:
    """Bins of equal width, those of `metrics.reliability`: the ECE of Guo et al. 2017, eq. 3."""
    return _binned(bin_index(confidence, bins), bins)


def equal_mass(confidence: Float[Tensor, "n"], bins: int = BINS) -> Cells:
    """Bins that hold equally many samples: see `mass_index`."""
    return _binned(mass_index(confidence, bins), bins)


def smooth(confidence: Float[Tensor, "n"], grid: int = GRID) -> Cells:
    """SmoothECE: no bins, but a Gaussian kernel reflected at 0 and 1, as wide as the error found.

    The error at bandwidth s is the integral over t of abs(mean over samples of K_s(t, confidence)
    * (correct - confidence)). It falls as s grows; SmoothECE is where it equals s. Excesses are
    split over the two nearest of `grid` cells, so an error below 2 / grid is a rough one.

    References: Blasiok & Nakkiran 2023, "Smooth ECE: Principled Reliability Diagrams via Kernel
    Smoothing", section 3.
    """
    place = _checked(confidence) * grid - 0.5  # in cells, from the centre of the first
    below = place.floor()
    upper = place - below
    # Beyond the first and the last centre lies the reflection of that very cell.
    index = torch.stack([below, below + 1], dim=1).long().clamp(0, grid - 1)
    return Cells(index, torch.stack([1 - upper, upper], dim=1), grid, _smooth_size)


def error(cells: Cells, confidence: Float[Tensor, "n"], correct: Bool[Tensor, "n"]) -> float:
    """The calibration error that these samples show, in [0, 1]."""
    return cells.size(cells.sums(_excess(confidence, correct))[None]).item()


def floor(cells: Cells, confidence: Float[Tensor, "n"], draws: int = 200, seed: int = 0) -> float:
    """The error that a perfectly calibrated model with these confidences measures on average.

    The mean over `draws` of the error with correct ~ Bernoulli(confidence): what chance alone puts
    on the figure at this number of samples. The same on every device and for every order of calls.
    """
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    confidence = confidence.double().cpu()
    generator = torch.Generator().manual_seed(seed)
    sums = []
    for _ in range(draws):
        uniform = torch.rand(len(confidence), generator=generator, dtype=torch.float64)
        sums.append(cells.sums((uniform < confidence).double() - confidence))
    return cells.size(torch.stack(sums)).mean().item()


def interval(
    cells: Cells,
    confidence: Float[Tensor, "n"],
    correct: Bool[Tensor, "n"],
    resamples: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Bootstrap interval over samples of the error as measured on this many, within [0, 1].

    The cells stay those of the samples themselves. The noise that lifts the error lifts the
    interval too: a calibrated model's lies about its `floor`, not about 0. See
    `stats.bootstrap_interval`.
    """
    excess = _excess(confidence, correct)

    def statistic(counts: Counts) -> Counts:
        sums = torch.stack([cells.sums(torch.from_numpy(row) * excess) for row in counts])
        sizes: Counts = cells.size(sums).numpy()
        return sizes

    low, high = bootstrap_interval(statistic, len(excess), resamples, level, seed)
    return max(low, 0.0), min(high, 1.0)


def bin_index(confidence: Float[Tensor, "n"], bins: int) -> Int64[Tensor, "n"]:
    """The bin of each confidence, in [0, bins): i where i / bins < confidence <= (i + 1) / bins.

    0 is in the first bin. 1 is in the last (torchmetrics 1.9.0 gives it one of its own).
    """
    _check_bins(bins)
    confidence = _checked(confidence, confidence.device)
    inner_edges = torch.arange(1, bins, dtype=torch.float64, device=confidence.device) / bins
    return torch.bucketize(confidence, inner_edges)


def mass_index(confidence: Float[Tensor, "n"], bins: int) -> Int64[Tensor, "n"]:
    """The bin of each confidence by its rank, in [0, bins): floor(bins * middle rank / N).

    Equal confidences share the middle of their ranks, so no bin's edge parts them and their order
    does not matter; where they are many, some bins hold more samples and others may be empty.
    Without ties the counts of two bins differ by at most 1.
    """
    _check_bins(bins)
    _, inverse, counts = _checked(confidence, confidence.device).unique(
        return_inverse=True, return_counts=True
    )
    # In whole numbers, as ranks that fall on an edge must not round.
    twice_middle = 2 * (counts.cumsum(dim=0) - counts) + counts
    index: Tensor = (twice_middle * bins // (2 * len(confidence)))[inverse]
    return index


def _binned(index: Tensor, bins: int) -> Cells:
    index = index.cpu()[:, None]
    share = torch.ones(index.shape, dtype=torch.float64)
    return Cells(index, share, bins, lambda sums: sums.abs().sum(dim=1))


def _smooth_size(sums: Float[Tensor, "r cells"]) -> Float[Tensor, "r"]:
    """Each row's fixed point: the bandwidth that equals the error at this bandwidth.

    The kernel is a random walk on the cells that is reflected at both ends. From a few cells on it
    is the reflected Gaussian; below, where a sampled Gaussian would not be, it is still positive
    and sums to 1, so that the error falls with the bandwidth and the fixed point is the only one.
    """
    count = sums.shape[1]
    # The row and its mirror image make one period of what reflection continues without end.
    spectrum = torch.fft.rfft(torch.cat([sums, sums.flip(1)], dim=1))
    frequency = torch.arange(count + 1, dtype=torch.float64) / count
    decay = count**2 * (1 - (torch.pi * frequency).cos())
    low, high = torch.zeros(len(sums), 1).double(), torch.ones(len(sums), 1).double()
    for _ in range(HALVINGS):
        bandwidth = (low + high) / 2
        smoothed = torch.fft.irfft(spectrum * (-(bandwidth**2) * decay).exp(), n=2 * count)
        above = smoothed[:, :count].abs().sum(dim=1, keepdim=True) > bandwidth
        low, high = torch.where(above, bandwidth, low), torch.where(above, high, bandwidth)
    # An error of 0 is found as exactly that.
    return low[:, 0]


def _excess(confidence: Tensor, correct: Tensor) -> Tensor:
    if correct.shape != confidence.shape:
        raise ValueError(
            f"correct must be [N] = {list(confidence.shape)}, got {list(correct.shape)}"
        )
    return correct.double().cpu() - confidence.double().cpu()


def _checked(confidence: Tensor, device: torch.device | str = "cpu") -> Tensor:
    """The confidences as float64; ValueError unless they are [N], N >= 1, each in [0, 1]."""
    if confidence.ndim != 1 or len(confidence) == 0:
        raise ValueError(f"confidence must be [N] with N >= 1, got {list(confidence.shape)}")
    # A NaN fails both comparisons, so this refuses it too.
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise ValueError("confidence must be in [0, 1]")
    return confidence.double().to(device)


def _check_bins(bins: int) -> None:
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
