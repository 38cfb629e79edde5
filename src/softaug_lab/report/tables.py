"""The tables of a report: each cell with its text and the number by which its column sorts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from softaug_lab.metrics import BY_KEY, METRICS, Metric, recorded
from softaug_lab.report.prepare import (
    arm_names,
    evaluations_of,
    figure,
    mean_and_sd,
    number,
    seed_count,
)
from softaug_lab.report.summary import MINUS

Results = dict[str, Any]
NOTHING = "\N{EN DASH}"


@dataclass(frozen=True)
class Cell:
    """text: the mean; sd: its standard deviation, from two seeds on; value: None without one."""

    text: str
    sd: str | None
    value: float | None
    best: bool = False


def shown_metrics(results: Results) -> list[Metric]:
    """The metrics with a column in the report for which any arm has a value."""
    evaluations = [e for arm in arm_names(results) for e in evaluations_of(results, arm)]
    columns = [metric for metric in METRICS if metric.column is not None]
    return [m for m in columns if any(recorded(e, m.key) is not None for e in evaluations)]


def arm_rows(results: Results) -> list[dict[str, Any]]:
    """One row for each arm: mean and standard deviation over its seeds for each metric."""
    known = {arm["name"]: arm for arm in results["arms"]}
    names = arm_names(results)
    by_metric = [_column(results, metric, names) for metric in shown_metrics(results)]
    return [
        {
            "name": name,
            "description": known.get(name, {}).get("description", ""),
            "augmentation": known.get(name, {}).get("augmentation", ""),
            "cells": [cells[i] for cells in by_metric],
            "seeds": len(evaluations_of(results, name)),
            "confidence": _plain(known.get(name, {}).get("mean_confidence")),
        }
        for i, name in enumerate(names)
    ]


def mistakes(found: dict[str, Any]) -> dict[str, Any]:
    """The mistakes of one run as text; a cell of the confusion matrix has its share of the row."""
    if not found:
        return {}
    rows = zip(found["by_class"], found.get("confusion") or [], strict=False)
    return {
        **found,
        "confusion": [
            {
                "class": one["class"],
                "cells": [
                    {"count": count, "share": 100 * count / max(1, sum(row)), "right": i == j}
                    for j, count in enumerate(row)
                ],
            }
            for i, (one, row) in enumerate(rows)
        ],
        "by_class": [
            {
                **one,
                "accuracy": _percent(one.get("accuracy")),
                "confidence": _percent(one.get("confidence")),
            }
            for one in found["by_class"]
        ],
        "images": [
            {**image, "confidence": _percent(image.get("confidence"))} for image in found["images"]
        ],
    }


def _percent(share: object) -> str:
    value = number(share)
    return NOTHING if math.isnan(value) else f"{100 * value:.1f}"


def difference_groups(results: Results) -> list[dict[str, Any]]:
    """The comparisons grouped by arm and rival, with each difference as text."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in results["comparisons"]:
        key = (record["arm"], record["against"])
        groups.setdefault(key, []).append(_difference(record, seed_count(results)))
    return [{"arm": a, "against": b, "rows": rows} for (a, b), rows in groups.items()]


def verdict(record: dict[str, Any], seeds: int) -> str:
    """Say in words what a difference supports."""
    difference = number(record["difference"])
    if math.isnan(difference):
        return "not measured"
    if seeds < 2:
        return "one seed: no claim"
    if record["larger_than_chance"]:
        return "better, beyond chance" if difference < 0 else "worse, beyond chance"
    needed = record.get("seeds_needed") or 0
    # The number is that of the test over seeds; with enough seeds, the test over images may fail.
    return "may be chance" + (f"; about {needed} seeds would tell" if needed > seeds else "")


def _column(results: Results, metric: Metric, names: Sequence[str]) -> list[Cell]:
    cells = []
    for name in names:
        evaluations = evaluations_of(results, name)
        mean, sd = mean_and_sd([figure(e, metric.key) for e in evaluations])
        diverged = any(
            math.isnan(figure(e, metric.key)) and recorded(e, metric.key) is not None
            for e in evaluations
        )
        text = _text(mean, metric, "nan" if diverged else NOTHING, signed=metric.unit == "points")
        cells.append(Cell(text, _text(sd, metric, ""), _plain(mean)))
    values = [abs(cell.value) for cell in cells if cell.value is not None]
    if metric.better == "neither" or len(values) < 2:
        return cells
    aim = max(values) if metric.better == "high" else min(values)
    # Arms with the same text are equally good.
    best = {c.text for c in cells if c.value is not None and abs(c.value) == aim}
    return [replace(cell, best=cell.text in best) for cell in cells]


def _text(value: float, metric: Metric, nothing: str = NOTHING, *, signed: bool = False) -> str:
    if math.isnan(value):
        return nothing
    scaled, digits = (100 * value, 2) if metric.percent else (value, 3)
    return f"{scaled:{'+' if signed else ''}.{digits}f}".replace("-", MINUS)


def _difference(record: dict[str, Any], seeds: int) -> dict[str, Any]:
    key = record["metric"]
    metric = BY_KEY.get(key) or Metric(key=key, name=key, meaning="")  # of another version

    def interval(ends: Sequence[float | None] | None) -> str:
        if ends is None:
            return NOTHING
        return " to ".join(_text(number(end), metric, signed=True) for end in ends)

    return {
        "name": metric.name,
        "text": _text(number(record["difference"]), metric, signed=True),
        "over_seeds": interval(record.get("seed_interval")),
        "over_images": interval(record.get("image_interval")),
        "p": _p(number(record.get("p_adjusted"))),
        "verdict": verdict(record, seeds),
        "proven": bool(record["larger_than_chance"]),
    }


def _p(p: float) -> str:
    if math.isnan(p):
        return NOTHING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _plain(value: object) -> float | None:
    found = number(value)
    return found if math.isfinite(found) else None
