"""Calibration errors (ECE) of the top-1 confidence, with noise floor, interval and comparison.

Every error sums the excess, correct - confidence, over samples of similar confidence and measures
how far these sums are from 0. Similar is: in the same bin of equal width, in the same bin of equal
mass, or near by under a smooth kernel. n samples, r resamples; float64 on the CPU.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from softaug_lab.metrics.bins import (
    BINS,
    checked_confidence,
    mass_index,
    require_same_shape,
    width_index,
)
from softaug_lab.metrics.significance import (
    Array,
    Counts,
    Estimate,
    bootstrap_estimate,
    bootstrap_interval,
    paired_arrays,
)

GRID = 1024  # cells of the smooth error; its bandwidth is rarely narrower than five of them
HALVINGS = 20  # of [0, 1], the range of the bandwidth


@dataclass(frozen=True, eq=False)
class Cells:
    """Assignment of samples to cells: sample i adds share[i,j] of its excess to cell index[i,j].

    magnitude: turns sums of excess over cells [R,count], divided by N, into R errors in [0, 1].
    """

    index: Int64[Tensor, "n j"]
    share: Float[Tensor, "n j"]
    count: int
    magnitude: Callable[[Tensor], Tensor]

    def sums(self, excess: Float[Tensor, "n"]) -> Float[Tensor, "cells"]:
        """Sum the excess over each cell and divide by N."""
        weights = (self.share * excess[:, None]).flatten()
        return self.index.flatten().bincount(weights, minlength=self.count) / len(excess)

    def spread(self, excess: Float[Tensor, "n"]) -> Float[Tensor, "n cells"]:
        """Put the excess of each sample into the columns of its cells; other entries are 0."""
        blank = torch.zeros(len(excess), self.count, dtype=torch.float64)
        return blank.scatter_add_(1, self.index, self.share * excess[:, None])


def equal_width(confidence: Float[Tensor, "n"], bins: int = BINS) -> Cells:
    """Bins of equal width: the expected calibration error, in the field's usual form.

    References: Guo et al. 2017, "On Calibration of Modern Neural Networks", eq. 3.
    """
    return _binned(width_index(confidence, bins), bins)


def equal_mass(confidence: Float[Tensor, "n"], bins: int = BINS) -> Cells:
    """Bins that hold equally many samples, as `mass_index` sorts them."""
    return _binned(mass_index(confidence, bins), bins)


def smooth(confidence: Float[Tensor, "n"], grid: int = GRID) -> Cells:
    """SmoothECE: a Gaussian kernel, reflected at 0 and 1, in place of bins.

    The error at bandwidth s is the integral over t of abs(mean over samples of K_s(t, confidence)
    * (correct - confidence)). The error falls as s grows; SmoothECE is the value at which it
    equals s. Each excess is split over the two nearest of `grid` cells, so an error below 2 / grid
    is approximate.

    References: Blasiok & Nakkiran 2023, "Smooth ECE: Principled Reliability Diagrams via Kernel
    Smoothing", section 3.
    """
    place = checked_confidence(confidence).cpu() * grid - 0.5  # in cells, from the first centre
    below = place.floor()
    upper = place - below
    # Beyond the first and the last centre lies the reflection of that very cell.
    index = torch.stack([below, below + 1], dim=1).long().clamp(0, grid - 1)
    return Cells(index, torch.stack([1 - upper, upper], dim=1), grid, _fixed_points)


def error(cells: Cells, confidence: Float[Tensor, "n"], correct: Bool[Tensor, "n"]) -> float:
    """Calibration error of these samples, in [0, 1]."""
    return cells.magnitude(cells.sums(_excess(confidence, correct))[None]).item()


def floor(cells: Cells, confidence: Float[Tensor, "n"], draws: int = 200, seed: int = 0) -> float:
    """Noise floor: the error that a perfectly calibrated model measures on average.

    The mean over `draws` of the error with correct ~ Bernoulli(confidence): the part of the
    measured error that chance alone explains at this number of samples. The floor depends on
    `seed` alone, neither on the device nor on earlier calls.
    """
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    confidence = confidence.double().cpu()
    generator = torch.Generator().manual_seed(seed)
    sums = []
    for _ in range(draws):
        uniform = torch.rand(len(confidence), generator=generator, dtype=torch.float64)
        sums.append(cells.sums((uniform < confidence).double() - confidence))
    return cells.magnitude(torch.stack(sums)).mean().item()


def interval(
    cells: Cells,
    confidence: Float[Tensor, "n"],
    correct: Bool[Tensor, "n"],
    resamples: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Bootstrap interval over samples of the error as measured on this many, within [0, 1].

    Resamples keep the cells of the samples themselves. Noise lifts the interval as it lifts the
    error: the interval of a calibrated model lies about its `floor`, not about 0. See
    `significance.bootstrap_interval`.
    """
    excess = _excess(confidence, correct)

    def statistic(counts: Counts) -> Array:
        sums = torch.stack([cells.sums(torch.from_numpy(row) * excess) for row in counts])
        errors: Array = cells.magnitude(sums).numpy()
        return errors

    low, high = bootstrap_interval(statistic, len(excess), resamples, level, seed)
    return max(low, 0.0), min(high, 1.0)


def paired_bootstrap_ece(
    conf_a: npt.ArrayLike,
    correct_a: npt.ArrayLike,
    conf_b: npt.ArrayLike,
    correct_b: npt.ArrayLike,
    bins: int = BINS,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Bootstrap over test images of ECE(a) - ECE(b), the mean over seeds; all [seeds, images].

    conf: top-1 confidences in [0, 1]; correct: bool. The bins are of equal width. Images are
    resampled as in `paired_bootstrap`. The interval is for the difference as measured on this many
    images: noise lifts both ECEs (see `floor`), so the true difference tends to be larger.
    """
    confidence_a, confidence_b = paired_arrays(conf_a, conf_b)
    hits_a, hits_b = paired_arrays(correct_a, correct_b)
    if hits_a.shape != confidence_a.shape:
        raise ValueError(
            f"correct must have the shape of conf, {confidence_a.shape}, got {hits_a.shape}"
        )
    seeds, images = confidence_a.shape
    pairs = [*zip(confidence_a, hits_a, strict=True), *zip(confidence_b, hits_b, strict=True)]
    # The excess of each image in the columns of arm, seed and bin: an ECE is a sum over columns.
    excess = np.concatenate([_spread_excess(*pair, bins) for pair in pairs], axis=1)

    def statistic(counts: Counts) -> Array:
        gaps = np.abs(counts @ excess).reshape(len(counts), 2, seeds * bins).sum(axis=2)
        differences: Array = (gaps[:, 0] - gaps[:, 1]) / (images * seeds)
        return differences

    return bootstrap_estimate(statistic, images, resamples, level, seed)


def _spread_excess(confidence: Array, hits: Array, bins: int) -> Array:
    """Excess of each image of one seed in the column of its bin of equal width: [images, bins]."""
    spread = equal_width(torch.tensor(confidence), bins).spread(torch.tensor(hits - confidence))
    array: Array = spread.numpy()
    return array


def _binned(index: Tensor, bins: int) -> Cells:
    index = index.cpu()[:, None]
    share = torch.ones(index.shape, dtype=torch.float64)
    return Cells(index, share, bins, lambda sums: sums.abs().sum(dim=1))


def _fixed_points(sums: Float[Tensor, "r cells"]) -> Float[Tensor, "r"]:
    """Find each row's bandwidth that equals the smoothed error at this bandwidth.

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
    # The lower end, so that the result is exactly 0 where all sums are 0.
    return low[:, 0]


def _excess(confidence: Tensor, correct: Tensor) -> Tensor:
    require_same_shape(confidence, correct)
    return correct.double().cpu() - confidence.double().cpu()
