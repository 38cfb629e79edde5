"""The answer of a comparison: which arm to use, by how much, and how sure that is."""

import math
from typing import Any

import numpy as np

from softaug_lab.metrics import HEADLINE_PERCENT, NEAR, paired_t
from softaug_lab.recipes import role_of
from softaug_lab.report.prepare import (
    arm_names,
    evaluations_of,
    figure,
    mean_and_sd,
    runs_of,
    seed_count,
)

Results = dict[str, Any]

NEAR_IN_WORDS = (
    f"within {100 * NEAR['top1_error']:g} points of the lowest top-1 error and within "
    f"{NEAR['nll']:g} of the lowest NLL on whole images"
)
CHOSEN_BY = "mix_nll"


def answer(results: Results) -> list[str]:
    """Name the arm to use in one sentence, and compare it with the standard crop in a second.

    Empty for a comparison whose evaluations lack the mix, or of a single arm.
    """
    figures = {arm: _means(results, arm) for arm in arm_names(results)}
    if len(figures) < 2 or any(math.isnan(v) for one in figures.values() for v in one.values()):
        return []
    arm, near = recommended_arm(figures)
    why = _why(arm, near, figures)
    return [_may_be_chance(results, arm, why), *_by_how_much(results, arm)]


def recommended_arm(figures: dict[str, dict[str, float]]) -> tuple[str, list[str]]:
    """Choose the arm with the lowest NLL of the mix among those near the best on whole images.

    Near are arms within NEAR of the lowest top-1 error and of the lowest NLL after temperature;
    where no arm is near in both, the one with the lowest top-1 error is chosen. Returns it, and the
    arms that are near.
    """
    best = {key: min(one[key] for one in figures.values()) for key in NEAR}
    near = [
        arm
        for arm, one in figures.items()
        if all(one[key] <= best[key] + NEAR[key] for key in NEAR)
    ]
    if not near:
        return min(figures, key=lambda arm: figures[arm]["top1_error"]), []
    return min(near, key=lambda arm: figures[arm][CHOSEN_BY]), near


def _means(results: Results, arm: str) -> dict[str, float]:
    """Mean figures over seeds; NaN where a figure is missing."""
    evaluations = evaluations_of(results, arm)
    keys = {"top1_error": "top1_error", "nll": "scaled_nll", CHOSEN_BY: CHOSEN_BY}
    return {
        name: mean_and_sd([_figure(one, key, name) for one in evaluations])[0]
        for name, key in keys.items()
    }


def _figure(evaluation: dict[str, Any], key: str, otherwise: str) -> float:
    found = figure(evaluation, key)
    return figure(evaluation, otherwise) if math.isnan(found) else found


def _why(arm: str, near: list[str], figures: dict[str, dict[str, float]]) -> str:
    error = f"{100 * figures[arm]['top1_error']:.1f} %"
    if not near:
        return (
            f"Use {arm}: its top-1 error on whole images is the lowest, {error}. No arm is "
            f"{NEAR_IN_WORDS}, so nothing else decides."
        )
    others = [other for other in near if other != arm]
    mix = f"{figures[arm][CHOSEN_BY]:.3f}"
    if not others:
        return f"Use {arm}: no other arm is {NEAR_IN_WORDS}. Its top-1 error is {error}."
    second = min(others, key=lambda other: figures[other][CHOSEN_BY])
    return (
        f"Use {arm}: of the {len(near)} arms that are {NEAR_IN_WORDS}, it has the lowest NLL of "
        f"the mix of whole, cut-off and hidden images, {mix}; {second} has "
        f"{figures[second][CHOSEN_BY]:.3f}."
    )


def _may_be_chance(results: Results, arm: str, why: str) -> str:
    """Begin a sentence with the doubt, where no tested difference of the arm exceeds chance."""
    tested = [one for one in results["comparisons"] if arm in (one["arm"], one["against"])]
    seeds = seed_count(results)
    if seeds < 2 or not tested or any(one["larger_than_chance"] for one in tested):
        return why
    return (
        f"No difference of {arm} from another arm is larger than chance with {seeds} seeds; by the "
        f"means, {why[0].lower()}{why[1:]}"
    )


def _by_how_much(results: Results, arm: str) -> list[str]:
    """Give the differences to the standard crop with their intervals over seeds."""
    standard = next((name for name in arm_names(results) if role_of(name) == "standard"), None)
    if standard is None or standard == arm:
        return []
    named = {
        "top1_error": "on whole images",
        "cut_off_error": f"with {HEADLINE_PERCENT} cut off",
        "hidden_error": f"with {HEADLINE_PERCENT} hidden",
    }
    parts = []
    for key, words in named.items():
        first, second = (_by_seed(results, name, key) for name in (arm, standard))
        seeds = sorted(set(first) & set(second))
        parts.append(f"{_difference([first[s] - second[s] for s in seeds])} {words}")
    sure = (
        "One seed cannot tell these differences from chance."
        if seed_count(results) < 2
        else "In brackets, 95 % intervals over seeds."
    )
    return [
        f"Its top-1 error minus that of the standard crop, in points: {'; '.join(parts)}. {sure}"
    ]


def _by_seed(results: Results, arm: str, key: str) -> dict[int, float]:
    found = {run["seed"]: run.get("evaluation") for run in runs_of(results, arm)}
    return {seed: figure(one, key) for seed, one in found.items() if one}


def _difference(values: list[float]) -> str:
    """Format the mean of paired differences of errors, with its interval where there is one."""
    if not values or any(math.isnan(value) for value in values):
        return "not measured"
    text = _signed(float(np.mean(values)))
    over_seeds = paired_t(np.array(values))
    if over_seeds is None:
        return text
    return f"{text} ({_signed(over_seeds.low)} to {_signed(over_seeds.high)})"


def _signed(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "\N{MINUS SIGN}")
