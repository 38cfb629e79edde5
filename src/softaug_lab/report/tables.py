"""The tables of a report: every cell as the text that stands in it and the number it sorts by."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from softaug_lab.report.prepare import (
    arm_names,
    evaluations_of,
    figure,
    mean_and_sd,
    number,
    recorded,
    seed_count,
)
from softaug_lab.report.summary import METRIC_NAMES, MINUS

Results = dict[str, Any]
NOTHING = "\N{EN DASH}"


@dataclass(frozen=True)
class Column:
    """A column of the table of arms: key of the evaluation and how it is shown."""

    key: str
    heading: str
    percent: bool = True
    signed: bool = False
    best: str = "least"  # in absolute value; or "most", or "none" where none is


COLUMNS = (
    Column("top1_error", "top-1 error %"),
    Column("top5_error", "top-5 error %"),
    Column("knn_error", "kNN error %"),
    Column("untrained_error", "top-1 error %, before training", best="none"),
    Column("occluded_error", "error % at 40 % hidden"),
    Column("occluded_black", "the same in black"),
    Column("corruption_error", "error % under corruptions"),
    Column("nll", "NLL", percent=False),
    Column("brier", "Brier", percent=False),
    Column("ece", "ECE %"),
    Column("ece_floor", "ECE noise floor %", best="none"),
    Column("smooth_ece", "smooth ECE %"),
    Column("scaled_ece", "ECE % after temperature"),
    Column("calibration_gap", "gap, points", signed=True),
    Column("aurc", "AURC %"),
    Column("softmax_auroc", "AUROC % of other data by softmax", best="most"),
    Column("energy_auroc", "the same by energy", best="most"),
)


@dataclass(frozen=True)
class Cell:
    """text, and sd where there are two seeds; value sorts, None where there is none."""

    text: str
    sd: str | None
    value: float | None
    best: bool = False


def shown_columns(results: Results) -> list[Column]:
    """The columns that any arm has something in."""
    evaluations = [e for arm in arm_names(results) for e in evaluations_of(results, arm)]
    return [c for c in COLUMNS if any(recorded(e, c.key) is not None for e in evaluations)]


def arm_rows(results: Results) -> list[dict[str, Any]]:
    """One row for each arm: mean and standard deviation over its seeds in each column."""
    known = {arm["name"]: arm for arm in results["arms"]}
    columns = shown_columns(results)
    names = arm_names(results)
    by_column = [_column(results, column, names) for column in columns]
    return [
        {
            "name": name,
            "description": known.get(name, {}).get("description", ""),
            "augmentation": known.get(name, {}).get("augmentation", ""),
            "cells": [cells[i] for cells in by_column],
            "seeds": len(evaluations_of(results, name)),
            "confidence": _plain(known.get(name, {}).get("mean_confidence")),
        }
        for i, name in enumerate(names)
    ]


def difference_groups(results: Results) -> list[dict[str, Any]]:
    """The comparisons, grouped by arm and rival, each difference in text."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in results["comparisons"]:
        key = (record["arm"], record["against"])
        groups.setdefault(key, []).append(_difference(record, seed_count(results)))
    return [{"arm": a, "against": b, "rows": rows} for (a, b), rows in groups.items()]


def verdict(record: dict[str, Any], seeds: int) -> str:
    """What a difference supports, in words."""
    difference = number(record["difference"])
    if math.isnan(difference):
        return "not measured"
    if seeds < 2:
        return "one seed: no claim"
    if record["larger_than_chance"]:
        return "better, beyond chance" if difference < 0 else "worse, beyond chance"
    needed = record.get("seeds_needed") or 0
    # Of the test over seeds; that over images can refuse what so many seeds would show.
    return "may be chance" + (f"; about {needed} seeds would tell" if needed > seeds else "")


def _column(results: Results, column: Column, names: Sequence[str]) -> list[Cell]:
    cells = []
    for name in names:
        evaluations = evaluations_of(results, name)
        mean, sd = mean_and_sd([figure(e, column.key) for e in evaluations])
        diverged = any(
            math.isnan(figure(e, column.key)) and recorded(e, column.key) is not None
            for e in evaluations
        )
        text = _text(mean, column, "nan" if diverged else NOTHING)
        cells.append(Cell(text, _text(sd, replace(column, signed=False), ""), _plain(mean)))
    found = [abs(cell.value) for cell in cells if cell.value is not None]
    if column.best == "none" or len(found) < 2:
        return cells
    aim = min(found) if column.best == "least" else max(found)
    # Arms whose shown figures are the same are equally good.
    best = {c.text for c in cells if c.value is not None and abs(c.value) == aim}
    return [replace(cell, best=cell.text in best) for cell in cells]


def _text(value: float, column: Column, nothing: str = NOTHING) -> str:
    if math.isnan(value):
        return nothing
    scaled, digits = (100 * value, 2) if column.percent else (value, 3)
    return f"{scaled:{'+' if column.signed else ''}.{digits}f}".replace("-", MINUS)


def _difference(record: dict[str, Any], seeds: int) -> dict[str, Any]:
    column = Column("", "", percent=record["metric"] != "nll", signed=True)

    def interval(ends: Sequence[float | None] | None) -> str:
        if ends is None:
            return NOTHING
        return " to ".join(_text(number(end), column) for end in ends)

    return {
        "name": METRIC_NAMES.get(record["metric"], record["metric"]),
        "text": _text(number(record["difference"]), column),
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
