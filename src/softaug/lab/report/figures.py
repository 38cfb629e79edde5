"""Figures of a report, drawn by matplotlib from plain numbers, as SVG for light and dark pages."""

import functools
import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

Results = dict[str, Any]

# Drawn in this colour, then replaced by the page's own, so that dark pages work.
INK = "#010203"
COLOURS = {
    "none": "#8c8c8c",
    "standard": "#3f83d8",
    "standard-smoothed": "#12a594",
    "harsh": "#d98a00",
    "harsh-constant": "#a06cd5",
    "soft": "#e5484d",
}
SPARE_COLOURS = ("#b5651d", "#5f8f3e", "#d6409f", "#6e8898", "#937b2f", "#4a6fa5")
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "softaug",
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.6,
}


def styled(draw: Callable[[Results], str]) -> Callable[[Results], str]:
    """Draw in the report's style, and leave matplotlib's settings as they were."""

    @functools.wraps(draw)
    def within(results: Results) -> str:
        with mpl.rc_context(STYLE):
            return draw(results)

    return within


def arm_colours(arms: Sequence[str]) -> dict[str, str]:
    """One colour for each arm, the same in every figure and every report where it is known."""
    spare = iter(SPARE_COLOURS * (1 + len(arms) // len(SPARE_COLOURS)))
    return {arm: COLOURS.get(arm) or next(spare) for arm in arms}


@styled
def occlusion(results: Results) -> str:
    """Top-1 error and ECE against the hidden share: mean over seeds, band from least to most."""
    figure, axes = _figure(2, "hidden share of the image, %")
    for arm, colour, evaluations in _by_arm(results):
        levels = [e["occlusion"] for e in evaluations]
        x = 100 * np.array([level["actual_share"] for level in levels[0]])
        for axis, key in zip(axes, ("top1_error", "ece"), strict=True):
            y = 100 * np.array([[level[key] for level in one] for one in levels])
            _line_with_band(axis, x, y, arm, colour)
    axes[0].set_title("top-1 error, %")
    axes[1].set_title("expected calibration error (ECE), %")
    return _svg(figure, "occlusion")


@styled
def training(results: Results) -> str:
    """Training loss and training top-1 error by epoch: mean over seeds, band from least to most."""
    figure, axes = _figure(2, "epoch")
    for arm, colour, _ in _by_arm(results):
        histories = [run["history"] for run in results["runs"] if run["arm"] == arm]
        x = np.array([epoch["epoch"] for epoch in histories[0]], dtype=float)
        for axis, key, scale in zip(axes, ("loss", "train_top1_error"), (1, 100), strict=True):
            y = scale * np.array([[epoch[key] for epoch in history] for history in histories])
            _line_with_band(axis, x, y, arm, colour)
    axes[0].set_title("loss (cross-entropy with the arm's own targets)")
    axes[1].set_title("top-1 error on augmented images, %")
    return _svg(figure, "training")


@styled
def softening(results: Results) -> str:
    """Confidence against visibility for each arm, above the visibilities that its crop draws."""
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 1))
    colours = arm_colours([one["arm"] for one in results["softening"]])
    drawn = set()
    for one in results["softening"]:
        colour, width = colours[one["arm"]], _width(one["arm"])
        top.plot(one["visibility"], one["confidence"], color=colour, linewidth=width)
        share = tuple(one["histogram"]["share"])
        # Arms with the same transform have the same law; the first one stands for all.
        if share not in drawn:
            drawn.add(share)
            bottom.stairs(
                100 * np.array(share), one["histogram"]["edges"], color=colour, linewidth=1.4
            )
    top.set_title("confidence that the label keeps")
    top.set_ylim(0, 1.04)
    bottom.set_title("share of training images, %")
    bottom.set_xlabel("visibility: share of the image still seen")
    return _svg(figure, "softening")


@styled
def reliability(results: Results) -> str:
    """Accuracy against confidence for each arm, pooled over seeds, with 95 % intervals."""
    arms = list(_by_arm(results))
    columns = min(4, len(arms))
    rows = -(-len(arms) // columns)
    figure = Figure(figsize=(2.4 * columns, 2.7 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axis, (arm, colour, evaluations) in zip(grid.flat, arms, strict=False):
        low, count, confidence, accuracy = _pooled_bins(evaluations)
        width = 1 / len(low)
        # Behind the bars: where the predictions are.
        axis.bar(low, count / count.sum(), width, align="edge", color=INK, alpha=0.13)
        axis.plot([0, 1], [0, 1], color=INK, linewidth=0.6, linestyle=(0, (4, 3)))
        filled = count > 0
        # Wilson's interval: right at shares of 0 and 1 too.
        n, p, z = count[filled], accuracy[filled], 1.96
        centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
        axis.vlines(confidence[filled], centre - half, centre + half, color=colour, alpha=0.55)
        axis.plot(confidence[filled], p, color=colour, marker="o", markersize=3.2, linewidth=1.2)
        ece = np.mean([e["ece"] for e in evaluations])
        axis.set_title(f"{arm}\nECE {100 * ece:.1f} %", fontsize=9)
        axis.set_xlim(0, 1)
        axis.set_ylim(0, 1)
        axis.set_aspect("equal")
    for axis in grid.flat[len(arms) :]:
        axis.set_visible(False)
    figure.supxlabel("confidence", fontsize=10)
    figure.supylabel("accuracy", fontsize=10)
    return _svg(figure, "reliability")


def sample_sheet(images: Tensor, captions: Sequence[str], columns: int = 8) -> Figure:
    """A sheet of uint8 images [n,C,H,W] with a caption under each, pixels kept sharp."""
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.35 * columns, 1.75 * rows), dpi=140, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axis in grid.flat:
        axis.set_axis_off()
    for axis, image, caption in zip(grid.flat, images, captions, strict=False):
        pixels = image.permute(1, 2, 0).squeeze(-1).numpy()
        axis.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        # Class names are the user's: a dollar sign is no mathematics.
        axis.text(
            0.5, -0.06, caption, transform=axis.transAxes, ha="center", va="top",
            fontsize=7.5, parse_math=False,
        )  # fmt: skip
    return figure


def _by_arm(results: Results) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """Arm, colour and the evaluations of its seeds, in the order of the arms."""
    colours = arm_colours([arm["name"] for arm in results["arms"]])
    return [
        (arm, colour, [run["evaluation"] for run in results["runs"] if run["arm"] == arm])
        for arm, colour in colours.items()
    ]


def _pooled_bins(evaluations: list[dict[str, Any]]) -> tuple[np.ndarray[Any, Any], ...]:
    """Low edges, counts, mean confidence and accuracy of the bins of all seeds together."""
    bins = [e["reliability"] for e in evaluations]
    low = np.array([one["low"] for one in bins[0]])
    count = np.array([[one["count"] for one in seed] for seed in bins], dtype=float)
    sums = [
        np.array([[(one[key] or 0.0) * one["count"] for one in seed] for seed in bins]).sum(axis=0)
        for key in ("confidence", "accuracy")
    ]
    total = count.sum(axis=0)
    confidence, accuracy = (value / np.maximum(total, 1) for value in sums)
    return low, total, confidence, accuracy


def _width(arm: str) -> float:
    return 2.4 if arm.startswith("soft") else 1.5


def _line_with_band(
    axis: Axes, x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], arm: str, colour: str
) -> None:
    """y [seeds, points]: the mean as a line, and all seeds within the band."""
    front = 3 if arm.startswith("soft") else 2
    axis.plot(x, y.mean(axis=0), color=colour, linewidth=_width(arm), zorder=front)
    if len(y) > 1:
        axis.fill_between(x, y.min(axis=0), y.max(axis=0), color=colour, alpha=0.18, linewidth=0)


def _figure(columns: int, xlabel: str) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots(1, columns)
    for axis in axes:
        axis.set_xlabel(xlabel)
    return figure, axes


def _svg(figure: Figure, name: str) -> str:
    """The figure as an <svg> element whose ink is the page's text colour and ids are its own."""
    content = io.StringIO()
    figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    svg = content.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = svg.replace(INK, "currentColor")
    return re.sub(r'^<svg ([^>]*?)width="[^"]*" height="[^"]*"', r"<svg \1", svg, count=1)
