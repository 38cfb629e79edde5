"""How often a search leaves the rule and what it gains: the decision of tune on made-up scores.

    python scripts/simulate_tuning.py

A score of 1.5 of which a step of sigma away from the optimum costs 0.03, and so does a step in each
other direction. Rows: number of short runs, how many steps the rule's sigma is off; then for each
noise of a run the share of searches that move and the mean change of the true score.
"""

import numpy as np

from softaug.recommend import strength
from softaug_lab.tuning import OBJECTIVES
from softaug_lab.tuning.design import Point, design
from softaug_lab.tuning.surface import fit_surface

SEARCHES, LEVEL, COST, SEED_SPREAD = 300, 1.5, 0.03, 0.05
NOISES = (0.03, 0.06, 0.09)
RULE = strength(epochs=30, images=10_000, side=32)


def true_score(point: Point, off: float) -> float:
    """The score of a point against that of the rule, where the optimum is so many steps off."""
    return COST * ((point.sigma - off) ** 2 - off**2 + point.erase**2)


def simulate(runs: int, off: float, noise: float) -> tuple[float, float]:
    """Return the share of searches that leave the rule, and the mean change of the true score."""
    random = np.random.default_rng(0)
    points, seeds = zip(*design(runs, RULE), strict=True)
    winners = []
    for _ in range(SEARCHES):
        levels = random.normal(LEVEL, SEED_SPREAD, max(seeds) + 1)
        scores = [
            levels[seed] + true_score(point, off) + random.normal(0, noise)
            for point, seed in zip(points, seeds, strict=True)
        ]
        winners.append(fit_surface(points, seeds, scores, OBJECTIVES["mix_nll"].prior).winner())
    moved = float(np.mean([winner != Point() for winner in winners]))
    return moved, float(np.mean([true_score(winner, off) for winner in winners]))


def main() -> None:
    """Print the table."""
    print("runs  off  " + "  ".join(f"noise {noise:g}: moved, change" for noise in NOISES))
    for runs in (3, 6, 9, 14, 24):
        for off in (0.0, 0.5, 1.0, -1.0):
            found = [simulate(runs, off, noise) for noise in NOISES]
            cells = "  ".join(f"{moved:18.0%} {change:+.3f}" for moved, change in found)
            print(f"{runs:4d} {off:4g}  {cells}")


if __name__ == "__main__":
    main()
