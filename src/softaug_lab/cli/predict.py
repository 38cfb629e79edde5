"""softaug predict"""

import csv
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

from cyclopts import Parameter

from softaug_lab.basics.errors import SoftaugError, UsageError, plural
from softaug_lab.cli.evaluation_inputs import load_own
from softaug_lab.cli.options import Device
from softaug_lab.cli.terminal import inert, progress_bar, say
from softaug_lab.recipes import WHOLE, panels

if TYPE_CHECKING:
    from softaug_lab.data import Sample, Unreadable
    from softaug_lab.evaluation import FileProbabilities

STDIN = "-"
Flag = Annotated[bool, Parameter(negative="", group=panels.RUN)]


@dataclass(frozen=True)
class Answer:
    """A line of the output: a class for an image, or None where the model is unsure."""

    path: str
    answer: str | None
    confidence: float


def predict(
    run: Annotated[Path, Parameter(group=panels.MODEL)],
    images: Annotated[
        list[str], Parameter(consume_multiple=True, allow_leading_hyphen=True, group=panels.DATA)
    ],
    /,
    *,
    top: Annotated[int, WHOLE, Parameter(group=panels.RUN)] = 1,
    unsure_below: Annotated[float, Parameter(group=panels.RUN)] = 0.0,
    as_json: Annotated[Flag, Parameter(name="--json")] = False,
    as_csv: Annotated[Flag, Parameter(name="--csv")] = False,
    device: Device = "auto",
) -> None:
    """Predict the class of images: prints path, class and confidence, separated by tabs.

    Where training images were held out, confidences are those after temperature scaling. Lines are
    printed in the order of the images, as soon as each batch is done. An unreadable image is a line
    on the error stream, and the others go on; the exit code is 1 then. Control characters in names,
    such as tabs and newlines, are printed as Python escapes.

    Parameters
    ----------
    run
        A run folder, or a .safetensors file that softaug wrote.
    images
        Image files, folders (searched at any depth), patterns such as "new/*.jpg", or - for
        paths on standard input, one per line.
    top
        Number of most probable classes to print for each image, a line each.
    unsure_below
        Print no class for an image whose confidence is below this probability.
    as_json
        Print an object per line: path, class (null where unsure), confidence, unsure.
    as_csv
        Print comma-separated values with the same four columns, and a line of headings.
    """
    from softaug_lab.basics.processes import choose_device
    from softaug_lab.evaluation import predict_files

    _check(top, unsure_below, as_json and as_csv)
    model = load_own(run).to(choose_device(device))
    out = sys.stdout  # a progress bar puts another in its place
    write = _json_writer(out) if as_json else _csv_writer(out) if as_csv else _text_writer(out)
    done = unreadable = unsure = 0
    for batch in _watched(predict_files(model, _samples(images)), out):
        for image in batch.unreadable:
            say(str(image))
        for answers in _answers(batch, model.card.classes, top, unsure_below):
            unsure += answers[0].answer is None
            for answer in answers:
                write(answer)
        out.flush()
        done, unreadable = done + len(batch.names), unreadable + len(batch.unreadable)
    if unsure_below:
        say(f"unsure of {unsure:,} of {plural(done, 'image')}: confidence below {unsure_below:g}")
    if unreadable:
        raise SoftaugError(f"{unreadable:,} of {plural(done + unreadable, 'image')} unreadable")


def _check(top: int, unsure_below: float, two_forms: bool) -> None:
    if top < 1:
        raise UsageError(f"--top must be at least 1, got {top}")
    if not 0 <= unsure_below <= 1:
        raise UsageError(f"--unsure-below must be in [0, 1], got {unsure_below:g}")
    if two_forms:
        raise UsageError("--json and --csv are two forms of the output; choose one")


def _watched(batches: "Iterator[FileProbabilities]", out: TextIO) -> "Iterator[FileProbabilities]":
    """Show the progress while batches are consumed, unless the terminal shows the lines anyway."""
    with progress_bar() as bar:
        task = None if out.isatty() else bar.add_task("images", total=None, figures="")
        for batch in batches:
            yield batch
            if task is not None:
                bar.update(task, advance=len(batch.names) + len(batch.unreadable))


def _samples(named: list[str]) -> "Iterator[Sample | Unreadable]":
    """Yield what the arguments name; `-` stands for the paths on standard input.

    At the end the files in folders that are no images are counted on the error stream.
    """
    from softaug_lab.data import as_sample, counted, find_images

    others: Counter[str] = Counter()
    for name in named:
        if name != STDIN:
            yield from find_images([name], others)
            continue
        for line in sys.stdin.buffer:  # a path may hold bytes that are no text
            if path := os.fsdecode(line).rstrip("\r\n"):
                yield as_sample(path)
    if others:
        say(f"left out, as no image: {counted(others)}")


def _answers(
    batch: "FileProbabilities", classes: tuple[str, ...], top: int, least: float
) -> Iterator[list[Answer]]:
    """Yield the answers for each image, the most probable class first; one where it is unsure."""
    best = batch.probabilities.topk(min(top, len(classes)), dim=1)
    for name, values, indices in zip(
        batch.names, best.values.tolist(), best.indices.tolist(), strict=True
    ):
        if values[0] < least:
            yield [Answer(name, None, values[0])]
        else:
            yield [Answer(name, classes[i], p) for p, i in zip(values, indices, strict=True)]


# Plain lines, for other programs.


def _text_writer(out: TextIO) -> Callable[[Answer], object]:
    def write(one: Answer) -> None:
        line = "\t".join((inert(one.path), inert(one.answer or ""), f"{one.confidence:.4f}"))
        out.write(f"{line}\n")

    return write


def _json_writer(out: TextIO) -> Callable[[Answer], object]:
    def write(one: Answer) -> None:
        # JSON escapes all that would steer a terminal, and paths stay exact.
        row = (one.path, one.answer, round(one.confidence, 6), one.answer is None)
        out.write(json.dumps(dict(zip(COLUMNS, row, strict=True))) + "\n")

    return write


COLUMNS = ("path", "class", "confidence", "unsure")


def _csv_writer(out: TextIO) -> Callable[[Answer], object]:
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(COLUMNS)

    def write(one: Answer) -> None:
        unsure = one.answer is None
        rows.writerow(
            (inert(one.path), inert(one.answer or ""), f"{one.confidence:.6f}", str(unsure).lower())
        )

    return write
