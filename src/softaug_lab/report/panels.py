"""The panels of a report, by section: which figures are drawn, with title and text alternative."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from softaug_lab.corruptions import COMMON, GROUPS
from softaug_lab.report import drawings, prepare
from softaug_lab.report.looks import Look

Results = dict[str, Any]
Looks = dict[str, Look]
LEFT = "left of the image, %"
TRAINING = (
    ("loss", "Training loss", 1.0),
    ("train_top1_error", "Training top-1 error, %", 100.0),
    ("spread", "Spread of the features (0: collapsed)", 1.0),
    ("alignment", "Alignment of two views (0: alike)", 1.0),
    ("uniformity", "Uniformity (low: all of the sphere)", 1.0),
)
# Of one run; the lines of a comparison are those that its arms share.
HELD_OUT = (
    ("held_out_top1_error", "Held-out top-1 error, %", 100.0),
    ("held_out_nll", "Held-out NLL", 1.0),
)


@dataclass(frozen=True)
class Panel:
    """One drawing with its title. says: what it shows, for readers who do not see it."""

    title: str
    says: str
    svg: Markup


def panels(results: Results, few: Results, looks: Looks) -> dict[str, list[Panel]]:
    """Draw the panels for which the record has numbers, by section.

    few: the record of the arms to draw. The sweep is drawn from all arms: there each arm is one
    point of a line.
    """
    sections: dict[str, Callable[[], Iterator[Panel]]] = {
        "views": lambda: _views(few, looks),
        "corruptions": lambda: _corruptions(few, looks),
        "sweep": lambda: _sweep(results, looks),
        "training": lambda: _training(few, looks),
        "reliability": lambda: _reliability(few, looks),
        "softening": lambda: _softening(few, looks),
    }
    drawn = {section: list(draw()) for section, draw in sections.items()}
    return {section: found for section, found in drawn.items() if found}


def _panel(title: str, says: str, svg: str) -> Panel:
    # The SVG is ours, drawn from numbers alone, and holds no text from the user.
    return Panel(title, says, Markup(svg))


def _views(few: Results, looks: Looks) -> Iterator[Panel]:
    """Error, confidence beside accuracy, and ECE by what is left of the image, for each kind."""
    for kind, name in prepare.KINDS.items():
        error, confidence, accuracy, ece = (
            prepare.prepare_views(few, kind, key)
            for key in ("top1_error", "confidence", "accuracy", "ece")
        )
        if error:
            yield _by_share_left(f"Top-1 error, %: {name}", error, looks, f"{kind}-error")
        if confidence and accuracy:
            title = f"Confidence and accuracy, %: {name}"
            promise = prepare.prepare_promise(few)
            svg = drawings.plot_pairs(
                confidence, accuracy, looks, f"{kind}-confidence", LEFT, promise
            )
            says = f"{title}, by what is left of the image. Confidence: {_ends(confidence)}. "
            yield _panel(title, f"{says}Accuracy: {_ends(accuracy)}", svg)
        if ece:
            yield _by_share_left(f"ECE, %: {name}", ece, looks, f"{kind}-ece")


def _by_share_left(title: str, lines: Sequence[prepare.Lines], looks: Looks, name: str) -> Panel:
    svg = drawings.plot_lines(lines, looks, name, LEFT, band=True)
    return _panel(title, f"{title}, by what is left of the image: {_ends(lines)}", svg)


def _corruptions(few: Results, looks: Looks) -> Iterator[Panel]:
    figures = [
        *(("top1_error", f"Top-1 error, %: {group}", names) for group, names in GROUPS.items()),
        ("top1_error", "Top-1 error, %: all 15", COMMON),
        ("ece", "ECE, %: all 15", COMMON),
    ]
    for i, (key, title, names) in enumerate(figures):
        if lines := prepare.prepare_corruptions(few, key, names):
            svg = drawings.plot_lines(lines, looks, f"corruption-{i}", "severity", band=True)
            yield _panel(title, f"{title}, against the severity: {_ends(lines)}", svg)


def _sweep(results: Results, looks: Looks) -> Iterator[Panel]:
    for axis, what in (("sigma", "strength of the crop"), ("alpha", "label smoothing")):
        for key, figure in (("top1_error", "Top-1 error, %"), ("ece", "ECE, %")):
            if lines := prepare.prepare_sweep(results, key, axis):
                svg = drawings.plot_lines(lines, looks, f"sweep-{key}-{axis}", axis, band=True)
                title = f"{figure} by {what}"
                yield _panel(title, f"{title}: {_ends(lines)}", svg)


def _training(few: Results, looks: Looks) -> Iterator[Panel]:
    alone = len(prepare.arm_names(few)) == 1
    for key, title, scale in (*TRAINING, *(HELD_OUT if alone else ())):
        if lines := prepare.prepare_training(few, key, scale):
            svg = drawings.plot_lines(lines, looks, f"training-{key}", "epoch", band=False)
            yield _panel(title, f"{title} by epoch: {_ends(lines)}", svg)


def _reliability(few: Results, looks: Looks) -> Iterator[Panel]:
    for i, bins in enumerate(prepare.prepare_reliability(few)):
        ece = "" if math.isnan(bins.ece) else f"ECE {100 * bins.ece:.1f} %"
        says = f"Reliability diagram of {bins.arm}, {ece or 'no ECE'}"
        svg = drawings.plot_reliability(bins, looks[bins.arm], f"reliability-{i}")
        yield _panel(f"{bins.arm}\n{ece}", says, svg)


def _softening(few: Results, looks: Looks) -> Iterator[Panel]:
    curves, histograms = prepare.prepare_softening(few)
    if curves:
        svg = drawings.plot_softening(curves, histograms, looks, "softening")
        says = f"Confidence by visibility, from nothing visible to all: {_ends(curves)}"
        pairs = any(prepare.without_labels(one.arm) for one in curves)
        title = "Confidence in a view" if pairs else "Confidence that the label keeps"
        yield _panel(f"{title}, and visibilities drawn", says, svg)


def _ends(lines: Sequence[prepare.Lines]) -> str:
    """Say in words where each line begins and ends."""
    ends = []
    for one in lines:
        mean = prepare.mean_over(one.y)
        ends.append(f"{one.arm} from {mean[0]:.3g} to {mean[-1]:.3g}")
    return "; ".join(ends)
