"""The drawings of a report as SVG for light and dark pages, by matplotlib from prepared arrays.

Each panel is an SVG of its own, without words except on its axes: the page lays them out, and
writes titles and legends in its own type.
"""

import functools
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from softaug_lab.report.looks import LOOKS, Look
from softaug_lab.report.prepare import Array, Lines, Promise, Reliability, mean_over

# Drawings have this colour, which `_svg` replaces by the page's own, so that dark pages work.
INK = "#010203"
FEW_POINTS = 6  # lines with no more points have markers
Z95 = 1.96  # standard deviations of a 95 % normal interval
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


def styled(draw: Callable[Drawn, Result]) -> Callable[Drawn, Result]:
    """Decorate a function to draw in the report's style; matplotlib's settings stay unchanged."""

    @functools.wraps(draw)
    def within(*args: Drawn.args, **kwargs: Drawn.kwargs) -> Result:
        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return within


@styled
def plot_lines(
    lines: Sequence[Lines], looks: dict[str, Look], name: str, xlabel: str, *, band: bool
) -> str:
    """Draw each arm's mean over seeds, with a band from lowest to highest or a thin line per seed.

    name: prefix of the ids in the SVG.
    """
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
def plot_pairs(
    confidence: Sequence[Lines],
    accuracy: Sequence[Lines],
    looks: dict[str, Look],
    name: str,
    xlabel: str,
    promise: Promise | None = None,
) -> str:
    """Draw each arm's confidence as its line and its accuracy as a thin one, means over seeds.

    What lies between the two is shaded: the gap. Both are in the order of the arms. promise: of a
    single run, drawn with the 95 % interval of its accuracy.
    """
    figure, axis = _panel()
    if promise is not None:
        (true,) = accuracy
        low, high = _wilson(true.y[0] / 100, np.full_like(true.y[0], promise.images))
        bars = np.abs(np.stack([100 * low, 100 * high]) - true.y[0])
        axis.errorbar(true.x, true.y[0], bars, fmt="none", ecolor=INK, elinewidth=0.8, capsize=2)
        axis.plot(promise.x, promise.y, color=INK, linewidth=0.9, linestyle=(0, (1, 2)))
    for said, true in zip(confidence, accuracy, strict=True):
        look = looks[said.arm]
        front = 3 + look.width
        upper, lower = mean_over(said.y), mean_over(true.y)
        marker = look.marker if len(said.x) <= FEW_POINTS else ""
        axis.plot(said.x, upper, **_line(look), marker=marker, markersize=4, zorder=front)
        axis.plot(true.x, lower, color=look.colour, linewidth=0.8, zorder=front)
        axis.fill_between(said.x, upper, lower, color=look.colour, alpha=0.1, linewidth=0)
    axis.set_xlabel(xlabel)
    axis.xaxis.set_major_locator(MaxNLocator(6))
    return _svg(figure, name)


@styled
def plot_softening(
    curves: Sequence[Lines], histograms: Sequence[Lines], looks: dict[str, Look], name: str
) -> str:
    """Draw confidence against visibility, above a histogram of each arm's visibilities.

    Arms with equal lines share one line, in dashes of their colours.
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
    """Draw accuracy against confidence with 95 % intervals, over bars of each bin's share."""
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
def plot_direction(
    x: Array,
    difference: Array,
    error: Array,
    tried: Sequence[tuple[float, float]],
    taken: float,
    name: str,
    xlabel: str,
) -> str:
    """Draw a search's fit of score differences with its error band, and the runs behind it.

    tried: (x, difference) of single runs. taken: where the search went. name: prefix of the ids.
    """
    figure, axis = _panel()
    colour = LOOKS["soft"].colour
    axis.fill_between(x, difference - error, difference + error, color=colour, alpha=0.16, lw=0)
    axis.plot(x, difference, color=colour, linewidth=1.6)
    axis.plot([0.0], [0.0], "o", color=INK, markersize=4)
    for place, value in tried:
        axis.plot([place], [value], "o", color=colour, markersize=4)
    axis.axvline(taken, color=INK, linewidth=0.8, alpha=0.5)
    axis.set_xlabel(xlabel)
    return _svg(figure, name)


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
    """Give each line its style; lines that coincide alternate in dashes of `length` points."""
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
    """Wilson's 95 % interval for a share p of n; it is valid at 0 and 1 too."""
    centre = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 * np.sqrt(p * (1 - p) / n + Z95**2 / (4 * n**2)) / (1 + Z95**2 / n)
    return centre - half, centre + half


def _svg(figure: Figure, name: str) -> str:
    """Convert the figure to an <svg> in the page's ink and type; `name` prefixes its ids."""
    content = io.StringIO()
    figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    svg = content.getvalue()
    svg = svg[svg.index("<svg") :]
    # Inside a page a <style> would apply to all of it, and namespaces are implied.
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    svg = svg.replace(INK, "currentColor")
    return re.sub(r'^<svg ([^>]*?)width="[^"]*" height="[^"]*"', r"<svg \1", svg, count=1)
