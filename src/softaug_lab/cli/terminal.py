"""What the command line prints: messages to the user, results, and a progress bar."""

import logging
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.measure import Measurement
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

# Control characters, line ends, changes of the writing direction, and bytes that are not text.
STEERING = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
# A name such as `:bug:` is printed as it is, not as a picture.
console = Console(emoji=False)
messages = Console(stderr=True, emoji=False)


def inert(text: object) -> str:
    """Return the text on one line, with Python escapes (`\\x1b`) for what would steer a terminal.

    Names of files and classes come from the user, or from whoever made the data.
    """
    return STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def say(text: str, style: str | None = None) -> None:
    """Print a message to the user on the error stream, made inert."""
    line = f"softaug: {inert(text)}"
    messages.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


def tell(text: str) -> None:
    """Print a line of the result, made inert."""
    console.print(inert(text), markup=False, soft_wrap=True)


def quoted(path: Path) -> str:
    """Return a path as a shell takes it: names of run folders may hold brackets and spaces."""
    return shlex.quote(str(path))


def show(table: Table) -> None:
    """Print a table whole: lines that are too long for the terminal go on below."""
    if all(column.no_wrap for column in table.columns):
        unlimited = console.options.update(max_width=10_000)
        needed = Measurement.get(console, unlimited, table).maximum
        if needed > console.width:
            table.width = needed  # rich would shorten the figures
    console.print(table, crop=False)


def quiet(silent: bool) -> None:
    """Print nothing from now on (True: for processes other than the first), or print again."""
    console.quiet = silent
    messages.quiet = silent


class _Say(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


def log_to_terminal() -> None:
    """Print what the lab logs as lines of `say`; calling this again changes nothing."""
    logger = logging.getLogger("softaug_lab")
    logger.setLevel(logging.INFO)
    if not any(isinstance(handler, _Say) for handler in logger.handlers):
        logger.addHandler(_Say())


def progress_bar() -> Progress:
    """A bar for each task, on the error stream; nothing where that is no terminal."""
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
    """Show a training step; without a bar, print one line when the training ends."""
    figures = f"epoch {step.epoch}  loss {step.loss:.3f}  {step.images_per_second:,.0f} images/s"
    bar.update(task, completed=step.step, total=step.steps, figures=figures)
    if bar.disable and step.step == step.steps:
        line = f"{bar.tasks[task].description}: trained, {figures}"
        messages.print(line, markup=False, highlight=False)
