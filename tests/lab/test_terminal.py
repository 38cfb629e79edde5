"""The evaluation's table: what is in it, what it does without, and that a terminal holds it."""

import io
import re
from typing import Any

import pytest
import torch
from rich.console import Console
from support import random_samples

from softaug_lab.cli.tables import arms_table, evaluation_table, views_table
from softaug_lab.cli.terminal import show
from softaug_lab.evaluation.evaluate import summarise
from softaug_lab.evaluation.predictions import LevelLogits, Predictions
from softaug_lab.metrics.levels import FILL_GROUPS, KINDS, LOST_SHARES


def figures(scaled: bool) -> dict[str, Any]:
    logits, labels = random_samples(200)
    fill = torch.arange(200, dtype=torch.uint8) % 2
    levels = {
        (kind, group, share): LevelLogits(logits * (1 - 2 * share), fill, share + 0.01)
        for kind in KINDS
        for group in FILL_GROUPS
        for share in LOST_SHARES
    }
    names = dict.fromkeys(FILL_GROUPS, ("one", "other"))
    held_out = random_samples(100, seed=1) if scaled else (None, None)
    predictions = Predictions(labels, logits, levels, names, -logits, held_out[1], held_out[0])
    return summarise(predictions).as_dict()


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
    # The mix is after the temperature, where there is one.
    mix = record["mix"]
    floor = f"{100 * mix['ece_floor']:.2f}"
    assert table["mix: ECE %"] == [f"{100 * mix['ece']:.2f}", floor]
    assert table["mix: AURC %"] == [f"{100 * mix['aurc']:.2f}"]
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


def test_views_have_a_row_for_each_level_with_the_worst_fill_beside_the_mean() -> None:
    record = figures(scaled=True)
    file = io.StringIO()
    Console(width=80, file=file).print(views_table(record))
    rows = [line for line in file.getvalue().splitlines() if line[:1].isdigit() and "%" in line]
    assert len(rows) == 8
    assert rows[1].startswith("41.0% cut off")
    expected = []
    for group in FILL_GROUPS:
        level = record["cut_off"][group][1]
        expected += [f"{100 * level['top1_error']:.2f}", f"{100 * level['worst_error']:.2f}"]
        expected += [f"{level['nll']:.3f}", f"{100 * level['ece']:.2f}"]
    assert rows[1].split()[3:] == expected
    assert "after the temperature" in " ".join(file.getvalue().split())


def test_arms_fit_on_a_terminal_with_their_views_and_mix() -> None:
    record = figures(scaled=False)
    names = ("standard", "soft(k=2)@0.15")
    arms = [{"name": name, "mean_confidence": 0.9} for name in names]
    runs = [{"arm": a, "seed": s, "evaluation": record} for a in names for s in (0, 1)]
    results = {"arms": arms, "runs": runs, "samples": [], "softening": [], "seeds": [0, 1]}
    file = io.StringIO()
    Console(width=80, file=file).print(arms_table(results))
    text = file.getvalue()
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert max(map(len, text.splitlines())) <= 80
    line = next(line for line in text.splitlines() if line.startswith("standard"))
    shown = line.split()[1:]
    for value in (
        record["cut_off"]["unseen"][1]["top1_error"],
        record["hidden"]["unseen"][1]["top1_error"],
        record["mix"]["aurc"],
        record["mix"]["ece"],
    ):
        assert f"{100 * value:.2f}" in shown


@pytest.mark.parametrize("columns", [20, 60, 80, 200])
def test_no_figure_is_elided_on_a_narrow_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = figures(scaled=True)
    monkeypatch.setenv("COLUMNS", str(columns))
    for table in (evaluation_table(record), views_table(record)):
        show(table)
        text = capsys.readouterr().out
        assert "\N{HORIZONTAL ELLIPSIS}" not in text
        wide = io.StringIO()
        Console(width=300, file=wide).print(table)
        is_figure = re.compile(r"[-+]?\d+\.\d+")
        rows = [line for line in wide.getvalue().splitlines() if is_figure.search(line)]
        assert is_figure.findall(text) == [f for row in rows for f in is_figure.findall(row)]
