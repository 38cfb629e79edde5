"""The page: puts tables, drawings and sentences into the template, and writes one HTML file."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from softaug_lab.basics.storage import write_atomically
from softaug_lab.metrics import GLOSSARY
from softaug_lab.report import prepare, tables
from softaug_lab.report.answer import answer
from softaug_lab.report.looks import arm_looks
from softaug_lab.report.prepare import KINDS
from softaug_lab.report.summary import judged_arm, sentences
from softaug_lab.report.templates import template

Results = dict[str, Any]

# Stands in for the parts that a record lacks.
EMPTY: Results = {
    "title": "Comparison", "command": "", "created": "", "versions": {}, "commit": None,
    "machine": {}, "seconds": None, "data": {}, "recipe": {}, "seeds": [], "arms": [], "runs": [],
    "comparisons": [], "views": {}, "samples": [], "disagreements": {}, "mistakes": {},
    "softening": [],
}  # fmt: skip


def write_report(results: Results, path: Path) -> None:
    """Write one self-contained HTML page from the record of a comparison or of a single run.

    results: the content of `results.json`; nothing else is read, and the page leaves out what the
    record lacks.
    Raises SoftaugError where the page cannot be written.
    """
    write_atomically(path, _page({**EMPTY, **{k: v for k, v in results.items() if v is not None}}))


def _page(results: Results) -> str:
    # matplotlib is imported here: commands that write no report need not wait for it.
    from softaug_lab.report.panels import panels

    curves, drawn = prepare.sweep_curves(results), prepare.drawn_arms(results)
    names = prepare.arm_names(results)
    looks = arm_looks(list(dict.fromkeys([*drawn, *curves, *names])))
    groups, further = _judged_first(results)
    return template("page.html.jinja").render(
        title=results["title"],
        command=results["command"],
        lead=_lead(results),
        answer=[_unbroken(sentence) for sentence in answer(results)],
        sentences=[_unbroken(sentence) for sentence in sentences(results)],
        seeds=prepare.seed_count(results),
        metrics=tables.shown_metrics(results),
        arms=tables.arm_rows(results),
        bins=_bins(results),
        groups=groups,
        further_groups=further,
        pairs=any(prepare.without_labels(name) for name in names),
        looks=looks,
        curves=curves,
        drawn=drawn,
        panels=panels(results, prepare.only(results, drawn), looks),
        views=_views(results["views"]),
        promised=prepare.prepare_promise(prepare.only(results, drawn)) is not None,
        objects=results["data"].get("objects"),
        samples=_samples(prepare.only(results, drawn)),
        disagreements=_disagreements(results["disagreements"], drawn),
        held_out=any("held_out_nll" in e for r in results["runs"] for e in r.get("history") or []),
        mistakes=tables.mistakes(results["mistakes"]),
        facts=_facts(results),
        settings=results["recipe"],
        glossary=GLOSSARY,
    )


def _judged_first(results: Results) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The groups of differences to show and to fold; few are all shown.

    Of many, those of the arm that the summary judges are shown.
    """
    groups = tables.difference_groups(results)
    if len(groups) <= prepare.DRAWN:
        return groups, []
    arm = judged_arm(results)
    return [g for g in groups if g["arm"] == arm], [g for g in groups if g["arm"] != arm]


def _lead(results: Results) -> str:
    """One line on what was compared: data, model, epochs and seeds, as far as recorded."""
    data, recipe = results["data"], results["recipe"]
    shape = data.get("image_shape")
    arms, seeds = len(prepare.arm_names(results)), prepare.seed_count(results)
    parts = [
        data.get("name"),
        f"{data['train_images']:,} training images" if "train_images" in data else None,
        f"{data['test_images']:,} test images" if "test_images" in data else None,
        f"{shape[2]} \N{MULTIPLICATION SIGN} {shape[1]} px" if shape else None,
        f"{len(data['classes'])} classes" if "classes" in data else None,
        f"model {recipe['model']}" if "model" in recipe else None,
        f"{recipe['parameters']:,} parameters" if "parameters" in recipe else None,
        _counted(recipe["epochs"], "epoch") if "epochs" in recipe else None,
        _counted(arms, "arm") if arms > 1 else None,
        _counted(seeds, "seed") if seeds else None,
    ]
    return " \N{MIDDLE DOT} ".join(part for part in parts if part)


def _samples(results: Results) -> list[dict[str, Any]]:
    """The sample images of each arm, with visibility and confidence as text."""
    return [
        {
            "arm": one["arm"],
            "images": [
                {
                    "png": item["png"],
                    "class": item.get("class", ""),
                    "v": _hundredths(item.get("visibility")),
                    "p": _hundredths(item.get("confidence")),
                }
                for item in one["items"]
            ],
        }
        for one in results["samples"]
        if one.get("items")
    ]


def _views(found: dict[str, Any]) -> dict[str, Any]:
    """The example of a test image that lacks a part: a strip for each kind of view."""
    if not found.get("items"):
        return {}
    strips = {
        name: [i for i in found["items"] if i["kind"] == kind] for kind, name in KINDS.items()
    }
    share = prepare.number(found.get("share"))
    text = "part" if math.isnan(share) else f"{100 * share:.0f}\N{NO-BREAK SPACE}%"
    return {**found, "share": text, "strips": {name: s for name, s in strips.items() if s}}


def _hundredths(value: object) -> str:
    found = prepare.number(value)
    return tables.NOTHING if math.isnan(found) else f"{found:.2f}"


def _disagreements(found: dict[str, Any], drawn: Sequence[str]) -> list[dict[str, Any]]:
    """The images in two groups, by the arm that is right, with the predictions of drawn arms."""
    if not found.get("images"):
        return []
    arm, against = found["arm"], found["against"]
    shown = {arm, against, *drawn}

    def predicted(image: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            {**one, "confidence": _hundredths(one.get("confidence"))}
            for one in image["predictions"]
            if one["arm"] in shown
        ]

    def group(right: str, wrong: str, all_of: str) -> dict[str, Any]:
        images = [
            {**image, "predictions": predicted(image)}
            for image in found["images"]
            if image["right"] == right
        ]
        return {"right": right, "wrong": wrong, "of": found.get(all_of), "images": images}

    return [group(arm, against, "only_arm"), group(against, arm, "only_against")]


def _facts(results: Results) -> list[tuple[str, str]]:
    """What is needed to repeat the comparison, beside the command and the settings."""
    machine = results["machine"]
    cores = f"{machine['cores']} cores" if "cores" in machine else None
    parts = (machine.get("processor"), cores, machine.get("device"))
    found = [
        ("seeds", ", ".join(str(seed) for seed in results["seeds"])),
        ("time taken", _duration(prepare.number(results["seconds"]))),
        ("machine", ", ".join(part for part in parts if part)),
        ("versions", ", ".join(f"{name} {of}" for name, of in results["versions"].items())),
        ("commit", results["commit"] or ""),
        ("written", results["created"]),
        *(("note", note) for note in results["data"].get("notes") or []),
    ]
    return [(name, text) for name, text in found if text]


def _bins(results: Results) -> int | None:
    """The number of bins of the ECE, None where it was not recorded."""
    counts = [(run.get("evaluation") or {}).get("ece_bins") for run in results["runs"]]
    return next((count for count in counts if count), None)


def _unbroken(text: str) -> str:
    """Join each number with its unit, so that no line breaks between them."""
    return re.sub(r"(?<=\d) (?=%|points)", "\N{NO-BREAK SPACE}", text)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _duration(seconds: float) -> str:
    if math.isnan(seconds):
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
