"""The page: self-contained, escaped, honest about what the figures bear."""

import copy
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from softaug.lab.report import write_report
from softaug.lab.report.page import table_rows
from softaug.lab.report.summary import sentences

EVIL = "<script>alert('cat')</script>"


def evaluation(error: float, hidden: float, ece: float) -> dict[str, Any]:
    shares = (0.0, 0.2, 0.4, 0.6, 0.8)
    errors = (error, (error + hidden) / 2, hidden, (1 + hidden) / 2, 0.9)
    return {
        "images": 1000, "top1_error": error, "top5_error": error / 4, "nll": 2 * error,
        "ece": ece, "ece_bins": 3, "ece_floor": 0.02, "calibration_gap": ece, "brier": error,
        "reliability": [
            {"low": 0.0, "high": 1 / 3, "count": 0, "confidence": None, "accuracy": None},
            {"low": 1 / 3, "high": 2 / 3, "count": 400, "confidence": 0.5, "accuracy": 0.4},
            {"low": 2 / 3, "high": 1.0, "count": 600, "confidence": 0.9, "accuracy": 1.0},
        ],
        "occlusion": [
            {"share": s, "actual_share": s * 0.98, "top1_error": e, "nll": 2 * e, "ece": ece}
            for s, e in zip(shares, errors, strict=True)
        ],
    }  # fmt: skip


# error, error with 40 % hidden, ECE: what short budgets give.
FIGURES = {
    "standard": (0.20, 0.65, 0.08),
    "standard-smoothed": (0.19, 0.68, 0.03),
    "harsh": (0.23, 0.52, 0.06),
    "soft": (0.21, 0.54, 0.02),
}


def record(
    against: str, metric: str, difference: float, proven: bool, seeds: int
) -> dict[str, Any]:
    interval = [difference - 0.01, difference + 0.01]
    return {
        "arm": "soft", "against": against, "metric": metric, "difference": difference,
        "seed_interval": interval if seeds > 1 else None, "image_interval": interval,
        "p_seeds": 0.01 if seeds > 1 else None, "p_images": 0.001,
        "p_adjusted": (0.02 if proven else 0.4) if seeds > 1 else None,
        "larger_than_chance": proven and seeds > 1, "seeds_needed": 7 if seeds > 1 else None,
    }  # fmt: skip


def results(seeds: int = 3, proven: bool = True) -> dict[str, Any]:
    runs = [
        {
            "arm": arm, "seed": seed, "seconds": 10.0, "images_per_second": 2000.0,
            "history": [
                {"epoch": i, "loss": 2 / i, "train_top1_error": 0.5 / i, "lr": 0.1, "seconds": 1.0}
                for i in (1, 2)
            ],
            "evaluation": evaluation(*(value + 0.001 * seed for value in figures)),
        }
        for arm, figures in FIGURES.items()
        for seed in range(seeds)
    ]  # fmt: skip
    comparisons = [
        record(against, metric, FIGURES["soft"][i] - FIGURES[against][i], proven, seeds)
        for against in ("standard", "standard-smoothed", "harsh")
        for i, metric in enumerate(("top1_error", "occluded_error", "ece"))
    ] + [
        record(against, "nll", 2 * (FIGURES["soft"][0] - FIGURES[against][0]), proven, seeds)
        for against in ("standard", "standard-smoothed", "harsh")
    ]
    return {
        "title": "4 augmentations on demo", "command": f"softaug compare {EVIL}",
        "created": "2026-01-01T00:00:00", "versions": {"softaug": "0.1.0"}, "commit": None,
        "machine": {"processor": EVIL, "cores": 2, "device": "cpu"}, "seconds": 3700.0,
        "data": {
            "name": "demo", "classes": ["a", EVIL], "train_images": 10, "test_images": 1000,
            "image_shape": [1, 28, 28], "notes": [EVIL],
        },
        "recipe": {"model": EVIL, "epochs": 2, "parameters": 10, "flip": True},
        "seeds": list(range(seeds)),
        "arms": [
            {"name": arm, "description": EVIL, "augmentation": EVIL, "mean_confidence": 0.9}
            for arm in FIGURES
        ],
        "runs": runs,
        "comparisons": comparisons,
        "samples": [
            {"arm": arm, "items": [
                {"png": "iVBORw0KGgo=", "visibility": 0.5, "confidence": 0.7, "class": EVIL}
            ]}
            for arm in FIGURES
        ],
        "softening": [
            {"arm": arm, "visibility": [0, 1], "confidence": [0.1, 1],
             "histogram": {"edges": [0, 0.5, 1], "share": [0.3, 0.7]}}
            for arm in FIGURES
        ],
    }  # fmt: skip


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if found.get("id"):
            self.ids.append(str(found["id"]))
        if tag not in ("meta", "img", "br", "link", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        opened = self.open.pop()
        assert opened == tag, f"</{tag}> closes <{opened}>"


@pytest.mark.parametrize("seeds", [1, 3])
def test_page_is_whole_self_contained_and_escaped(seeds: int, tmp_path: Path) -> None:
    write_report(results(seeds), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert len(set(reader.ids)) == len(reader.ids)
    assert EVIL not in page
    assert "&lt;script&gt;" in page
    assert [tag for tag, _ in reader.tags].count("script") == 1
    for tag, attributes in reader.tags:
        assert tag not in ("link", "iframe", "base")
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    assert not re.search(r"@import|url\((?!#)", page)
    for heading in ("The arms", "Differences", "Under occlusion", "Reliability", "To run it again"):
        assert heading in page
    assert page.count("<svg") == 4
    assert "#010203" not in page


def test_page_of_one_run_and_of_the_least_there_is(tmp_path: Path) -> None:
    one = results(1)
    one["arms"], one["comparisons"] = one["arms"][-1:], []
    one["runs"] = [run for run in one["runs"] if run["arm"] == "soft"]
    one["samples"] = one["softening"] = []
    write_report(one, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "Differences" not in page
    assert "The model is wrong on 21.0 %" in page


def test_a_figure_that_is_not_finite_does_not_break_the_page(tmp_path: Path) -> None:
    broken = results(2)
    for run in broken["runs"]:
        run["evaluation"]["nll"] = float("nan")
        run["history"][0]["loss"] = float("inf")
    write_report(broken, tmp_path / "report.html")
    assert "nan" in (tmp_path / "report.html").read_text()


def test_one_seed_claims_nothing() -> None:
    text = " ".join(sentences(results(seeds=1)))
    assert "nothing here is claimed to be larger than chance" in text
    assert "unproven" not in text


def test_sentences_say_where_soft_loses_and_where_the_gain_comes_from() -> None:
    text = " ".join(sentences(results()))
    minus = "\N{MINUS SIGN}"
    assert f"soft is better in error with 40 % hidden ({minus}11.0 points)" in text
    assert "worse in top-1 error (+1.0 points)" in text
    assert "harsh crop alone, with hard labels, already takes 13.0 points off" in text
    assert f"over that same crop is top-1 error ({minus}2.0 points)" in text
    assert "Plain label smoothing on the standard crop beats soft by top-1 error (+2.0" in text


def test_differences_within_chance_are_marked() -> None:
    text = " ".join(sentences(results(proven=False)))
    assert "top-1 error (+1.0 points, unproven)" in text


def test_table_shows_mean_spread_and_the_best() -> None:
    rows = {row["arm"]["name"]: row["cells"] for row in table_rows(results())}
    assert (rows["standard"][0]["text"], rows["standard"][0]["sd"]) == ("20.10", "0.10")
    assert [name for name, cells in rows.items() if cells[0]["best"]] == ["standard-smoothed"]
    assert [name for name, cells in rows.items() if cells[7]["best"]] == ["harsh"]
    assert not any(cells[4]["best"] for cells in rows.values())
    one = {row["arm"]["name"]: row["cells"] for row in table_rows(results(1))}
    assert one["soft"][0]["sd"] is None


def test_the_page_depends_on_the_numbers_alone(tmp_path: Path) -> None:
    first, again = results(), copy.deepcopy(results())
    write_report(first, tmp_path / "a.html")
    write_report(again, tmp_path / "b.html")
    assert (tmp_path / "a.html").read_text() == (tmp_path / "b.html").read_text()
