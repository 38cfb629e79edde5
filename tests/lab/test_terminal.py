"""The evaluation's table: what is in it, what it does without, and that a terminal holds it."""

import io
from typing import Any

import pytest
from rich.console import Console
from support import random_samples

from softaug_lab.cli.tables import evaluation_table
from softaug_lab.evaluation.evaluate import summarise
from softaug_lab.evaluation.predictions import Predictions
from softaug_lab.metrics.levels import OCCLUSION_SHARES


def figures(scaled: bool) -> dict[str, Any]:
    logits, labels = random_samples(200)
    hidden = dict.fromkeys(OCCLUSION_SHARES[1:], -logits)
    held_out = random_samples(100, seed=1) if scaled else (None, None)
    predictions = Predictions(labels, logits, {"mean": hidden}, held_out[1], held_out[0])
    return summarise(predictions, OCCLUSION_SHARES).as_dict()


def printed(record: dict[str, Any]) -> str:
    """The table on a terminal of 80 columns."""
    file = io.StringIO()
    Console(width=80, file=file).print(evaluation_table(record))
    return file.getvalue()


def lines(record: dict[str, Any]) -> dict[str, list[str]]:
    """The words of each line of the table after its name."""
    return {line[:25].strip(): line[25:].split() for line in printed(record).splitlines()}


def test_each_error_has_its_interval_and_floor_before_and_after_scaling() -> None:
    record = figures(scaled=True)
    table = lines(record)
    for name, key in {
        "ECE %, 15 equal widths": "ece",
        "ECE %, 15 equal masses": "ece_mass",
        "smooth ECE %": "smooth_ece",
        "class-wise ECE %": "classwise_ece",
    }.items():
        expected = []
        for half in (record, record["scaled"]):
            low, high = half[f"{key}_interval"]
            expected += [f"{100 * half[key]:.2f}", f"{100 * low:.2f}\u2013{100 * high:.2f}"]
            expected += [f"{100 * half[f'{key}_floor']:.2f}"]
        assert table[name] == expected
    assert table["NLL"] == [f"{record['nll']:.4f}", f"{record['scaled']['nll']:.4f}"]
    assert table["top-1 error %"] == [f"{100 * record['top1_error']:.2f}"]
    hidden = record["occlusion"]["mean"][1]["top1_error"]
    assert table["20.0% hidden, mean"] == [f"{100 * hidden:.2f}"]
    assert table["gap, points"][0] == f"{100 * record['calibration_gap']:+.2f}"
    assert f"T = {record['temperature']:.3g}" in printed(record)


@pytest.mark.parametrize("missing", ["ece_interval", "smooth_ece", "aurc", "scaled"])
def test_a_record_of_an_earlier_version_lacks_what_it_lacks(missing: str) -> None:
    record = figures(scaled=False)
    whole = lines(record)
    del record[missing]
    table = lines(record)
    assert table["NLL"] == whole["NLL"]
    assert ("smooth ECE %" in table) == (missing != "smooth_ece")
    if missing == "ece_interval":
        assert len(table["ECE %, 15 equal widths"]) == 2
