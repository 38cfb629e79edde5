"""What the command line prints: messages, a progress bar, and tables of figures."""

import logging
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

if TYPE_CHECKING:
    from softaug_lab.training import Progress as StepProgress

# Keys of the evaluation to the headings of the table of arms.
ARM_COLUMNS = {
    "top1_error": "error %",
    "knn_error": "kNN",
    "occluded_error": "hidden",
    "occluded_black": "black",
    "nll": "NLL",
    "ece": "ECE %",
    "ece_floor": "floor",
    "calibration_gap": "gap",
}
CAPTION = (
    "error: top-1, in %; hidden, black: the same with 40 % of each image hidden in mean colour, "
    "which no crop is filled with, or in black; floor: the ECE a calibrated model would measure; "
    "gap: confidence minus accuracy; p: mean confidence in training"
)
# Controls, ends of lines, turns of the writing direction, and bytes that are no text.
STEERING = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
# Names such as `:bug:` are no pictures.
console = Console(emoji=False)
messages = Console(stderr=True, emoji=False)


def inert(text: object) -> str:
    """The text on one line; what would steer a terminal stands as Python writes it, `\\x1b`.

    Names of files and classes are the user's, or of whoever made the data.
    """
    return STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def say(text: str, style: str | None = None) -> None:
    """A line to the user that is no result: on the error stream, inert."""
    line = f"softaug: {inert(text)}"
    messages.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


def tell(text: str) -> None:
    """A line of the result, inert."""
    console.print(inert(text), markup=False, soft_wrap=True)


def quiet(silent: bool) -> None:
    """Say nothing, as processes beside the first do; or speak again."""
    console.quiet = silent
    messages.quiet = silent


class _Say(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


def log_to_terminal() -> None:
    """Show what the library logs as lines of `say`, once."""
    logger = logging.getLogger("softaug_lab")
    if not any(isinstance(handler, _Say) for handler in logger.handlers):
        logger.addHandler(_Say())


def progress_bar() -> Progress:
    return Progress(
        TextColumn("{task.description:24}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        console=messages,
        disable=not messages.is_terminal,
    )


def advance(bar: Progress, task: TaskID, step: "StepProgress") -> None:
    figures = f"epoch {step.epoch}  loss {step.loss:.3f}  {step.images_per_second:,.0f} images/s"
    bar.update(task, completed=step.step, total=step.steps, figures=figures)
    if bar.disable and step.step == step.steps:
        # A log has no bar; a line for each trained model is enough.
        line = f"{bar.tasks[task].description}: trained, {figures}"
        messages.print(line, markup=False, highlight=False)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f}"


EVALUATION_CAPTION = (
    "on {images:,} test images; interval: 95 %, over images; floor: what a calibrated model would "
    "measure; gap: confidence minus accuracy; AURC: area under risk and coverage"
)
SCALED_CAPTION = "; T: logits divided by a temperature fitted on held-out training images"


def evaluation_table(figures: dict[str, Any]) -> Table:
    """All figures of one model: errors, plain and with more and more hidden, then probabilities.

    The right half has those after temperature scaling, where there are any. Records of earlier
    versions lack some figures, and their rows.
    """
    scaled = figures.get("scaled")
    caption = EVALUATION_CAPTION.format_map(figures) + (SCALED_CAPTION if scaled else "")
    table = Table(caption=caption, caption_justify="left", box=SIMPLE_HEAD)
    table.pad_edge, table.show_edge, table.collapse_padding = False, False, True
    table.add_column(no_wrap=True)
    halves = [_evaluation_rows(figures, figures["ece_bins"])]
    titles = ["figure"]
    if scaled:
        halves.append(_evaluation_rows(scaled, figures["ece_bins"]))
        titles.append(f"T = {figures['temperature']:.3g}")
    for title in titles:
        for heading in (title, "interval", "floor"):
            table.add_column(heading, justify="right", no_wrap=True)
    for name in halves[0]:
        table.add_row(name, *(cell for half in halves for cell in half.get(name, ("", "", ""))))
    return table


def ood_table(figures: dict[str, Any]) -> Table:
    """How well the model tells other data from the test images."""
    caption = (
        f"the test images (positive) against {figures['images']:,} of {inert(figures['data'])}"
    )
    table = Table("", "", show_header=False, caption=escape(caption))
    table.columns[1].justify = "right"
    for key, score in {"softmax": "maximum softmax", "energy": "energy"}.items():
        table.add_row(f"AUROC %, {score}", _percent(figures[key]["auroc"]))
        table.add_row(f"FPR % at 95 % TPR, {score}", _percent(figures[key]["fpr95"]))
    return table


def _evaluation_rows(figures: dict[str, Any], bins: int) -> dict[str, tuple[str, str, str]]:
    """Name, figure, interval and floor of each figure that is there."""
    rows: dict[str, tuple[str, str, str]] = {}

    def add(name: str, key: str, text: Callable[[float], str] = _percent) -> None:
        if key not in figures:
            return
        ends, floor = figures.get(f"{key}_interval"), figures.get(f"{key}_floor")
        interval = "\N{EN DASH}".join(_percent(end) for end in ends) if ends else ""
        rows[name] = (text(figures[key]), interval, "" if floor is None else _percent(floor))

    add("top-1 error %", "top1_error")
    for fill, levels in figures.get("occlusion", {}).items():
        for level in levels[1:]:
            name = f"  {level['actual_share']:.1%} hidden, {fill}"
            rows[name] = (_percent(level["top1_error"]), "", "")
    # A run evaluated before there were areas has none.
    for fill, area in figures.get("occlusion_area", {}).items():
        rows[f"  mean over shares, {fill}"] = (_percent(area["top1_error"]), "", "")
    add("top-5 error %", "top5_error")
    add("kNN error %", "knn_error")
    add("  the same before training", "untrained_knn_error")
    add("  top-1, before training", "untrained_error")
    add("NLL", "nll", "{:.4f}".format)
    add("Brier score", "brier", "{:.4f}".format)
    add("  reliability, best at 0", "brier_reliability", "{:.4f}".format)
    add("  resolution, best high", "brier_resolution", "{:.4f}".format)
    add(f"ECE %, {bins} equal widths", "ece")
    add(f"ECE %, {bins} equal masses", "ece_mass")
    add("smooth ECE %", "smooth_ece")
    add("class-wise ECE %", "classwise_ece")
    add("gap, points", "calibration_gap", lambda gap: f"{100 * gap:+.2f}")
    add("AURC %", "aurc")
    add("  above the best order's", "excess_aurc")
    return rows


def corruption_table(result: dict[str, Any]) -> Table:
    """Error at each severity and mean figures for each corruption, by group, then the means."""
    from softaug_lab.corruptions import EXTRA, GROUPS, SEVERITIES

    made = f", made with the constants of {result['constants']}" if "constants" in result else ""
    table = Table(
        title=escape(inert(f"corruptions: {result['source']}")),
        caption=f"top-1 error in % at severities 1 to 5 and on average; NLL and ECE % on average; "
        f"{result['images']:,} images{made}",
        box=SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
        pad_edge=False,
    )
    table.add_column("", no_wrap=True)
    for heading in (*map(str, SEVERITIES), "mean", "NLL", "ECE"):
        table.add_column(heading, justify="right", no_wrap=True)

    def means(mean: dict[str, float]) -> list[str]:
        return [_percent(mean["top1_error"]), f"{mean['nll']:.3f}", _percent(mean["ece"])]

    blank = [""] * len(SEVERITIES)
    for group, names in {**GROUPS, "extra": EXTRA}.items():
        for name in (name for name in names if name in result["corruptions"]):
            levels = result["corruptions"][name]
            errors = [level["top1_error"] for level in levels]
            mean = {
                k: sum(x[k] for x in levels) / len(levels) for k in ("top1_error", "nll", "ece")
            }
            table.add_row(f"  {name}", *(f"{100 * error:.1f}" for error in errors), *means(mean))
        if group in result["groups"]:
            table.add_row(f"[bold]{group}[/]", *blank, *means(result["groups"][group]))
    if result["mean"] is not None:
        table.add_row("[bold]mean corruption error[/]", *blank, *means(result["mean"]))
    if result["normalised"] is not None:
        table.add_row(
            "[bold]relative to baseline %[/]", *blank, _percent(result["normalised"]), "", ""
        )
    return table


def plan_table(plan: dict[str, str]) -> Table:
    """What a dry run found, a heading and a text in each row."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(overflow="fold", max_width=28)
    table.add_column()
    for name, text in plan.items():
        table.add_row(escape(inert(name)), escape(inert(text)))
    return table


def arms_table(results: dict[str, Any]) -> Table:
    """One row for each arm: means over its seeds, their standard deviation below."""
    from softaug_lab.report import arm_rows, shown_columns

    table = Table(caption=CAPTION, caption_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("arm", overflow="fold", min_width=10)
    shown = [(i, c) for i, c in enumerate(shown_columns(results)) if c.key in ARM_COLUMNS]
    for heading in [*(ARM_COLUMNS[column.key] for _, column in shown), "p"]:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in arm_rows(results):
        cells = [row["cells"][i] for i, _ in shown]
        texts = [f"{c.text}\n[dim]\u00b1{c.sd}[/]" if c.sd else c.text for c in cells]
        table.add_row(escape(inert(row["name"])), *texts, f"{row['confidence']:.3f}")
    return table
