"""Significance of a difference: paired t over seeds, paired bootstrap over images, Holm, power.

A difference is arm minus arm on the same seeds and the same test images. The paired t interval
generalises to other seeds, the paired bootstrap to other test images for these very models. These
are two different questions, and a claim needs both.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MAX_SEEDS = 10_000
BLOCK = 4_000_000  # entries of resample counts that are held at once: 32 MB
Array = npt.NDArray[np.float64]
Counts = Array  # how often each image is in each resample [r,images]
Statistic = Callable[[Counts], Array]  # from resamples to the value on each [r]


@dataclass(frozen=True)
class Estimate:
    """Mean difference, its confidence interval, and the two-sided p value of no difference."""

    mean: float
    low: float
    high: float
    p: float


def paired_t(differences: npt.ArrayLike, level: float = 0.95) -> Estimate | None:
    """Student's paired t over seeds, n - 1 degrees of freedom; differences: [seeds].

    None where the seeds do not show their spread: fewer than two seeds, or the same nonzero
    difference for all of them (on few test images two seeds often tie, and a variance of 0 would
    claim p = 0). Differences that are all 0 give the interval [0, 0] and p = 1.
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
    block: int = BLOCK,
) -> Estimate:
    """Bootstrap over test images of the mean of a - b; a, b: per-image losses [seeds, images].

    Each resample draws images with replacement, the same ones for both arms and all seeds, so the
    interval holds for these very models and does not generalise to other seeds. For the interval
    and the p value see `bootstrap_estimate`.
    """
    first, second = paired_arrays(a, b)
    per_image = (first - second).mean(axis=0)

    def statistic(counts: Counts) -> Array:
        means: Array = counts @ per_image / len(per_image)
        return means

    return bootstrap_estimate(statistic, len(per_image), resamples, level, seed, block)


def bootstrap_estimate(
    statistic: Statistic,
    images: int,
    resamples: int,
    level: float,
    seed: int,
    block: int = BLOCK,
) -> Estimate:
    """Evaluate a statistic on the images themselves, with its bootstrap interval and p value.

    The interval is the percentile interval, shifted so that the resamples' mean falls on the
    observed value: resampling adds noise that lifts every ECE, that of the better calibrated arm
    the most, and the unshifted interval of an ECE difference can miss the observed value
    altogether. For a mean the shift is 0. p = (count + 1) / (resamples + 1), where count is the
    number of resamples whose error is at least as large as the observed value, both signs
    together; so p is never 0.
    """
    observed, errors = _resample(statistic, images, resamples, level, seed, block)
    low, high = _ends(observed, errors, level)
    count = int((np.abs(errors) >= abs(observed)).sum())
    return Estimate(observed, low, high, (count + 1) / (resamples + 1))


def bootstrap_interval(
    statistic: Statistic,
    images: int,
    resamples: int = 500,
    level: float = 0.95,
    seed: int = 0,
    block: int = BLOCK,
) -> tuple[float, float]:
    """Bootstrap interval over test images of a metric of one model; its lower and upper end.

    The interval is shifted as in `bootstrap_estimate`: it is for the metric as measured on this
    many images, with the noise that this many images bring.
    """
    observed, errors = _resample(statistic, images, resamples, level, seed, block)
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

    The observed mean and standard deviation stand in for the true ones, so the result is a rough
    guide after few seeds. None for fewer than two seeds, a mean of 0, no spread (see `paired_t`),
    or more than 10,000 seeds.
    """
    values = _finite(differences, "differences", dimensions=1)
    _check_level(level)
    if not 0 < power < 1:
        raise ValueError(f"power must be in (0, 1), got {power}")
    if len(values) < 2 or values.mean() == 0 or _no_spread(values):
        return None
    effect = abs(float(values.mean() / values.std(ddof=1)))
    if _power(effect, MAX_SEEDS, level) < power:
        return None
    # Power grows with n: halve the range in which it crosses.
    too_few, enough = 1, MAX_SEEDS
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if _power(effect, middle, level) < power:
            too_few = middle
        else:
            enough = middle
    return enough


def resample_counts(images: int, resamples: int, seed: int, block: int = BLOCK) -> Iterator[Counts]:
    """Draw how often each image is in each resample; yield blocks [r,images] of float64.

    A block has at most `block` entries, or one resample.
    """
    generator = np.random.default_rng(seed)
    rows_at_once = max(1, block // images)
    for start in range(0, resamples, rows_at_once):
        rows = min(rows_at_once, resamples - start)
        drawn = generator.integers(images, size=(rows, images))
        drawn += images * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * images)
        yield counts.reshape(rows, images).astype(np.float64)


def paired_arrays(a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[Array, Array]:
    """Return two float64 arrays [seeds, images] of one shape; raise ValueError for other shapes."""
    first, second = _finite(a, "a", dimensions=2), _finite(b, "b", dimensions=2)
    if first.shape != second.shape or first.size == 0:
        raise ValueError(
            f"both arms must be [seeds, images] of one shape, got {first.shape} and {second.shape}"
        )
    return first, second


def _power(effect: float, n: int, level: float) -> float:
    """Chance that a two-sided paired t test of n seeds rejects; effect: true mean / true sd."""
    from scipy import special

    threshold = special.stdtrit(n - 1, (1 + level) / 2)
    shift = effect * n**0.5
    upper = special.nctdtr(n - 1, shift, threshold)
    # Where the far tail underflows, scipy returns NaN for a value that is practically 0.
    lower = np.nan_to_num(special.nctdtr(n - 1, shift, -threshold))
    return float(1 - upper + lower)


def _resample(
    statistic: Statistic, images: int, resamples: int, level: float, seed: int, block: int
) -> tuple[float, Array]:
    """Return the statistic on the images themselves, and resamples' deviations from their mean."""
    _check_level(level)
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    observed = float(statistic(np.ones((1, images)))[0])
    resampled = np.concatenate(
        [statistic(counts) for counts in resample_counts(images, resamples, seed, block)],
    )
    return observed, resampled - resampled.mean()


def _ends(observed: float, errors: Array, level: float) -> tuple[float, float]:
    low, high = observed + np.quantile(errors, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _no_spread(values: Array) -> bool:
    """Whether all values are equal up to the rounding of the subtraction they came from."""
    return bool(np.ptp(values) <= 1e-9 * np.abs(values).max())


def _finite(values: npt.ArrayLike, name: str, dimensions: int) -> Array:
    """Return the values as float64; ValueError for another number of axes, NaN or infinity."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != dimensions:
        raise ValueError(f"{name} must have {dimensions} axes, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite")
    return array


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}")
