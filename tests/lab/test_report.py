"""The report: honest sentences, whole and harmless pages, numbers that are there or left out."""

import copy
import functools
import math
import re
import tempfile
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from PIL import Image

from softaug_lab.basics.errors import SoftaugError
from softaug_lab.corruptions.constants import COMMON
from softaug_lab.data.png import png_text
from softaug_lab.metrics import COMPARED, GLOSSARY, METRICS
from softaug_lab.report.looks import LOOKS, SPARE_COLOURS, arm_looks
from softaug_lab.report.page import EMPTY, write_report
from softaug_lab.report.prepare import (
    drawn_arms,
    figure,
    prepare_promise,
    prepare_reliability,
    prepare_views,
)
from softaug_lab.report.sheet import sample_sheet
from softaug_lab.report.summary import sentences
from softaug_lab.report.tables import arm_rows, shown_metrics, verdict

Results = dict[str, Any]
HOSTILE = '<script>alert("1")</script>'
# Top-1 error, how much of it hiding 40 % adds, ECE, NLL, mean confidence of the targets.
ARMS = {
    "none": (0.132, 0.42, 0.071, 0.480, 1.0),
    "standard": (0.104, 0.38, 0.046, 0.352, 1.0),
    "standard-smoothed": (0.101, 0.37, 0.058, 0.361, 0.91),
    "harsh": (0.118, 0.20, 0.021, 0.340, 1.0),
    "harsh-constant": (0.113, 0.20, 0.082, 0.389, 0.87),
    "soft": (0.101, 0.19, 0.015, 0.301, 0.87),
}
RIVALS = ("standard", "standard-smoothed", "harsh", "harsh-constant")


def fake_results(seeds: int = 3, more: Sequence[str] = ()) -> Results:
    """A record as a comparison of six arms writes it, with numbers of a likely size.

    more: further arms, with the numbers of `harsh`.
    """
    random = np.random.default_rng(0)
    arms = ARMS | dict.fromkeys(more, ARMS["harsh"])
    runs = [_run(arm, arms[arm], seed, random) for seed in range(seeds) for arm in arms]
    return {
        "title": "6 augmentations on demo",
        "command": f"softaug compare demo --seeds {seeds}",
        "created": "2026-01-01T12:00:00+00:00",
        "versions": {"softaug": "0.1.0", "python": "3.11.7", "torch": "2.14.1"},
        "commit": "dc0dda3",
        "machine": {"processor": "x86", "cores": 2, "device": "cpu"},
        "seconds": 754.2,
        "data": {
            "name": "demo",
            "classes": ["Shirt", "Sneaker", "Bag"],
            "train_images": 8000,
            "test_images": 2000,
            "image_shape": [1, 28, 28],
        },
        "recipe": {"sigma": 0.3, "model": "small", "epochs": 12, "parameters": 77_000},
        "seeds": list(range(seeds)),
        "arms": [
            {
                "name": arm,
                "description": f"what {arm} does",
                "augmentation": f"SoftAugment({arm})",
                "mean_confidence": figures[-1],
            }
            for arm, figures in arms.items()
        ],
        "runs": runs,
        "comparisons": _comparisons(runs, seeds),
        "views": _views(random),
        "samples": [{"arm": arm, "items": _samples(random)} for arm in arms],
        "disagreements": _disagreements(list(arms), random),
        "softening": [_softening(arm, figures[-1]) for arm, figures in arms.items()],
    }


def single_run() -> Results:
    """The record of one run."""
    results = {**fake_results(seeds=1), "comparisons": [], "disagreements": None}
    for part in ("runs", "samples", "softening"):
        results[part] = [one for one in results[part] if one["arm"] == "soft"]
    results["arms"] = [arm for arm in results["arms"] if arm["name"] == "soft"]
    return results


def _run(
    arm: str, figures: Sequence[float], seed: int, random: np.random.Generator
) -> dict[str, Any]:
    top1, hidden, ece, nll, _ = figures
    top1 += random.normal(0, 0.003)
    history = [
        {
            "epoch": epoch,
            "loss": nll + 1.6 * 0.75**epoch + random.normal(0, 0.02),
            "train_top1_error": top1 + 0.6 * 0.75**epoch,
            "lr": 0.1,
        }
        for epoch in range(1, 13)
    ]
    centres = (np.arange(15) + 0.5) / 15
    counts = (2000 * 0.4 ** (14 - np.arange(15)) * 0.6).astype(int)
    return {
        "arm": arm,
        "seed": seed,
        "seconds": 42.0,
        "images_per_second": 2900.0,
        "history": history,
        "corruptions": {
            "corruptions": {
                name: [
                    {"severity": severity, "top1_error": top1 * (1 + severity / 5), "ece": ece}
                    for severity in range(1, 6)
                ]
                for name in COMMON
            },
        },
        "evaluation": {
            "images": 2000,
            "top1_error": top1,
            "top5_error": 0.004,
            "nll": nll + random.normal(0, 0.004),
            "ece": ece + random.normal(0, 0.002),
            "ece_bins": 15,
            "ece_floor": 0.012,
            "calibration_gap": ece if arm in ("none", "standard") else -ece,
            "brier": 1.4 * top1,
            "reliability": [
                {
                    "low": i / 15,
                    "high": (i + 1) / 15,
                    "count": int(counts[i]),
                    "confidence": float(centres[i]) if counts[i] else None,
                    "accuracy": float(max(centres[i] - ece, 0)) if counts[i] else None,
                }
                for i in range(15)
            ],
            "cut_off": _levels(top1, 0.8 * hidden, ece),
            "hidden": _levels(top1, hidden, ece),
            "mix": {
                "images": 2000,
                "top1_error": top1 + hidden,
                "nll": 2 * nll,
                "ece": 2 * ece,
                "ece_floor": 0.011,
                "aurc": top1 + 0.5 * hidden,
            },
            "smooth_ece": 0.9 * ece,
            "aurc": top1**1.5,
            "scaled": {"ece": 0.5 * ece},
            "corruption_error": 2 * top1,
        },
    }


def _levels(top1: float, hidden: float, ece: float) -> dict[str, Any]:
    """Levels of one kind of view, both groups of fills."""
    return {
        group: [
            {
                "share": share,
                "actual_share": share * 0.99,
                "top1_error": min(top1 + worse * hidden * (share / 0.4) ** 1.5, 0.9),
                "nll": 2 * share,
                "ece": ece + 0.4 * share * hidden,
                "confidence": 1 - top1 - share * hidden,
                "worst_error": 0.95,
                "fill_errors": {"black": 0.95},
            }
            for share in (0.2, 0.4, 0.6, 0.8)
        ]
        for group, worse in (("usual", 0.8), ("unseen", 1.0))
    }


def _views(random: np.random.Generator) -> dict[str, Any]:
    items = [
        {"kind": kind, "fill": fill, "png": _png(random)}
        for kind in ("cut_off", "hidden")
        for fill in ("black", "white")
    ]
    return {"share": 0.4, "class": "Bag", "png": _png(random), "items": items}


def _comparisons(runs: list[dict[str, Any]], seeds: int) -> list[dict[str, Any]]:
    records = []
    for rival in RIVALS:
        for metric in (metric.key for metric in COMPARED):
            soft, other = (
                [figure(run["evaluation"], metric) for run in runs if run["arm"] == arm]
                for arm in ("soft", rival)
            )
            mean = float(np.mean(soft) - np.mean(other))
            records.append(compared(rival, metric, mean, proven=seeds > 1 and abs(mean) > 0.008))
            if seeds == 1:
                records[-1] |= {"seed_interval": None, "p_seeds": None, "p_adjusted": None}
                records[-1]["seeds_needed"] = None
    return records


def compared(
    against: str, metric: str, difference: float, *, proven: bool = False, arm: str = "soft"
) -> dict[str, Any]:
    return {
        "arm": arm,
        "against": against,
        "metric": metric,
        "difference": difference,
        "seed_interval": [difference - 0.005, difference + 0.005],
        "image_interval": [difference - 0.008, difference + 0.008],
        "p_seeds": 0.0004 if proven else 0.3,
        "p_images": 0.001 if proven else 0.2,
        "p_adjusted": 0.0004 if proven else 0.6,
        "larger_than_chance": proven,
        "seeds_needed": None if proven else 11,
    }


def _samples(random: np.random.Generator) -> list[dict[str, Any]]:
    return [
        {"png": _png(random), "visibility": i / 8, "confidence": 0.78, "class": "Sneaker"}
        for i in range(8)
    ]


def _png(random: np.random.Generator) -> str:
    return png_text(torch.from_numpy(random.integers(0, 255, (1, 28, 28), dtype=np.uint8)))


def _disagreements(arms: list[str], random: np.random.Generator) -> dict[str, Any]:
    def image(index: int, right: str, wrong: str) -> dict[str, Any]:
        predictions = [
            {
                "arm": arm,
                "class": "Bag" if arm == wrong else "Ankle boot",
                "confidence": 0.61,
                "right": arm != wrong,
            }
            for arm in arms
        ]
        return {
            "index": index, "right": right, "png": _png(random), "class": "Ankle boot",
            "predictions": predictions,
        }  # fmt: skip

    return {
        "arm": "soft",
        "against": "standard",
        "only_arm": 87,
        "only_against": 81,
        "images": [
            *(image(i, "soft", "standard") for i in range(6)),
            *(image(i, "standard", "soft") for i in range(100, 106)),
        ],
    }


def _softening(arm: str, confidence: float) -> dict[str, Any]:
    grid = np.linspace(0, 1, 101)
    curve = 1 - 0.9 * (1 - grid) ** 2 if arm == "soft" else np.full(101, confidence)
    share = np.arange(1, 21) / 210
    if arm in ("none", "standard", "standard-smoothed"):
        share = np.eye(20)[19]
    return {
        "arm": arm,
        "visibility": grid.tolist(),
        "confidence": curve.tolist(),
        "histogram": {"edges": np.linspace(0, 1, 21).tolist(), "share": share.tolist()},
    }


class Page(HTMLParser):
    """What the tests ask of a page; unclosed or crossed elements fail."""

    VOID = ("meta", "img", "br", "link", "input", "hr")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.headings: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page_of(results: Results, folder: Path) -> tuple[str, Page]:
    path = folder / "report.html"
    write_report(results, path)
    html = path.read_text()
    return html, Page(html)


@functools.cache  # a page takes seconds
def fake_page() -> tuple[str, Page]:
    """The page of `fake_results()`."""
    with tempfile.TemporaryDirectory() as folder:
        return page_of(fake_results(), Path(folder))


def test_a_page_has_every_section_in_order() -> None:
    _, page = fake_page()
    assert page.headings == [
        "The answer",
        "When part of the image is missing",
        "What these figures support – and what they don’t",  # noqa: RUF001
        "The arms",
        "Differences",
        "What the models were shown",
        "Where the arms disagree",
        "The softening curve",
        "Training",
        "Reliability",
        "Under corruptions",
        "To run it again",
        "Glossary",
    ]
    for word in ("3 seeds", "10.", "paired t", "paired bootstrap", "p 0.78", "dc0dda3", "12 min"):
        assert word in page.text


def test_a_page_needs_nothing_from_outside() -> None:
    html, page = fake_page()
    assert "//" not in re.sub(r"base64,[^\"]*", "", html)
    assert page.count("link") == page.count("iframe") == page.count("base") == 0
    for tag, attributes in page.tags:
        assert tag in ("use", "a") or not {"href", "srcset"} & set(attributes)
        source = attributes.get("src")
        assert source is None or source.startswith("data:image/png;base64,")
        assert (attributes.get("href") or "#").startswith("#")
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    assert "default-src 'none'" in html


def test_every_figure_says_how_to_read_it_and_what_it_shows() -> None:
    html, page = fake_page()
    captions = re.findall(r"<figcaption>\s*(.*?)</figcaption>", html, re.DOTALL)
    assert len(captions) == page.count("figure") == 7
    assert all(caption.startswith("How to read it") for caption in captions)
    labels = [a.get("aria-label") for _, a in page.tags if a.get("role") == "img"]
    # Views, corruptions, training, softening, reliability.
    assert len(labels) == 6 + 6 + 2 + 1 + len(ARMS)
    assert all(labels)
    assert len(set(labels)) == len(labels)


def test_ids_are_unique_and_every_reference_is_met() -> None:
    html, page = fake_page()
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(set(ids)) == len(ids)
    assert set(re.findall(r'(?:url\(#|href="#)([^")]+)', html)) <= set(ids)


def test_figures_take_the_ink_of_the_page() -> None:
    html, _ = fake_page()
    drawings = "".join(re.findall(r"<svg.*?</svg>", html, re.DOTALL))
    assert "currentColor" in drawings
    assert "#000000" not in drawings
    assert "DejaVu" not in drawings
    assert "<style" not in drawings


def test_the_same_record_gives_the_same_page_and_leaves_no_trace(tmp_path: Path) -> None:
    results = single_run()
    before, settings = copy.deepcopy(results), dict(mpl.rcParams)
    first, _ = page_of(results, tmp_path)
    second, _ = page_of(results, tmp_path)
    assert first == second
    assert results == before
    assert dict(mpl.rcParams) == settings
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_text_of_the_user_is_escaped(tmp_path: Path) -> None:
    results = fake_results()
    results["title"] = results["command"] = results["commit"] = HOSTILE
    results["data"] |= {"name": HOSTILE, "classes": [HOSTILE], "notes": [HOSTILE]}
    results["recipe"][HOSTILE] = HOSTILE
    results["versions"][HOSTILE] = HOSTILE
    results["samples"][0]["items"][0] |= {"class": HOSTILE, "png": '"><script>'}
    results["disagreements"]["images"][0] |= {"class": HOSTILE, "png": '"><script>'}
    results["views"] |= {"class": HOSTILE, "png": '"><script>'}
    results["views"]["items"][0] |= {"fill": HOSTILE, "png": '"><script>'}
    results["disagreements"]["images"][0]["predictions"][0] |= {"arm": HOSTILE, "class": HOSTILE}
    results["arms"][0] |= {"description": HOSTILE, "augmentation": HOSTILE}
    renamed = _renamed(results, "none", HOSTILE)
    html, page = page_of(renamed, tmp_path)
    assert page.count("script") == 1
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert" in html


def _renamed(results: Results, old: str, new: str) -> Results:
    renamed = copy.deepcopy(results)
    for part in ("runs", "samples", "softening"):
        for one in renamed[part]:
            one["arm"] = new if one["arm"] == old else one["arm"]
    for arm in renamed["arms"]:
        arm["name"] = new if arm["name"] == old else arm["name"]
    return renamed


@pytest.mark.usefixtures("blank_figures")
@pytest.mark.parametrize(
    "missing",
    [
        "views",
        "samples",
        "disagreements",
        "softening",
        "comparisons",
        "versions",
        "machine",
        "commit",
        "recipe",
        "data",
    ],
)
def test_what_is_missing_is_left_out(missing: str, tmp_path: Path) -> None:
    results = fake_results()
    del results[missing]
    _, page = page_of(results, tmp_path)
    heading = {
        "samples": "What the models were shown",
        "disagreements": "Where the arms disagree",
        "softening": "The softening curve",
    }
    assert heading.get(missing) not in page.headings
    assert "The arms" in page.headings


@pytest.mark.parametrize(
    "results",
    [
        {},
        {"arms": [{"name": "soft"}]},
        {"runs": [{"arm": "soft", "seed": 0, "evaluation": {"top1_error": 0.1}}]},
        {"runs": [{"arm": "soft", "history": [{"epoch": 1, "loss": 2.0}], "evaluation": None}]},
        {"title": None, "samples": None, "seeds": [0], "runs": []},
    ],
)
def test_a_minimal_record_gives_a_page(results: Results, tmp_path: Path) -> None:
    _, page = page_of(results, tmp_path)
    assert "To run it again" in page.headings


@pytest.mark.parametrize("hole", [None, math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_give_a_page_without_them(hole: float | None, tmp_path: Path) -> None:
    def drilled(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: drilled(one) for name, one in value.items()}
        if isinstance(value, list):
            return [drilled(one) for one in value]
        return hole if isinstance(value, float) else value

    results = fake_results()
    for part in ("runs", "comparisons", "views", "samples", "softening", "arms"):
        results[part] = drilled(results[part])
    results["seconds"] = hole
    _, page = page_of(results, tmp_path)
    # A number that went wrong says so in the table of arms; what is absent is a dash.
    assert ("nan" in page.text) == (hole is not None)
    assert "–" in page.text  # noqa: RUF001
    assert not re.search(r"\b(inf|None)\b", page.text)


def test_a_diverged_seed_is_not_left_out_of_its_arms_mean(tmp_path: Path) -> None:
    results = fake_results()
    run = next(run for run in results["runs"] if run["arm"] == "harsh")
    run["evaluation"]["nll"] = math.nan
    run["history"] = [*run["history"][:3], {"epoch": 4, "loss": math.inf}]
    rows = {row["name"]: row for row in arm_rows(results)}
    shown = [cell.text for cell in rows["harsh"]["cells"]]
    assert shown.count("nan") == 1
    assert not any(cell.text == "nan" for cell in rows["soft"]["cells"])
    page_of(results, tmp_path)


def test_the_table_gives_mean_spread_seeds_and_marks_the_best() -> None:
    results = fake_results()
    errors = {"standard": (0.10, 0.11, 0.12), "soft": (0.07, 0.08, 0.09)}
    for run in results["runs"]:
        if run["arm"] in errors:
            run["evaluation"]["top1_error"] = errors[run["arm"]][run["seed"]]
    rows = {row["name"]: row for row in arm_rows(results)}
    top1 = {name: row["cells"][0] for name, row in rows.items()}
    assert (top1["standard"].text, top1["standard"].sd) == ("11.00", "1.00")
    assert top1["soft"].text == "8.00"
    assert [name for name, cell in top1.items() if cell.best] == ["soft"]
    assert rows["soft"]["seeds"] == 3
    alone = arm_rows(fake_results(seeds=1))
    assert all(cell.sd == "" for row in alone for cell in row["cells"])


def test_the_calibration_gap_is_best_nearest_to_zero() -> None:
    results = fake_results()
    place = [metric.key for metric in shown_metrics(results)].index("calibration_gap")
    gaps = {row["name"]: row["cells"][place] for row in arm_rows(results)}
    assert [name for name, cell in gaps.items() if cell.best] == ["soft"]
    assert gaps["soft"].text == "\N{MINUS SIGN}1.50"
    assert gaps["standard"].text == "+4.60"


def test_headings_sort_and_can_be_reached_by_keyboard() -> None:
    html, page = fake_page()
    heads = re.findall(r"<th scope=\"col\"[^>]*><button type=\"button\"[^>]*>", html)
    assert len(heads) == page.count("button") == 20
    assert "aria-sort" in html


def test_verdicts() -> None:
    record = compared("standard", "ece", -0.01)
    assert verdict(record, 3) == "may be chance; about 11 seeds would tell"
    assert verdict({**record, "seeds_needed": None}, 3) == "may be chance"
    assert verdict({**record, "seeds_needed": 3}, 3) == "may be chance"
    # Seeds that tie give no interval; that is not one seed.
    assert verdict({**record, "seed_interval": None, "seeds_needed": None}, 3) == "may be chance"
    assert verdict({**record, "larger_than_chance": True}, 3) == "better, beyond chance"
    assert verdict(compared("harsh", "nll", 0.1, proven=True), 3) == "worse, beyond chance"
    assert verdict(record, 1) == "one seed: no claim"


def test_pooled_bins_weigh_seeds_by_their_counts() -> None:
    results = fake_results(seeds=2)
    results["runs"] = [run for run in results["runs"] if run["arm"] == "soft"]
    for run, count, accuracy in zip(results["runs"], (30, 10), (0.9, 0.5), strict=True):
        run["evaluation"]["reliability"] = [
            {"low": 0.0, "high": 0.5, "count": 0, "confidence": None, "accuracy": None},
            {"low": 0.5, "high": 1.0, "count": count, "confidence": 0.8, "accuracy": accuracy},
        ]
    (bins,) = prepare_reliability(results)
    assert bins.count.tolist() == [0, 40]
    assert bins.accuracy[1] == pytest.approx(0.8)
    assert bins.confidence[1] == pytest.approx(0.8)
    assert math.isnan(bins.accuracy[0])


@pytest.mark.parametrize("kind", ["cut_off", "hidden"])
def test_lines_of_views_stand_at_the_share_left_in_truth_and_end_at_the_whole(kind: str) -> None:
    results = fake_results()
    for run in results["runs"]:
        run["evaluation"]["scaled"] = {"ece": 0.031, "calibration_gap": 0.02}
    lines = {one.arm: one for one in prepare_views(results, kind, "top1_error")}
    assert lines["soft"].x.tolist() == pytest.approx([20.8, 40.6, 60.4, 80.2, 100])
    assert lines["soft"].y.shape == (3, 5)
    evaluation = next(run["evaluation"] for run in results["runs"] if run["arm"] == "soft")
    assert lines["soft"].y[0, -1] == pytest.approx(100 * evaluation["top1_error"])
    headline = evaluation[kind]["unseen"][1]["top1_error"]
    assert lines["soft"].y[0, 2] == pytest.approx(100 * headline)
    assert figure(evaluation, f"{kind}_error") == headline
    # The whole images' figures are those after the temperature, like those of the views.
    (ece, *_), (confidence, *_), (accuracy, *_) = (
        prepare_views(results, kind, key) for key in ("ece", "confidence", "accuracy")
    )
    assert ece.y[0, -1] == pytest.approx(3.1)
    assert (confidence.y - accuracy.y)[:, -1] == pytest.approx(2.0)


@pytest.mark.usefixtures("blank_figures")
def test_a_record_of_an_earlier_version_has_a_page_without_views(tmp_path: Path) -> None:
    results = fake_results()
    del results["views"]
    for run in results["runs"]:
        for key in ("cut_off", "hidden", "mix"):
            del run["evaluation"][key]
        run["evaluation"]["occlusion"] = {"mean": [{"share": 0.4, "top1_error": 0.3}]}
    results["comparisons"] = [
        compared("standard", metric, -0.06) for metric in ("top1_error", "occluded_error")
    ]
    _, page = page_of(results, tmp_path)
    assert "When part of the image is missing" not in page.headings
    assert {"cut_off_error", "mix_ece"}.isdisjoint(m.key for m in shown_metrics(results))
    assert "occluded_error" in page.text  # the old difference stays in its table


def test_the_strip_of_views_names_every_fill() -> None:
    _, page = fake_page()
    said = [a.get("alt") or "" for tag, a in page.tags if tag == "img"]
    assert said.count("the whole image: Bag") == 2
    for kind in ("cut off", "hidden"):
        for fill in ("black", "white"):
            assert said.count(f"{kind}, filled with {fill}") == 1
    assert "40 % of it" in page.text.replace("\N{NO-BREAK SPACE}", " ")


def test_every_term_of_a_note_leads_to_the_glossary() -> None:
    html, page = fake_page()
    links = re.findall(r'href="#term-([^"]+)"', html)
    assert {"ece", "noise-floor", "gap", "visibility", "confidence"} <= set(links)
    for name, text in GLOSSARY.items():
        assert f'<dt id="term-{name.replace(" ", "-").lower()}">{name}</dt>' in html
        assert text.split(". ")[0].split(" (")[0] in page.text


def test_the_table_of_metrics_drives_columns_and_comparison() -> None:
    keys = [metric.key for metric in METRICS]
    assert len(set(keys)) == len(keys)
    assert {record["metric"] for record in fake_results()["comparisons"]} == {
        metric.key for metric in COMPARED
    }
    results = fake_results()
    for run in results["runs"]:
        run["evaluation"] |= {k: 0.5 for k in keys if not k.startswith(("mix_", "scaled_"))}
    shown = [metric.key for metric in shown_metrics(results)]
    assert shown == [metric.key for metric in METRICS if metric.column is not None]


# --- sentences ------------------------------------------------------------------------------


def said(
    comparisons: list[dict[str, Any]], *, seeds: int = 3, floor: float | None = None
) -> list[str]:
    results = fake_results(seeds)
    results["comparisons"] = comparisons
    for run in results["runs"]:
        run["evaluation"]["ece_floor"] = floor
    return sentences(results)


def test_one_seed_makes_no_claim_about_chance() -> None:
    told = " ".join(sentences(fake_results(seeds=1)))
    assert "With one seed no claim about chance can be made" in told
    assert "in this one run" in told
    assert "This suggests that softening improves accuracy" in told
    for claim in ("more than chance", "larger than chance", "is shown"):
        assert claim not in told


def test_soft_that_loses_top1_and_wins_hidden_ones_is_told_so() -> None:
    told = said(
        [
            compared("standard", "top1_error", 0.012, proven=True),
            compared("standard", "hidden_error", -0.061, proven=True),
        ]
    )
    assert told[0] == (
        "Compared with the standard crop, soft is better in error with 40 % hidden "
        "(\N{MINUS SIGN}6.1 points) and worse in top-1 error (+1.2 points), by more than chance."
    )


def test_a_difference_inside_chance_is_no_gain() -> None:
    told = said([compared("standard", "top1_error", -0.004)])
    assert told[0] == (
        "Compared with the standard crop, no difference of soft is larger than chance."
    )


def test_what_is_proven_and_what_is_not_stand_apart() -> None:
    told = said(
        [compared("standard", "nll", -0.05, proven=True), compared("standard", "ece", 0.02)]
    )
    assert told[0] == (
        "Compared with the standard crop, soft is better in NLL (\N{MINUS SIGN}0.050), by more "
        "than chance. What may be chance: ECE."
    )


def test_label_smoothing_that_wins_is_named() -> None:
    told = said(
        [
            compared("standard", "top1_error", -0.01, proven=True),
            compared("standard-smoothed", "top1_error", 0.006, proven=True),
            compared("standard-smoothed", "nll", 0.02),
            compared("standard-smoothed", "ece", -0.03, proven=True),
        ]
    )
    assert (
        "Plain label smoothing on the standard crop is better than soft in top-1 error "
        "(+0.6 points) and NLL (+0.020, may be chance)." in told
    )


def test_label_smoothing_that_wins_nothing_is_not_named() -> None:
    told = said([compared("standard-smoothed", "top1_error", -0.006, proven=True)])
    assert "label smoothing" not in " ".join(told)


@pytest.mark.parametrize(
    ("against_standard", "against_harsh", "expected"),
    [
        (-0.061, -0.009, "most of the gain comes from the harsh crop itself"),
        (-0.061, -0.050, "less than half of the gain comes from the harsh crop"),
        (-0.061, 0.010, "comes from the harsh crop, not from softening"),
        (-0.061, -0.070, "does not come from the harsh crop alone"),
        (0.010, 0.030, "soft is no better than the standard crop, while the harsh crop"),
    ],
)
@pytest.mark.parametrize(
    ("metric", "missing"),
    [
        ("cut_off_error", "cut off"),
        ("hidden_error", "hidden"),
    ],
)
def test_the_gain_without_a_part_is_the_crops_or_the_softenings(
    metric: str, missing: str, against_standard: float, against_harsh: float, expected: str
) -> None:
    told = said(
        [
            compared("standard", metric, against_standard),
            compared("harsh", metric, against_harsh),
        ]
    )
    assert told[1].startswith(f"With 40 % {missing}, by fills that no arm was trained on, ")
    assert expected in told[1]


def test_the_share_of_the_crop_is_given_in_points() -> None:
    told = said(
        [
            compared("standard", "hidden_error", -0.061),
            compared("harsh", "hidden_error", -0.009),
        ]
    )
    assert "lowers the error of the standard crop by 5.2 of the 6.1 points" in told[1]


@pytest.mark.parametrize(
    ("top1", "ece", "expected"),
    [
        (True, True, "shows that softening improves accuracy and calibration over the crop alone."),
        (False, True, "calibration over the crop alone, but not that it improves accuracy."),
        (True, False, "accuracy over the crop alone, but not that it improves calibration."),
        (False, False, "not show that softening improves accuracy or calibration over the crop"),
    ],
)
def test_what_softening_adds_is_shown_or_not(top1: bool, ece: bool, expected: str) -> None:
    told = said(
        [
            compared("harsh", "top1_error", -0.01, proven=top1),
            compared("harsh", "ece", -0.05, proven=ece),
        ]
    )
    assert expected in " ".join(told)


def test_ece_within_the_noise_floor_is_told_so_and_claims_nothing() -> None:
    told = " ".join(said([compared("harsh", "ece", -0.006, proven=True)], floor=0.012))
    assert "difference in ECE from harsh (\N{MINUS SIGN}0.6 points) is below the noise" in told
    assert "1.2 %" in told
    assert "not show that softening improves accuracy or calibration" in told
    assert "noise floor" not in " ".join(said([compared("harsh", "ece", -0.06)], floor=0.012))


def test_a_constant_confidence_that_does_as_well_is_told_so() -> None:
    told = " ".join(said([compared("harsh-constant", "nll", -0.01)]))
    assert "not shown to matter" in told
    told = " ".join(said([compared("harsh-constant", "nll", -0.09, proven=True)]))
    assert "not shown to matter" not in told


def test_other_sigmas_are_set_against_their_own_crop() -> None:
    records = [
        compared("standard", "hidden_error", -0.06, arm="soft@0.15"),
        compared("harsh@0.15", "hidden_error", -0.01, arm="soft@0.15"),
    ]
    told = said(records)
    assert "soft@0.15" in told[0]
    assert "most of the gain" in told[1]
    assert "For soft@0.15, see the table" in " ".join(
        said([*records, compared("standard", "nll", -0.1, proven=True)])
    )


def test_a_single_run_speaks_of_one_model(tmp_path: Path) -> None:
    results = single_run()
    results["runs"][0]["evaluation"]["ece"] = 0.01
    assert "error is 1.00 %, below the noise floor of 1.20 %" in page_of(results, tmp_path)[1].text
    results["runs"][0]["evaluation"]["ece"] = 0.014
    _, page = page_of(results, tmp_path)
    assert "The model" in page.headings
    assert "Where the arms disagree" not in page.headings
    assert "Differences" not in page.headings
    assert "of 2,000 test images" in page.text
    assert "1.40 %, hardly more than the noise floor of 1.20 %" in page.text
    assert "best" not in page.text


def test_no_augmentation_that_errs_less_is_told_first() -> None:
    results = fake_results()
    assert not any("without any augmentation" in one for one in sentences(results))
    for run in results["runs"]:
        if run["arm"] == "none":
            run["evaluation"]["top1_error"] = 0.011
    first = sentences(results)[0]
    assert first.startswith("At this budget the model has a lower top-1 error without any")
    assert "than with soft: 1.1 % and" in first


def test_arms_without_a_soft_one_are_not_judged() -> None:
    results = fake_results()
    results["comparisons"] = []
    assert "no difference was tested" in sentences(results)[0]


# --- many arms ------------------------------------------------------------------------------

SWEEP = [f"{arm}@0.{i}" for arm in ("harsh", "soft") for i in range(1, 10)]


@pytest.mark.usefixtures("blank_figures")
def test_of_many_arms_a_stated_few_are_drawn(tmp_path: Path) -> None:
    results = fake_results(2, SWEEP)
    drawn = drawn_arms({**EMPTY, **results})
    assert drawn == [*ARMS, "harsh@0.1", "soft@0.9"]
    _, page = page_of(results, tmp_path)
    says = [a.get("aria-label") or "" for _, a in page.tags if a.get("role") == "img"]
    assert sum("Reliability" in one for one in says) == len(drawn)
    assert all("harsh@0.2" not in one for one in says)
    assert page.count("img") == 8 * len(drawn) + 12 + 6
    assert "show 8 of the 24 arms" in page.text
    assert page.text.count("harsh@0.2") >= 2  # in the table and among the augmentations
    few = fake_results(2, SWEEP[:2])
    assert drawn_arms({**EMPTY, **few}) == [*ARMS, *SWEEP[:2]]
    _, page = page_of(few, tmp_path)
    assert "arms, marked by" not in page.text


def test_the_figures_have_no_part_in_what_is_drawn() -> None:
    results = {**EMPTY, **fake_results(1, SWEEP)}
    before = drawn_arms(results)
    for run in results["runs"]:
        run["evaluation"] = None
    assert drawn_arms(results) == before


@pytest.mark.usefixtures("blank_figures")
def test_differences_of_many_arms_are_there_but_folded(tmp_path: Path) -> None:
    results = fake_results(2, SWEEP)
    results["comparisons"] += [compared("standard", "ece", -0.01, arm=arm) for arm in SWEEP[9:]]
    html, page = page_of(results, tmp_path)
    folded = html[html.index("The differences of the other arms") :]
    assert html.count('scope="rowgroup"') == len(RIVALS) + 9
    assert folded.count('scope="rowgroup"') == 9
    assert page.count("details") == 2


def test_disagreements_show_as_many_of_both() -> None:
    html, page = fake_page()
    assert "soft right, standard wrong: 6 of 87 such images" in page.text
    assert "standard right, soft wrong: 6 of 81 such images" in page.text
    assert html.count("<caption>Ankle boot <span>test image ") == 12
    assert html.count("Ankle boot&nbsp;✓</td>") == 12 * (len(ARMS) - 1)
    assert html.count('alt="Test image ') == 12


# --- looks and sheets -----------------------------------------------------------------------


def _luminance(colour: str) -> float:
    share = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("colour", [*(look.colour for look in LOOKS.values()), *SPARE_COLOURS])
@pytest.mark.parametrize("paper", ["#fdfdfb", "#16171a"])
def test_colours_stand_out_on_light_and_dark(colour: str, paper: str) -> None:
    low, high = sorted([_luminance(colour), _luminance(paper)])
    assert (high + 0.05) / (low + 0.05) >= 3


def test_an_arm_looks_the_same_in_every_comparison() -> None:
    alone, beside = arm_looks(["soft"]), arm_looks(["soft@0.15", "harsh", "soft", "other"])
    assert alone["soft"] == beside["soft"]
    assert len(set(beside.values())) == 4
    assert len(set(arm_looks([f"soft@{i}" for i in range(18)]).values())) == 18


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_sheet_of_samples_can_be_saved(channels: int, tmp_path: Path) -> None:
    images = torch.randint(0, 256, (5, channels, 6, 9), dtype=torch.uint8)
    captions = ["$x^$ & co\nv 0.50  p 0.80", *["a name that is far too long to fit"] * 4]
    sheet = sample_sheet(images, captions, columns=3)
    sheet.savefig(tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.width > picture.height / 2
    drawn = [axis.images[0] for axis in sheet.axes if axis.images]
    assert len(drawn) == 5
    assert {image.get_interpolation() for image in drawn} == {"nearest"}


def test_a_sheet_needs_images_with_captions() -> None:
    with pytest.raises(ValueError, match="got 0 images"):
        sample_sheet(torch.zeros(0, 1, 4, 4, dtype=torch.uint8), [])
    with pytest.raises(ValueError, match="got 2 images, 1 captions"):
        sample_sheet(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), ["one"])


def test_a_page_that_cannot_be_written_keeps_the_old_one(tmp_path: Path) -> None:
    with pytest.raises(SoftaugError, match="could not be written"):
        write_report(fake_results(seeds=1), tmp_path / "absent" / "report.html")


def test_a_single_run_shows_what_its_targets_promised(tmp_path: Path) -> None:
    """The curve of its targets in percent, and how surely its accuracy is known."""
    results = single_run()
    said = "the dotted line is the confidence"
    _, page = page_of(results, tmp_path)
    promise = prepare_promise(results)
    assert promise is not None
    (softening,) = results["softening"]
    assert promise.x.tolist() == pytest.approx([100 * v for v in softening["visibility"]])
    assert promise.y.tolist() == pytest.approx([100 * p for p in softening["confidence"]])
    assert promise.images == results["runs"][0]["evaluation"]["images"]
    assert said in page.text
    softening["confidence"] = [0.9] * len(softening["confidence"])
    assert prepare_promise(results) is None  # one confidence for all promises nothing by visibility
    assert said not in page_of(results, tmp_path)[1].text
    assert prepare_promise(fake_results()) is None


def test_a_run_with_objects_speaks_of_their_visibility(tmp_path: Path) -> None:
    """Its curve is no line over the share of the image that is left."""
    results = single_run()
    assert "the share of the image that can still be seen" in page_of(results, tmp_path)[1].text
    results["data"]["objects"] = True
    text = page_of(results, tmp_path)[1].text
    assert "the share of the object that can still be seen" in text
    assert "the dotted line" not in text
