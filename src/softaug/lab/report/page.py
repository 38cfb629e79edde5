"""The page: prepared tables, figures and sentences, put into the template and written whole."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from softaug.lab.files import write_atomically
from softaug.lab.report import figures
from softaug.lab.report.summary import METRIC_NAMES, figure, sentences

Results = dict[str, Any]

# Column of the table: key of the evaluation, heading, is it a share, is its sign shown.
COLUMNS = (
    ("top1_error", "top-1 error %", True, False),
    ("top5_error", "top-5 error %", True, False),
    ("nll", "NLL", False, False),
    ("ece", "ECE %", True, False),
    ("ece_floor", "noise floor %", True, False),
    ("calibration_gap", "gap, points", True, True),
    ("brier", "Brier", False, False),
    ("occluded_error", "error % at 40 % hidden", True, False),
    ("occluded_error_80", "error % at 80 % hidden", True, False),
)
NO_BEST = ("ece_floor",)  # a property of the test set, not a merit


def write_report(results: Results, path: Path) -> None:
    """Write one self-contained HTML page from the record of a comparison or of a single run.

    results: what `results.json` holds; nothing else is read. Raises SoftaugError where the page
    cannot be written.
    """
    environment = Environment(
        loader=PackageLoader("softaug.lab.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html.jinja").render(
        results=results,
        sentences=sentences(results),
        columns=COLUMNS,
        rows=table_rows(results),
        differences=[_difference_row(record) for record in results["comparisons"]],
        colours=figures.arm_colours([arm["name"] for arm in results["arms"]]),
        figures=_figures(results),
        duration=_duration(results["seconds"]),
    )
    write_atomically(path, page)


def table_rows(results: Results) -> list[dict[str, Any]]:
    """One row for each arm: mean and standard deviation of each column, and whether it is best."""
    rows = []
    for arm in results["arms"]:
        evaluations = [run["evaluation"] for run in results["runs"] if run["arm"] == arm["name"]]
        cells = []
        for key, _, is_share, signed in COLUMNS:
            values = [figure(evaluation, key) for evaluation in evaluations]
            mean = float(np.mean(values))
            scale, digits = (100, 2) if is_share else (1, 3)
            sd = float(np.std(values, ddof=1)) * scale if len(values) > 1 else None
            cells.append(
                {
                    "value": mean * scale,
                    "text": f"{mean * scale:{'+' if signed else ''}.{digits}f}",
                    "sd": None if sd is None else f"{sd:.{digits}f}",
                    "best": False,
                }
            )
        rows.append({"arm": arm, "seeds": len(evaluations), "cells": cells})
    for i, (key, *_) in enumerate(COLUMNS):
        finite = [abs(row["cells"][i]["value"]) for row in rows]
        finite = [value for value in finite if math.isfinite(value)]
        if key in NO_BEST or len(rows) < 2 or not finite:
            continue
        for row in rows:
            row["cells"][i]["best"] = abs(row["cells"][i]["value"]) == min(finite)
    return rows


def _difference_row(record: dict[str, Any]) -> dict[str, Any]:
    """One comparison in text, in points or as a number."""
    scale, digits = (1, 3) if record["metric"] == "nll" else (100, 2)

    def number(value: float) -> str:
        return f"{scale * value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")

    def interval(ends: Sequence[float] | None) -> str:
        return "" if ends is None else f"{number(ends[0])} to {number(ends[1])}"

    if record["seed_interval"] is None:
        verdict = "one seed: no claim"
    elif record["larger_than_chance"]:
        verdict = "better" if record["difference"] < 0 else "worse"
    elif record["seeds_needed"] is None:
        verdict = "may be chance"
    else:
        verdict = f"may be chance ({record['seeds_needed']} seeds)"
    return {
        **record,
        "name": METRIC_NAMES[record["metric"]],
        "text": number(record["difference"]),
        "over_seeds": interval(record["seed_interval"]),
        "over_images": interval(record["image_interval"]),
        "p": "" if record["p_adjusted"] is None else f"{record['p_adjusted']:.3f}",
        "verdict": verdict,
        "proven": record["larger_than_chance"],
    }


def _figures(results: Results) -> dict[str, Markup]:
    """The figures there are numbers for; their text is escaped by matplotlib."""
    drawings: dict[str, Callable[[Results], str]] = {
        "occlusion": figures.occlusion,
        "reliability": figures.reliability,
        "training": figures.training,
    }
    if results["softening"]:
        drawings["softening"] = figures.softening
    return {name: Markup(draw(results)) for name, draw in drawings.items()}


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
