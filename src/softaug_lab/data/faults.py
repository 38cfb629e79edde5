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
        named = summarise(source, unreadable, noun)
        raise SoftaugError(f"{named}; --max-unreadable {enough:g} would leave them out")
    were = "was" if len(unreadable) == 1 else "were"
    return [f"{plural(len(unreadable), noun)} {were} left out, such as {unreadable[0]}"]


def summarise(source: str, unreadable: Sequence[Unreadable], noun: str = "unreadable image") -> str:
    """Count the unreadable images of a source and name the first ten."""
    count = plural(len(unreadable), noun)
    return f"{source}: {count}: {listed(unreadable, 10, '; ')}"


def check_counts(
    source: str, classes: Sequence[str], train: Tensor, test: Tensor | None
) -> list[str]:
    """Return a note on the classes of a part without images.

    train, test: images per class [K]; test is None where the test part is yet to be split off.
    Raises SoftaugError where fewer than two classes have a training image, or none a test image.
    """
    trained = int((train > 0).sum())
    faults = []
    if trained < 2:
        faults.append(f"{source}: images to train on of {trained} class; at least 2 are needed")
    if test is not None and not test.sum():
        faults.append(f"{source}: no image to test on")
    report_faults(source, faults)
    return _without(source, classes, train, "training")


def check_decoded(source: str, classes: Sequence[str], counted: Tensor, decoded: Tensor) -> None:
    """Raise SoftaugError where a class lost all its training images, since none is readable.

    counted, decoded: training images per class [K], before and after they were decoded.
    """
    lost = (counted > 0) & (decoded == 0)
    faults = [
        f"{source}: class {name!r} has no readable image to train on"
        for name, none in zip(classes, lost.tolist(), strict=True)
        if none
    ]
    report_faults(source, faults)


def check_tested(source: str, classes: Sequence[str], test: Tensor) -> list[str]:
    """Return a note on the classes without a test image; test: decoded images per class [K].

    Raises SoftaugError where there is no test image.
    """
    if not test.sum():
        raise SoftaugError(f"{source}: no image to test on")
    return _without(source, classes, test, "test")


def _without(source: str, classes: Sequence[str], counts: Tensor, kind: str) -> list[str]:
    names = [name for name, n in zip(classes, counts.tolist(), strict=True) if not n]
    return [f"{source}: classes without a {kind} image: {listed(names, 5)}"] if names else []
