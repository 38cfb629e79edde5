"""Figures of a report, drawn by matplotlib from prepared arrays, as SVG for light and dark pages.

Every panel is an SVG of its own, without words but for its axes: the page lays them out, and
writes titles and legends in its own type.
"""

import functools
import io
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from softaug_lab.report.prepare import Array, Lines, Reliability, mean_over

# Drawn in this colour, then replaced by the page's own, so that dark pages work.
INK = "#010203"
FEW_POINTS = 6  # of a line, to have markers
Z95 = 1.96  # of a normal interval of 95 %
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "softaug",
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.13,
    "grid.linewidth": 0.5,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.size": 0,
}
Drawn = ParamSpec("Drawn")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Look:
    """How an arm is drawn, in every figure. dash: lengths of line and gap in points, () is none."""

    colour: str
    dash: tuple[float, ...] = ()
    width: float = 1.6
    marker: str = "o"


# Told apart under the three dichromacies, and at 3:1 or more on white and on near-black; dashes
# mark the arms whose softening looks at no image.
LOOKS = {
    "none": Look("#909090", marker="x"),
    "standard": Look("#5591e8", marker="s"),
    "standard-smoothed": Look("#1d7280", (5, 2), marker="D"),
    "harsh": Look("#d47a10", marker="^"),
    "harsh-constant": Look("#8f35e6", (5, 2), marker="v"),
    "soft": Look("#d12a3c", width=2.8, marker="o"),
}
SPARE_COLOURS = ("#a8517b", "#6b8e23", "#9a6a2f", "#4f8a8b", "#b05ac0", "#6a78a8")
SPARE_DASHES: tuple[tuple[float, ...], ...] = ((1.2, 1.6), (7, 2, 1.2, 2), (3, 1.5))


def arm_looks(arms: Sequence[str]) -> dict[str, Look]:
    """One look for each arm; the arms of the six are the same in every report."""
    # The dash moves on with every round of the colours, so that all pairs come before any again.
    spare = itertools.cycle(
        (colour, SPARE_DASHES[(i + turn) % len(SPARE_DASHES)])
        for turn in range(len(SPARE_DASHES))
        for i, colour in enumerate(SPARE_COLOURS)
    )
    return {
        arm: LOOKS.get(arm) or Look(*next(spare), width=2.2 if arm.startswith("soft") else 1.6)
        for arm in arms
    }


def styled(draw: Callable[Drawn, Result]) -> Callable[Drawn, Result]:
    """Draw in the report's style, and leave matplotlib's settings as they were."""

    @functools.wraps(draw)
    def within(*args: Drawn.args, **kwargs: Drawn.kwargs) -> Result:
        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return within


@styled
def plot_lines(
    lines: Sequence[Lines], looks: dict[str, Look], name: str, xlabel: str, *, band: bool
) -> str:
    """The mean over seeds of each arm, with a band from least to most or a thin line a seed."""
    figure, axis = _panel()
    for one in lines:
        look = looks[one.arm]
        front = 3 + look.width
        marker = look.marker if len(one.x) <= FEW_POINTS else ""
        mean = mean_over(one.y)
        axis.plot(one.x, mean, **_line(look), marker=marker, markersize=4, zorder=front)
        if len(one.y) > 1 and band:
            low, high = np.ma.masked_invalid(one.y).min(axis=0), np.ma.masked_invalid(one.y).max(0)
            axis.fill_between(one.x, low, high, color=look.colour, alpha=0.16, linewidth=0)
        elif len(one.y) > 1:
            axis.plot(one.x, one.y.T, color=look.colour, linewidth=0.6, alpha=0.45)
    axis.set_xlabel(xlabel)
    whole = all((one.x == one.x.round()).all() for one in lines)
    axis.xaxis.set_major_locator(MaxNLocator(6, integer=whole))
    return _svg(figure, name)


@styled
def plot_softening(
    curves: Sequence[Lines], histograms: Sequence[Lines], looks: dict[str, Look], name: str
) -> str:
    """Confidence against visibility, above the visibilities that each arm's transform draws.

    Arms whose lines are the same share one, in dashes of all their colours.
    """
    figure = Figure(figsize=(4.8, 3.9), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(1.9, 1))
    for one, style in _interleaved(curves, looks):
        top.plot(one.x, one.y[0], **style)
    for one, style in _interleaved(histograms, looks):
        bottom.stairs(one.y[0], one.x, **style)
    top.set_ylim(0, 1.04)
    top.set_ylabel("confidence")
    bottom.set_ylim(bottom=0)
    bottom.set_ylabel("images, %")
    bottom.set_xlim(0, 1.01)
    bottom.set_xlabel("visibility")
    return _svg(figure, name)


@styled
def plot_reliability(bins: Reliability, look: Look, name: str) -> str:
    """Accuracy against confidence with 95 % intervals, before the share of predictions a bin."""
    figure = Figure(figsize=(2.5, 2.4), layout="constrained")
    axis = figure.subplots()
    share = bins.count / bins.count.sum()
    axis.bar(bins.low, share, bins.width, align="edge", color=INK, alpha=0.16, linewidth=0)
    axis.plot([0, 1], [0, 1], color=INK, linewidth=0.7, linestyle=(0, (4, 3)), alpha=0.7)
    filled = bins.count > 0
    x, p = bins.confidence[filled], bins.accuracy[filled]
    axis.vlines(x, *_wilson(p, bins.count[filled]), color=look.colour, alpha=0.5, linewidth=1.2)
    axis.plot(x, p, color=look.colour, marker="o", markersize=3, linewidth=1.1)
    axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="confidence", ylabel="accuracy")
    for ticks in (axis.set_xticks, axis.set_yticks):
        ticks([0, 0.5, 1], labels=["0", "0.5", "1"])
    return _svg(figure, name)


@styled
def sample_sheet(images: Tensor, captions: Sequence[str], columns: int = 8) -> Figure:
    """A sheet of uint8 images [n,C,H,W] with a caption under each, pixels kept sharp.

    1, 3 or 4 channels are shown as they are, of other numbers the mean. Raises ValueError where
    there is no image or not one caption for each.
    """
    n, channels, height, width = images.shape
    if n == 0 or len(captions) != n or columns < 1:
        raise ValueError(
            f"a sheet needs images, a caption for each and a column, got {n} images, "
            f"{len(captions)} captions and {columns} columns"
        )
    columns = min(columns, n)
    rows = -(-n // columns)
    lines = max(caption.count("\n") + 1 for caption in captions)
    cell = 1.35 * height / width + 0.15 * lines + 0.12
    figure = Figure(figsize=(1.35 * columns, cell * rows), dpi=140, layout="constrained")
    figure.patch.set_facecolor("white")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axis in grid.flat:
        axis.set_axis_off()
    for axis, image, caption in zip(grid.flat, images.cpu(), captions, strict=False):
        shown = image if channels in (1, 3, 4) else image.float().mean(dim=0, keepdim=True)
        pixels = shown.permute(1, 2, 0).squeeze(-1).numpy()
        axis.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        # Class names are the user's: a dollar sign is no mathematics, and some are long.
        text = "\n".join(_shortened(line, 21) for line in caption.split("\n"))
        axis.text(
            0.5, -0.05, text, transform=axis.transAxes, ha="center", va="top",
            fontsize=7.5, color="black", parse_math=False,
        )  # fmt: skip
    return figure


def _shortened(line: str, most: int) -> str:
    return line if len(line) <= most else line[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _panel() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.6, 2.9), layout="constrained")
    return figure, figure.subplots()


def _line(look: Look) -> dict[str, Any]:
    # matplotlib counts dashes in line widths.
    dash = tuple(length / look.width for length in look.dash)
    return {
        "color": look.colour,
        "linewidth": look.width,
        "linestyle": (0, dash) if dash else "-",
    }


def _interleaved(
    lines: Sequence[Lines], looks: dict[str, Look], length: float = 7.0
) -> list[tuple[Lines, dict[str, Any]]]:
    """Lines with their style; those that coincide take turns of `length` points."""
    groups: dict[bytes, list[Lines]] = {}
    for one in lines:
        groups.setdefault(one.x.tobytes() + one.y.tobytes(), []).append(one)
    styled_lines = []
    for group in groups.values():
        width = max(looks[one.arm].width for one in group)
        for i, one in enumerate(group):
            style = _line(replace(looks[one.arm], width=width))
            if len(group) > 1:
                on = length / width
                style["linestyle"] = (-i * on, (on, (len(group) - 1) * on))
            styled_lines.append((one, style))
    return styled_lines


def _wilson(p: Array, n: Array) -> tuple[Array, Array]:
    """Wilson's 95 % interval of a share p of n, which holds at 0 and 1 too."""
    centre = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 * np.sqrt(p * (1 - p) / n + Z95**2 / (4 * n**2)) / (1 + Z95**2 / n)
    return centre - half, centre + half


def _svg(figure: Figure, name: str) -> str:
    """The figure as an <svg> element in the page's ink and type, its ids beginning with `name`."""
    content = io.StringIO()
    figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    svg = content.getvalue()
    svg = svg[svg.index("<svg") :]
    # Inside a page a style would hold for all of it, and namespaces are known.
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    svg = svg.replace(INK, "currentColor")
    return re.sub(r'^<svg ([^>]*?)width="[^"]*" height="[^"]*"', r"<svg \1", svg, count=1)
