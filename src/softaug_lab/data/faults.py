"""Errors and notes about a whole data set: unreadable images, classes without images."""

import math
from collections.abc import Sequence

from torch import Tensor

from softaug_lab.basics.errors import SoftaugError, listed, plural, report_faults
from softaug_lab.data.sample import Unreadable


def leave_out(
    source: str,
    unreadable: Sequence[Unreadable],
    n: int,
    max_unreadable: float,
    noun: str = "unreadable image",
) -> list[str]:
    """Return a note on the unreadable ones among n images, which are left out.

    Raises SoftaugError that counts them where they exceed a share of `max_unreadable`.
    """
    if not unreadable:
        return []
    if len(unreadable) > max_unreadable * n:
        # Rounded up, so that the suggested share suffices.
        enough = math.ceil(1000 * len(unreadable) / n) / 1000
        raise SoftaugError(
            f"{summarise(source, unreadable)}; --max-unreadable {enough:g} would leave them out"
        )
    were = "was" if len(unreadable) == 1 else "were"
    return [f"{plural(len(unreadable), noun)} {were} left out, such as {unreadable[0]}"]


def summarise(source: str, unreadable: Sequence[Unreadable]) -> str:
    """Count the unreadable images of a source and name the first ten."""
    count = plural(len(unreadable), "unreadable image")
    return f"{source}: {count}: {listed(unreadable, 10, '; ')}"


def check_counts(
    source: str, classes: Sequence[str], train: Tensor, test: Tensor | None, noun: str
) -> None:
    """Raise SoftaugError where a class has no training image, or where there is no test image.

    train, test: images per class [K]; test is None where the test part is yet to be split off.
    noun: the images that are counted, such as `training image`.
    """
    faults = [
        f"{source}: class {name!r} has no {noun}"
        for name, n in zip(classes, train.tolist(), strict=True)
        if not n
    ]
    if len(classes) < 2:
        faults.append(f"{source}: {len(classes)} class; at least 2 are needed")
    if test is not None and not test.sum():
        faults.append(f"{source}: no image to test on")
    report_faults(source, faults)


def note_untested(source: str, classes: Sequence[str], test: Tensor) -> list[str]:
    """Return a note on the classes without a test image; test: images per class [K]."""
    untested = [name for name, n in zip(classes, test.tolist(), strict=True) if not n]
    return [f"{source}: classes without a test image: {listed(untested, 5)}"] if untested else []
