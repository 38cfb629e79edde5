"""A quadratic around the rule, fitted to the scores of few runs, and what it allows to conclude."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from softaug_lab.metrics import NEAR
from softaug_lab.tuning.design import BOUNDS, DIRECTIONS, Point

Array = NDArray[np.float64]
DEGREES = 3.0  # runs that the noise thought likely is worth
GRID = 301
TOLERANCE = 1e-9  # relative, of the noise
MOST_PRICE = NEAR["top1_error"]  # of error on whole images, for all steps together


@dataclass(frozen=True)
class Prior:
    """What is thought likely before any run, as shares of the mean score of the runs.

    curvature: what one step away from the optimum costs. slope: how much the rule may be off, as a
    difference between neighbouring points. noise: standard deviation of a run's score, after that
    of its seed.
    """

    curvature: float
    slope: float
    noise: float


@dataclass(frozen=True)
class Choice:
    """What the fit says about one direction: the best place, its gain there, and how sure.

    best: steps from the rule. gain: of the score against the rule, >= 0; error: its standard error.
    price: how much higher the error on whole images is there, where that was fitted too. taken:
    whether the winner goes there.
    """

    direction: str
    best: float
    gain: float
    error: float
    price: float | None = None
    taken: bool = False


@dataclass(frozen=True, eq=False)
class Surface:
    """score = a of the seed + sum over directions of (slope x + curvature x^2), lower is better.

    mean: slopes and curvatures, [2 D] in the order of DIRECTIONS. covariance: theirs, [2 D, 2 D].
    noise: standard deviation of a run's score. whole: the fit to the error on whole images, which
    may rise by MOST_PRICE; None where it may rise by anything. bounds: steps that may be taken.
    """

    mean: Array
    covariance: Array
    noise: float
    whole: "Surface | None" = None
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=lambda: BOUNDS)

    def difference(self, direction: str, x: Array) -> tuple[Array, Array]:
        """Return the score at places x minus that of the rule, and its standard error."""
        i = 2 * DIRECTIONS.index(direction)
        basis = np.stack([x, x**2], axis=-1)
        variance = np.einsum(
            "...i,ij,...j->...", basis, self.covariance[i : i + 2, i : i + 2], basis
        )
        return basis @ self.mean[i : i + 2], np.sqrt(variance)

    def choices(self) -> list[Choice]:
        """Find the best place in each direction, and take it where the gain is above its error.

        Those that gain most come first, as long as the price of all that are taken is allowed.
        """
        found = [self._choice(direction) for direction in DIRECTIONS]
        left, taken = MOST_PRICE, set()
        for choice in sorted(found, key=lambda choice: -choice.gain):
            price = max(0.0, choice.price or 0.0)
            if choice.gain > choice.error and price <= left:
                left -= price
                taken.add(choice.direction)
        return [replace(choice, taken=choice.direction in taken) for choice in found]

    def _choice(self, direction: str) -> Choice:
        x = np.linspace(*self.bounds[direction], GRID)
        price = None if self.whole is None else self.whole.difference(direction, x)[0]
        if price is not None:
            x, price = x[price <= MOST_PRICE], price[price <= MOST_PRICE]
        difference, error = self.difference(direction, x)
        best = int(difference.argmin())
        paid = None if price is None else float(price[best])
        return Choice(direction, float(x[best]), float(-difference[best]), float(error[best]), paid)

    def winner(self) -> Point:
        """Return the point to train at: the rule's, moved by the choices that are taken."""
        return Point(**{choice.direction: choice.best for choice in self.choices() if choice.taken})


def fit_surface(
    points: Sequence[Point], seeds: Sequence[int], scores: Sequence[float], prior: Prior
) -> Surface:
    """Fit the quadratic to the scores of runs by Bayesian linear regression with known priors.

    Each seed has a level of its own, so that only differences within a seed tell about the points.
    The noise is what the runs leave unexplained, joined with that thought likely before.
    """
    levels = np.equal.outer(np.asarray(seeds), np.unique(seeds)).astype(float)
    steps = np.array([[value for x in point for value in (x, x * x)] for point in points])
    design = np.concatenate([levels, steps], axis=1)
    free = levels.shape[1]
    directions = len(DIRECTIONS)
    expected = np.concatenate([np.zeros(free), np.tile([0.0, prior.curvature], directions)])
    # A level may be anything; a quadratic opens upward with the curvature that is likely.
    spread = np.concatenate(
        [np.full(free, 100.0), np.tile([prior.slope, prior.curvature], directions)]
    )
    y = np.asarray(scores, dtype=float)
    level = abs(float(y.mean())) or 1.0  # of scores that are all 0, which say that nothing gains
    expected, spread, likely_noise = level * expected, level * spread, level * prior.noise
    y = y - y.mean()
    noise, before = likely_noise, 0.0
    while abs(noise - before) > TOLERANCE * noise:
        before = noise
        precision = design.T @ design / noise**2 + np.diag(1 / spread**2)
        covariance = np.linalg.inv(precision)
        mean = covariance @ (design.T @ y / noise**2 + expected / spread**2)
        used = np.trace(covariance @ (design.T @ design)) / noise**2
        left = float(((y - design @ mean) ** 2).sum())
        noise = ((DEGREES * likely_noise**2 + left) / (DEGREES + max(0.0, len(y) - used))) ** 0.5
    return Surface(mean[free:], covariance[free:, free:], float(noise))
