"""The settings that a search tries: the rule's own, and steps away from it in two directions.

A ceiling of the confidence was a third one. It gained in short runs and lost in long ones, on the
images that decide (LOG.md).
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass, fields, replace
from itertools import count, islice

from softaug.recommend import Strength
from softaug_lab.recipes import expression_of

FACTOR = 1.6  # of sigma, for one step
STEP_OF_Q = 0.15
MOST_SIGMA, MOST_Q = 0.4, 0.5


@dataclass(frozen=True)
class Point:
    """A setting, in steps away from the rule's: 0 is the rule.

    sigma: steps of a factor 1.6 of the crop's strength. erase: steps of 0.15 of the probability
    that a rectangle is hidden.
    """

    sigma: float = 0.0
    erase: float = 0.0

    def __iter__(self) -> Iterator[float]:
        return iter(astuple(self))


DIRECTIONS = tuple(field.name for field in fields(Point))
# How far a winner may go: hardly further than the points that were tried.
BOUNDS = {"sigma": (-1.5, 1.5), "erase": (-1.0, 1.5)}
# In the order of what they are expected to gain. The first three already tell about sigma.
ROUND = (
    Point(),
    Point(sigma=1),
    Point(sigma=-1),
    Point(erase=1),
    Point(erase=-1),
)


def design(trials: int, rule: Strength) -> list[tuple[Point, int]]:
    """List so many (point, seed) to try: the same points again and again, each time a new seed.

    Points of one round share their seed, so that differences between them are paired. A point that
    a bound moves is listed where it lands, and left out where another point is.
    """
    points = dict.fromkeys(_within_bounds(point, rule) for point in ROUND)
    rounds = ((point, seed) for seed in count() for point in points)
    return list(islice(rounds, trials))


def bounds_around(rule: Strength) -> dict[str, tuple[float, float]]:
    """Return how far a winner may go from this rule: strengths have bounds of their own."""
    most_sigma = math.log(MOST_SIGMA / rule.sigma) / math.log(FACTOR)
    least, most = (-rule.erase / STEP_OF_Q, (MOST_Q - rule.erase) / STEP_OF_Q)
    own = {"sigma": (-math.inf, most_sigma), "erase": (least, most)}
    return {
        name: (max(low, own[name][0]), min(high, own[name][1]))
        for name, (low, high) in BOUNDS.items()
    }


def _within_bounds(point: Point, rule: Strength) -> Point:
    """Return the point that is trained for one."""
    limits = bounds_around(rule)
    moved = {
        name: min(max(x, limits[name][0]), limits[name][1]) for name, x in asdict(point).items()
    }
    return Point(**moved)


def arm_at(point: Point, rule: Strength) -> str:
    """Write the arm `auto` at a point around the rule's strength."""
    sigma = min(rule.sigma * FACTOR**point.sigma, MOST_SIGMA)
    erase = round(min(max(rule.erase + STEP_OF_Q * point.erase, 0.0), MOST_Q), 6)
    there = replace(rule, sigma=_short(sigma), erase=_short(erase))
    return f"auto@{expression_of(there)}"


def _short(value: float) -> float:
    """Round to three digits that count."""
    return float(f"{value:.3g}")
