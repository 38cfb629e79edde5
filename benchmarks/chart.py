"""The chart of the README: others' time over ours, and how the cost of the soft crop grows.

What does less than ours (kornia's policies draw once for all of a batch) is left to the table.
"""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import ScalarFormatter

COLOURS = {"torchvision": "#d95f02", "kornia": "#7570b3", "softaug, with targets": "#1b9e77"}
AXES = {"batch": "images in a batch (32 px)", "side": "side, px", "classes": "classes"}


def draw(found: dict[str, Any], path: Path) -> None:
    figure, panels = plt.subplots(1, 4, figsize=(14, 3.6), layout="constrained")
    _ratios(panels[0], [*found["transforms"], *found["policies"]])
    for panel, (axis, label) in zip(panels[1:], AXES.items(), strict=True):
        _growth(panel, [r for r in found["growth"] if r["axis"] == axis], label)
    panels[1].legend(frameon=False, fontsize=8)
    where = found["where"]
    figure.suptitle(f"one thread of {where['processor']}, torch {where['torch']}", fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _ratios(panel: Axes, records: list[dict[str, Any]]) -> None:
    """The others' programs, each over ours that does the same: the slower, the longer."""
    shown = [
        r
        for r in records
        if r["library"].split(",")[0] in COLOURS and r["dtype"] == "float32" and r["size"] == 32
        if "," not in r["name"]
    ]
    places = range(len(shown))
    colours = [COLOURS[r["library"].split(",")[0]] for r in shown]
    panel.barh(places, [r["ratio"] for r in shown], color=colours)
    panel.set_yticks(places, [r["name"] for r in shown], fontsize=7)
    panel.invert_yaxis()
    panel.set_xscale("log")
    panel.axvline(1, color="black", linewidth=0.8)
    panel.set_xlabel("times softaug's time, 32 px, float32")


def _growth(panel: Axes, records: list[dict[str, Any]], label: str) -> None:
    for name in dict.fromkeys(r["name"] for r in records):
        points = [(r["at"], r["us_per_image"]) for r in records if r["name"] == name]
        panel.plot(
            *zip(*points, strict=True), marker="o", label=name, color=COLOURS.get(name, "0.6")
        )
    panel.set_xscale("log", base=2 if label != AXES["classes"] else 10)
    panel.set_yscale("log")
    panel.xaxis.set_major_formatter(ScalarFormatter())
    panel.set_xlabel(label)
    panel.set_ylabel("µs per image, uint8")
