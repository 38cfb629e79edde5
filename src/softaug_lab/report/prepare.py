"""Plain arrays for the drawings and tables of a report, computed from its record alone.

A value that is absent, None or not finite becomes NaN, so that a record with holes still gives a
page. s seeds, p points of a line, b bins.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from softaug_lab.basics.errors import UsageError
from softaug_lab.metrics import KINDS as VIEW_KINDS
from softaug_lab.metrics import recorded
from softaug_lab.recipes import read_arm, role_of, swept

Results = dict[str, Any]
Array = npt.NDArray[np.float64]

KINDS = {kind: kind.replace("_", " ") for kind in VIEW_KINDS}  # of views, with their words
DRAWN = 8  # most arms with lines and pictures of their own; the eye cannot distinguish more


@dataclass(frozen=True)
class Lines:
    """One arm in one panel: x [p], and y [s,p] with a row for each seed."""

    arm: str
    x: Array
    y: Array


@dataclass(frozen=True)
class Promise:
    """The curve of a run's targets, in percent: what its confidence should be for so much visible.

    x, y: visibility and confidence [p]. images: of the test, by which its accuracy is known.
    """

    x: Array
    y: Array
    images: int


@dataclass(frozen=True)
class Reliability:
    """One arm's bins, pooled over seeds, all [b]; confidence and accuracy are NaN in empty bins.

    ece: the mean of the seeds' ECE, in [0, 1], as in the table; not the ECE of the pooled bins.
    """

    arm: str
    low: Array
    width: Array
    count: Array
    confidence: Array
    accuracy: Array
    ece: float


def number(value: object) -> float:
    """Convert to a finite float; NaN for None, infinity and anything that is not a number."""
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan
    return found if math.isfinite(found) else math.nan


def arm_names(results: Results) -> list[str]:
    """The arms that the record has anything of, in its order."""
    named = [arm["name"] for arm in results["arms"]]
    used = [one["arm"] for part in ("runs", "samples", "softening") for one in results[part]]
    return list(dict.fromkeys([*named, *used]))


def without_labels(arm: str) -> bool:
    """Whether the arm trains without labels; False for an arm unknown to this version."""
    try:
        return read_arm(arm).self_supervised
    except UsageError:
        return False


def drawn_arms(results: Results) -> list[str]:
    """All arms, or DRAWN of them: arms without settings of their own, and others evenly spread.

    The choice depends on names and order alone, never on results.
    """
    names = arm_names(results)
    if len(names) <= DRAWN:
        return names
    plain = [name for name in names if not set(name) & set("@(")][:DRAWN]
    rest = [name for name in names if name not in plain]
    spread = np.linspace(0, len(rest) - 1, DRAWN - len(plain)).round().astype(int)
    chosen = {*plain, *(rest[i] for i in spread)}
    return [name for name in names if name in chosen]


def only(results: Results, arms: list[str]) -> Results:
    """The record restricted to these arms."""
    parts = {
        part: [one for one in results[part] if one["arm"] in arms]
        for part in ("runs", "samples", "softening")
    }
    return {**results, **parts, "arms": [arm for arm in results["arms"] if arm["name"] in arms]}


def runs_of(results: Results, arm: str) -> list[dict[str, Any]]:
    """The runs of one arm."""
    return [run for run in results["runs"] if run["arm"] == arm]


def evaluations_of(results: Results, arm: str) -> list[dict[str, Any]]:
    """The evaluations of one arm's runs, without runs that have none."""
    return [run["evaluation"] for run in runs_of(results, arm) if run.get("evaluation")]


def seed_count(results: Results) -> int:
    """The number of seeds of the comparison."""
    return len(results["seeds"] or {run.get("seed") for run in results["runs"]})


def figure(evaluation: dict[str, Any], name: str) -> float:
    """One figure of an evaluation, NaN where it is absent or not finite."""
    return number(recorded(evaluation, name))


def mean_and_sd(values: list[float]) -> tuple[float, float]:
    """Mean and standard deviation; NaN for too few values, or where one of them is not finite."""
    # A diverged seed counts: the mean of the others would flatter the arm.
    if not values or not all(math.isfinite(value) for value in values):
        return math.nan, math.nan
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else math.nan


def mean_over(rows: Array) -> Array:
    """The mean over the first axis of the finite values, NaN where there are none."""
    mean: Array = np.ma.filled(np.ma.masked_invalid(rows).mean(axis=0), np.nan)
    return mean


def prepare_views(results: Results, kind: str, key: str, group: str = "unseen") -> list[Lines]:
    """A figure in percent against the share of the image that is left, also in percent.

    kind: of view; the whole images are the last point. key: of a level, or "accuracy".
    """

    def value(figures: dict[str, Any]) -> float:
        if key == "accuracy":
            return 100 - 100 * number(figures.get("top1_error"))
        return 100 * number(figures.get(key))

    def points(run: dict[str, Any]) -> list[tuple[float, float]]:
        evaluation = run.get("evaluation") or {}
        levels = (evaluation.get(kind) or {}).get(group) or []
        left = [(100 - 100 * number(level.get("actual_share")), value(level)) for level in levels]
        return [*left, (100.0, value(_whole(evaluation)))] if left else []

    return _lines(results, points)


def _whole(evaluation: dict[str, Any]) -> dict[str, Any]:
    """Figures of the whole images with the keys of a level: after the temperature, like those."""
    found = {**evaluation, **(evaluation.get("scaled") or {})}
    error, gap = number(found.get("top1_error")), number(found.get("calibration_gap"))
    return {**found, "confidence": 1 - error + gap}


def prepare_corruptions(results: Results, key: str, names: Sequence[str]) -> list[Lines]:
    """A figure's mean over some corruptions, in percent, against their severity."""

    def points(run: dict[str, Any]) -> list[tuple[float, float]]:
        found = (run.get("corruptions") or {}).get("corruptions") or {}
        levels: dict[float, list[float]] = {}
        for name in names:
            for level in found.get(name, []):
                levels.setdefault(number(level["severity"]), []).append(100 * number(level[key]))
        return [(severity, sum(values) / len(values)) for severity, values in levels.items()]

    return _lines(results, points)


def prepare_training(results: Results, key: str, scale: float = 1.0) -> list[Lines]:
    """A figure of the training history against the epoch."""
    return _lines(
        results,
        lambda run: [
            (number(epoch.get("epoch")), scale * number(epoch[key]))
            for epoch in run.get("history") or []
            if key in epoch
        ],
    )


def sweep_curves(results: Results) -> list[str]:
    """The names of the curves that `prepare_sweep` returns."""
    lines = [
        line for axis in ("sigma", "alpha") for line in prepare_sweep(results, "top1_error", axis)
    ]
    return list(dict.fromkeys(line.arm for line in lines))


def prepare_sweep(results: Results, key: str, axis: str) -> list[Lines]:
    """A figure in percent against sigma or alpha, for curves with several points on that axis.

    The standard arm is a horizontal line across them. Seeds that lack a point have NaN there.
    """
    curves: dict[str, dict[float, str]] = {}
    for arm in arm_names(results):
        point = swept(arm)
        if point is not None and point[1] == axis:
            curves.setdefault(point[0], {})[point[2]] = arm
    curves = {name: points for name, points in curves.items() if len(points) > 1}
    everywhere = sorted({x for points in curves.values() for x in points})
    standard = [arm for arm in arm_names(results) if role_of(arm) == "standard"]
    for arm in standard if curves else []:
        if evaluations_of(results, arm):
            curves[arm] = dict.fromkeys(everywhere, arm)
    found = []
    for name, points in curves.items():
        x = sorted(points)
        seeds = sorted({run["seed"] for at in x for run in runs_of(results, points[at])})
        y = np.array([[_of_seed(results, points[at], seed, key) for at in x] for seed in seeds])
        if np.isfinite(y).any():
            found.append(Lines(name, np.array(x), 100 * y))
    return found


def _of_seed(results: Results, arm: str, seed: int, key: str) -> float:
    figures = [
        figure(run.get("evaluation") or {}, key)
        for run in runs_of(results, arm)
        if run["seed"] == seed
    ]
    return figures[0] if figures else math.nan


def prepare_reliability(results: Results) -> list[Reliability]:
    """The bins of each arm, pooled over seeds by their counts."""
    pooled = []
    for arm in arm_names(results):
        evaluations = [e for e in evaluations_of(results, arm) if e.get("reliability")]
        if not evaluations or len({len(e["reliability"]) for e in evaluations}) > 1:
            continue
        seeds = [_bins(e["reliability"]) for e in evaluations]  # each [5,b]
        low, high = seeds[0][:2]
        count = sum(seed[2] for seed in seeds)
        if not np.nansum(count):
            continue
        with np.errstate(invalid="ignore"):
            confidence, accuracy = (
                sum(np.nan_to_num(seed[row] * seed[2]) for seed in seeds) / count for row in (3, 4)
            )
        ece, _ = mean_and_sd([figure(e, "ece") for e in evaluations])
        pooled.append(Reliability(arm, low, high - low, count, confidence, accuracy, ece))
    return pooled


def prepare_softening(results: Results) -> tuple[list[Lines], list[Lines]]:
    """Curves from visibility to confidence, and histograms in percent: x the b+1 edges, y [1,b]."""
    curves, histograms = [], []
    for one in results["softening"]:
        x, y = _numbers(one["visibility"]), _numbers(one["confidence"])
        if np.isfinite(x + y).any():
            curves.append(Lines(one["arm"], x, y[None]))
        histogram = one.get("histogram")
        if histogram and len(histogram["edges"]) == len(histogram["share"]) + 1:
            edges, share = _numbers(histogram["edges"]), _numbers(histogram["share"])
            if np.isfinite(edges).all() and np.isfinite(share).any():
                histograms.append(Lines(one["arm"], edges, 100 * share[None]))
    return curves, histograms


def prepare_promise(results: Results) -> Promise | None:
    """The curve of a single run's targets; None for several runs, and where it is constant.

    None too where its visibility was that of objects: the views are by the share of the image.
    """
    curves, _ = prepare_softening(results)
    if len(results["runs"]) != 1 or len(curves) != 1 or results["data"].get("objects"):
        return None
    images = number((results["runs"][0].get("evaluation") or {}).get("images"))
    (curve,) = curves
    if not images > 0 or (curve.y == curve.y[0, 0]).all():
        return None
    return Promise(100 * curve.x, 100 * curve.y[0], int(images))


def _lines(
    results: Results, points: Callable[[dict[str, Any]], list[tuple[float, float]]]
) -> list[Lines]:
    """The lines of all arms with a finite point; seeds that lack a point have NaN there."""
    found = []
    for arm in arm_names(results):
        seeds = [dict(points(run)) for run in runs_of(results, arm)]
        x = sorted({at for seed in seeds for at in seed if math.isfinite(at)})
        y = np.array([[seed.get(at, math.nan) for at in x] for seed in seeds])
        if np.isfinite(y).any():
            found.append(Lines(arm, np.array(x), y))
    return found


def _bins(bins: list[dict[str, Any]]) -> Array:
    rows = ("low", "high", "count", "confidence", "accuracy")
    return np.array([[number(one.get(row)) for one in bins] for row in rows])


def _numbers(values: list[Any]) -> Array:
    return np.array([number(value) for value in values])
