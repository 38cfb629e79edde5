"""Is a difference larger than chance: over seeds, over test images, and over many questions.

A difference is arm minus arm on the same seeds and the same test images. The paired t interval
speaks of other seeds, the paired bootstrap of other test images for these very models; they are
two different questions, and a claim needs both.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MOST_SEEDS = 10_000
CHUNK = 4_000_000  # entries of a block of resamples: 32 MB at a time
Counts = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean difference, its confidence interval, and the two-sided p for no difference."""

    mean: float
    low: float
    high: float
    p: float


def paired_t(differences: npt.ArrayLike, level: float = 0.95) -> Estimate | None:
    """Student's paired t over seeds, n - 1 degrees of freedom; differences: [seeds].

    None where the seeds say nothing of their spread: fewer than two, or all of them the same
    nonzero difference (on few test images two seeds often tie, and a variance of 0 would claim
    p = 0). Differences that are all 0 give the interval [0, 0] and p = 1.
    """
    from scipy import special

    values = _finite(differences, "differences", dimensions=1)
    _check_level(level)
    if len(values) < 2:
        return None
    if not values.any():
        return Estimate(0.0, 0.0, 0.0, 1.0)
    if _no_spread(values):
        return None
    freedom = len(values) - 1
    mean = float(values.mean())
    error = float(values.std(ddof=1)) / len(values) ** 0.5
    half = float(special.stdtrit(freedom, (1 + level) / 2)) * error
    p = 2 * float(special.stdtr(freedom, -abs(mean) / error))
    return Estimate(mean, mean - half, mean + half, p)


def paired_bootstrap(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Bootstrap over test images of the mean of a - b; a, b: per-image losses [seeds, images].

    Each resample draws images with replacement, the same ones for both arms and all seeds, so the
    interval holds for these very models and says nothing of other seeds. For the interval and the
    p see `_estimate`.
    """
    first, second = _pair(a, b)
    per_image = (first - second).mean(axis=0)

    def statistic(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        means: npt.NDArray[np.float64] = counts @ per_image / len(per_image)
        return means

    return _estimate(statistic, len(per_image), resamples, level, seed)


def paired_bootstrap_ece(
    conf_a: npt.ArrayLike,
    correct_a: npt.ArrayLike,
    conf_b: npt.ArrayLike,
    correct_b: npt.ArrayLike,
    bins: int = 15,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Bootstrap over test images of ECE(a) - ECE(b), the mean over seeds; all [seeds, images].

    conf: top-1 confidences in [0, 1]; correct: bool. Bins as in `metrics.reliability`. Images are
    resampled as in `paired_bootstrap`. The interval is for the difference as measured on this many
    images: noise lifts both ECEs (see `metrics.ece_floor`), so the true one tends to be larger.
    """
    confidence_a, confidence_b = _pair(conf_a, conf_b)
    hits_a, hits_b = _pair(correct_a, correct_b)
    if hits_a.shape != confidence_a.shape:
        raise ValueError(
            f"correct must have the shape of conf, {confidence_a.shape}, got {hits_a.shape}"
        )
    seeds, images = confidence_a.shape
    excess = np.concatenate(
        [_binned_excess(confidence_a, hits_a, bins), _binned_excess(confidence_b, hits_b, bins)],
        axis=1,
    )

    def statistic(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        gaps = np.abs(counts @ excess).reshape(len(counts), 2, seeds * bins).sum(axis=2)
        differences: npt.NDArray[np.float64] = (gaps[:, 0] - gaps[:, 1]) / (images * seeds)
        return differences

    return _estimate(statistic, images, resamples, level, seed)


def bootstrap_interval(
    statistic: Callable[[Counts], Counts],
    images: int,
    resamples: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Interval over test images of one model's figure, such as an ECE; its ends, low and high.

    statistic: from how often each image is in each resample, [some resamples, images], to the
    figure on each. The interval is moved as in `_estimate`: it is that of the figure as measured
    on this many images, with the noise that many images bring.
    """
    observed, errors = _resample(statistic, images, resamples, level, seed)
    return _ends(observed, errors, level)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment of p values; None (no test was made) stays and is not counted.

    References: Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".
    """
    tested = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for position, (p, i) in enumerate(tested):
        if not 0 <= p <= 1:
            raise ValueError(f"p values must be in [0, 1], got {p}")
        largest = max(largest, min(1.0, (len(tested) - position) * p))
        adjusted[i] = largest
    return adjusted


def seeds_needed(differences: npt.ArrayLike, level: float = 0.95, power: float = 0.8) -> int | None:
    """Fewest seeds at which a paired t test finds a difference like this one; differences: [seeds].

    Takes the observed mean and standard deviation for the true ones, so it is a rough guide after
    few seeds. None for fewer than two seeds, a mean of 0, no spread (see `paired_t`), or more
    than 10,000 seeds.
    """
    values = _finite(differences, "differences", dimensions=1)
    _check_level(level)
    if not 0 < power < 1:
        raise ValueError(f"power must be in (0, 1), got {power}")
    if len(values) < 2 or values.mean() == 0 or _no_spread(values):
        return None
    effect = abs(float(values.mean() / values.std(ddof=1)))
    if _power(effect, MOST_SEEDS, level) < power:
        return None
    # Power grows with n: halve the range in which it crosses.
    too_few, enough = 1, MOST_SEEDS
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if _power(effect, middle, level) < power:
            too_few = middle
        else:
            enough = middle
    return enough


def _power(effect: float, n: int, level: float) -> float:
    """Chance that a two-sided paired t test of n seeds rejects; effect: true mean / true sd."""
    from scipy import special

    threshold = special.stdtrit(n - 1, (1 + level) / 2)
    shift = effect * n**0.5
    upper = special.nctdtr(n - 1, shift, threshold)
    # Where the far tail underflows, scipy gives NaN for what is as good as 0.
    lower = np.nan_to_num(special.nctdtr(n - 1, shift, -threshold))
    return float(1 - upper + lower)


def _estimate(
    statistic: Callable[[Counts], Counts],
    images: int,
    resamples: int,
    level: float,
    seed: int,
) -> Estimate:
    """The statistic on the images themselves, with its bootstrap interval and p.

    The interval is the percentile one, moved so that the resamples' mean falls on the observed
    value: resampling adds noise that lifts every ECE, the better calibrated arm's the most, and
    the unmoved interval of an ECE difference can miss the observed value altogether. For a mean
    nothing moves. p = (count + 1) / (resamples + 1) with count the resamples whose error is at
    least as large as the observed value, both signs together; so p is never 0.
    """
    observed, errors = _resample(statistic, images, resamples, level, seed)
    low, high = _ends(observed, errors, level)
    count = int((np.abs(errors) >= abs(observed)).sum())
    return Estimate(observed, low, high, (count + 1) / (resamples + 1))


def _resample(
    statistic: Callable[[Counts], Counts], images: int, resamples: int, level: float, seed: int
) -> tuple[float, Counts]:
    """The statistic on the images themselves, and the resamples' deviations from their mean."""
    _check_level(level)
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    observed = float(statistic(np.ones((1, images)))[0])
    resampled = np.concatenate(
        [statistic(counts) for counts in _counts(images, resamples, seed)],
    )
    return observed, resampled - resampled.mean()


def _ends(observed: float, errors: Counts, level: float) -> tuple[float, float]:
    low, high = observed + np.quantile(errors, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _counts(images: int, resamples: int, seed: int) -> Iterator[npt.NDArray[np.float64]]:
    """How often each image is in each resample, in blocks [some resamples, images] of float64."""
    generator = np.random.default_rng(seed)
    block = max(1, CHUNK // images)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = generator.integers(images, size=(rows, images))
        drawn += images * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * images)
        yield counts.reshape(rows, images).astype(np.float64)


def _binned_excess(
    confidence: npt.NDArray[np.float64], hits: npt.NDArray[np.float64], bins: int
) -> npt.NDArray[np.float64]:
    """correct - confidence of each image in the column of its seed and bin: [images, seeds*bins].

    A bin's count times its calibration gap is its summed excess, so resampled ECEs are one product.
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    if (confidence < 0).any() or (confidence > 1).any():
        raise ValueError("conf must be in [0, 1]")
    seeds, images = confidence.shape
    index = np.searchsorted(np.arange(1, bins) / bins, confidence)
    excess = np.zeros((images, seeds, bins))
    np.put_along_axis(excess, index.T[:, :, None], (hits - confidence).T[:, :, None], axis=2)
    return excess.reshape(images, seeds * bins)


def _no_spread(values: npt.NDArray[np.float64]) -> bool:
    """Whether all values are the same but for the rounding of the subtraction they came from."""
    return bool(np.ptp(values) <= 1e-9 * np.abs(values).max())


def _pair(
    a: npt.ArrayLike, b: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Two float64 arrays [seeds, images] of one shape."""
    first, second = _finite(a, "a", dimensions=2), _finite(b, "b", dimensions=2)
    if first.shape != second.shape or first.size == 0:
        raise ValueError(
            f"both arms must be [seeds, images] of one shape, got {first.shape} and {second.shape}"
        )
    return first, second


def _finite(values: npt.ArrayLike, name: str, dimensions: int) -> npt.NDArray[np.float64]:
    """The values as a float64 array; ValueError for another number of axes, NaN or infinity."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != dimensions:
        raise ValueError(f"{name} must have {dimensions} axes, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite")
    return array


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}")
