"""The page: prepared tables, figures and sentences, put into the template and written whole."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from softaug_lab.basics.storage import write_atomically
from softaug_lab.corruptions import COMMON, GROUPS
from softaug_lab.report import drawings as figures
from softaug_lab.report import prepare, tables
from softaug_lab.report.summary import sentences, told_arm, without_labels

Results = dict[str, Any]

# What a record may lack.
EMPTY: Results = {
    "title": "Comparison", "command": "", "created": "", "versions": {}, "commit": None,
    "machine": {}, "seconds": None, "data": {}, "recipe": {}, "seeds": [], "arms": [], "runs": [],
    "comparisons": [], "samples": [], "disagreements": {}, "softening": [],
}  # fmt: skip


@dataclass(frozen=True)
class Panel:
    """One drawing with its title; says: what it shows, for those who don't see it."""

    title: str
    says: str
    svg: Markup


def write_report(results: Results, path: Path) -> None:
    """Write one self-contained HTML page from the record of a comparison or of a single run.

    results: what `results.json` holds; nothing else is read, and what it lacks is left out.
    Raises SoftaugError where the page cannot be written.
    """
    write_atomically(path, _page({**EMPTY, **{k: v for k, v in results.items() if v is not None}}))


def _page(results: Results) -> str:
    environment = Environment(
        loader=PackageLoader("softaug_lab.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    curves, drawn = prepare.sweep_curves(results), prepare.drawn_arms(results)
    names = prepare.arm_names(results)
    looks = figures.arm_looks(list(dict.fromkeys([*drawn, *curves, *names])))
    groups, further = _told_first(results)
    return environment.get_template("page.html.jinja").render(
        title=results["title"],
        command=results["command"],
        lead=_lead(results),
        sentences=[_unbroken(sentence) for sentence in sentences(results)],
        seeds=prepare.seed_count(results),
        columns=tables.shown_columns(results),
        arms=tables.arm_rows(results),
        bins=_bins(results),
        groups=groups,
        further_groups=further,
        pairs=any(without_labels(name) for name in names),
        looks=looks,
        curves=curves,
        drawn=drawn,
        panels=_panels(results, prepare.only(results, drawn), looks),
        samples=_samples(prepare.only(results, drawn)),
        disagreements=_disagreements(results["disagreements"], drawn),
        facts=_facts(results),
        settings=results["recipe"],
    )


def _told_first(results: Results) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The groups of differences to show; where they are many, that arm's of the summary alone."""
    groups = tables.difference_groups(results)
    if len(groups) <= prepare.DRAWN:
        return groups, []
    told = told_arm(results)
    return [g for g in groups if g["arm"] == told], [g for g in groups if g["arm"] != told]


def _lead(results: Results) -> str:
    """One line of what was compared: data, model, epochs, seeds; what is known of them."""
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


def _panels(
    results: Results, few: Results, looks: dict[str, figures.Look]
) -> dict[str, list[Panel]]:
    """The drawings there are numbers for, by section; few: the record of the arms to draw.

    A sweep is drawn from all arms: there each is a point and no line.
    """
    panels: dict[str, list[Panel]] = {}

    def add(section: str, title: str, says: str, svg: str) -> None:
        # Drawn by us from numbers alone; no text of the user's is in it.
        panels.setdefault(section, []).append(Panel(title, says, Markup(svg)))

    occlusion = (
        ("top1_error", "mean", "Top-1 error, %: hidden in mean colour"),
        ("top1_error", "black", "Top-1 error, %: hidden in black"),
        ("top1_error", "noise", "Top-1 error, %: hidden in noise"),
        ("ece", "mean", "ECE, %: hidden in mean colour"),
        ("ece", "black", "ECE, %: hidden in black"),
        ("ece", "noise", "ECE, %: hidden in noise"),
    )
    for key, fill, title in occlusion:
        if lines := prepare.prepare_occlusion(few, key, fill):
            name = f"occlusion-{key}-{fill}"
            svg = figures.plot_lines(lines, looks, name, "hidden, %", band=True)
            add("occlusion", title, f"{title}, against the hidden share: {_ends(lines)}", svg)
    corruptions = [
        *(("top1_error", f"Top-1 error, %: {group}", names) for group, names in GROUPS.items()),
        ("top1_error", "Top-1 error, %: all 15", COMMON),
        ("ece", "ECE, %: all 15", COMMON),
    ]
    for i, (key, title, names) in enumerate(corruptions):
        if lines := prepare.prepare_corruptions(few, key, names):
            svg = figures.plot_lines(lines, looks, f"corruption-{i}", "severity", band=True)
            add("corruptions", title, f"{title}, against the severity: {_ends(lines)}", svg)
    for axis, what in (("sigma", "strength of the crop"), ("alpha", "label smoothing")):
        for key, title in (("top1_error", "Top-1 error, %"), ("ece", "ECE, %")):
            if lines := prepare.prepare_sweep(results, key, axis):
                svg = figures.plot_lines(lines, looks, f"sweep-{key}-{axis}", axis, band=True)
                title = f"{title} by {what}"
                add("sweep", title, f"{title}: {_ends(lines)}", svg)
    training = (
        ("loss", "Training loss", 1.0),
        ("train_top1_error", "Training top-1 error, %", 100.0),
        ("spread", "Spread of the features (0: collapsed)", 1.0),
        ("alignment", "Alignment of two views (0: alike)", 1.0),
        ("uniformity", "Uniformity (low: all of the sphere)", 1.0),
    )
    for key, title, scale in training:
        if lines := prepare.prepare_training(few, key, scale):
            svg = figures.plot_lines(lines, looks, f"training-{key}", "epoch", band=False)
            add("training", title, f"{title} by epoch: {_ends(lines)}", svg)
    for i, bins in enumerate(prepare.prepare_reliability(few)):
        ece = "" if math.isnan(bins.ece) else f"ECE {100 * bins.ece:.1f} %"
        says = f"Reliability diagram of {bins.arm}, {ece or 'no ECE'}"
        svg = figures.plot_reliability(bins, looks[bins.arm], f"reliability-{i}")
        add("reliability", f"{bins.arm}\n{ece}", says, svg)
    curves, histograms = prepare.prepare_softening(few)
    if curves:
        svg = figures.plot_softening(curves, histograms, looks, "softening")
        says = f"Confidence by visibility, from nothing visible to all: {_ends(curves)}"
        pairs = any(without_labels(one.arm) for one in curves)
        title = "Confidence in a view" if pairs else "Confidence that the label keeps"
        add("softening", f"{title}, and visibilities drawn", says, svg)
    return panels


def _ends(lines: Sequence[prepare.Lines]) -> str:
    """Where each line begins and ends, in words."""
    said = []
    for one in lines:
        mean = prepare.mean_over(one.y)
        said.append(f"{one.arm} from {mean[0]:.3g} to {mean[-1]:.3g}")
    return "; ".join(said)


def _samples(results: Results) -> list[dict[str, Any]]:
    """The sample images of each arm with v and p as text."""
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


def _hundredths(value: object) -> str:
    found = prepare.number(value)
    return tables.NOTHING if math.isnan(found) else f"{found:.2f}"


def _disagreements(found: dict[str, Any], drawn: Sequence[str]) -> list[dict[str, Any]]:
    """The images in two groups by who is right; predictions of the two arms and of drawn ones."""
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
    """What one needs to know to run it again, beside the command and the settings."""
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
    """The number of bins of the ECE, where it is known."""
    counts = [(run.get("evaluation") or {}).get("ece_bins") for run in results["runs"]]
    return next((count for count in counts if count), None)


def _unbroken(text: str) -> str:
    """No line begins with the unit of the number before it."""
    return re.sub(r"(?<=\d) (?=%|points)", "\N{NO-BREAK SPACE}", text)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _duration(seconds: float) -> str:
    if math.isnan(seconds):
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
