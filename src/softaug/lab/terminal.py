"""What the command line prints: messages, a progress bar, and tables of figures."""

import logging
import re
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
    from softaug.lab.train import Progress as StepProgress

# Keys of the evaluation to the headings of the table of arms.
ARM_COLUMNS = {
    "top1_error": "error %",
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
    "gap: confidence minus accuracy, points; p: mean confidence of the targets"
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
    logger = logging.getLogger("softaug")
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


def evaluation_table(figures: dict[str, Any]) -> Table:
    """All figures of one model, then how they fall as more of the image is hidden."""
    table = Table("", "", show_header=False, caption=f"on {figures['images']:,} test images")
    table.columns[1].justify = "right"
    for name, text in {
        "top-1 error %": _percent(figures["top1_error"]),
        "top-5 error %": _percent(figures["top5_error"]),
        "NLL": f"{figures['nll']:.4f}",
        f"ECE % ({figures['ece_bins']} equal-width bins)": _percent(figures["ece"]),
        "  a calibrated model would measure %": _percent(figures["ece_floor"]),
        "confidence minus accuracy, points": f"{100 * figures['calibration_gap']:+.2f}",
        "Brier score": f"{figures['brier']:.4f}",
        **{
            f"top-1 error % with {level['actual_share']:.1%} hidden, {fill}": _percent(
                level["top1_error"]
            )
            for fill, levels in figures["occlusion"].items()
            for level in levels[1:]
        },
        # A run evaluated before there were areas has none.
        **{
            f"mean over the hidden shares, error / ECE %, {fill}": " / ".join(
                _percent(area[key]) for key in ("top1_error", "ece")
            )
            for fill, area in figures.get("occlusion_area", {}).items()
        },
    }.items():
        table.add_row(name, text)
    return table


def corruption_table(result: dict[str, Any]) -> Table:
    """Error at each severity and mean figures for each corruption, by group, then the means."""
    from softaug.lab.corruption_constants import EXTRA, GROUPS, SEVERITIES

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
    from softaug.lab.report.tables import arm_rows, shown_columns

    table = Table(caption=CAPTION, caption_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("arm", overflow="fold")
    shown = [(i, c) for i, c in enumerate(shown_columns(results)) if c.key in ARM_COLUMNS]
    for heading in [*(ARM_COLUMNS[column.key] for _, column in shown), "p"]:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in arm_rows(results):
        cells = [row["cells"][i] for i, _ in shown]
        texts = [f"{c.text}\n[dim]\u00b1{c.sd}[/]" if c.sd else c.text for c in cells]
        table.add_row(escape(inert(row["name"])), *texts, f"{row['confidence']:.3f}")
    return table
