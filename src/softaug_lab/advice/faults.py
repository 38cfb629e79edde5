"""What is wrong with a data set for training and testing, the gravest first."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch

from softaug_lab.advice import copies
from softaug_lab.advice.choose import Choice
from softaug_lab.basics.errors import listed, plural
from softaug_lab.data import Inspection, number_to_hold_out
from softaug_lab.recipes import are_few_photos

VERY_FEW, FEW = 10, 100  # training images of a class
LEAK = 0.01  # share of the test images that are copies, from which figures are wrong
FEW_TESTS = 100  # on fewer an error of 25 % is known to 8 points at best
UNBALANCED = 3  # times as many training images in the largest class as in the smallest
TINY = 16  # pixels of the short side
CROPPED = 1 / 3  # of an image, that the centre crop removes
OFTEN = 0.2  # share of the images that are cropped so, or enlarged
NAMES = 4  # classes that a sentence names

Effect = Literal["stops", "misleads", "weakens", "is to know"]
EFFECTS: tuple[Effect, ...] = ("stops", "misleads", "weakens", "is to know")


@dataclass(frozen=True)
class Fault:
    """One fault and what it does to the training: `misleads` makes its figures wrong."""

    effect: Effect
    text: str


def find_faults(data: Inspection, choice: Choice) -> list[Fault]:
    """List the faults of a data set, the gravest first."""
    found = [
        *_copies(data),
        *_unreadable(data),
        *_too_few(data, choice),
        *_sides(data, choice),
        *_names(data, choice),
        *(Fault("is to know", note) for note in data.notes),
    ]
    return sorted(found, key=lambda fault: EFFECTS.index(fault.effect))


def _copies(data: Inspection) -> Iterator[Fault]:
    yield from _leaks(data)
    pairs = copies.contradictory(data.seen)
    if pairs:
        first, second = pairs[0]
        verb = "has a copy" if len(pairs) == 1 else "have copies"
        yield Fault(
            "misleads",
            f"{plural(len(pairs), 'image')} {verb} in another class, such as {first.name} and "
            + second.name
            + ("" if data.built_in else "; keep the right one"),
        )
    surplus = copies.surplus(data.seen_train)
    if surplus:
        are = "is an exact copy" if surplus == 1 else "are exact copies"
        yield Fault(
            "is to know",
            f"{plural(surplus, 'training image')} {are} of another one and count twice",
        )


def _leaks(data: Inspection) -> Iterator[Fault]:
    """List test images that are training images too, or may be: what looks alike is not judged."""
    exact, alike = copies.shared(data.seen_train, data.seen_test)
    side = "make train/ and test/ yourself with copies on one side"
    mend = f"delete the copies, or {side}" if data.split else "delete them from one part"
    rows: tuple[tuple[dict[int, int], Effect, str, str], ...] = (
        (exact, "misleads", "exact copies of", f"the measured error will be too low: {mend}"),
        (alike, "weakens", "much like", "look at them first: if they were saved again or resized, "
         f"the measured error will be too low, so {mend}"),
    )  # fmt: skip
    for found, effect, what, then in rows:
        if found:
            test, train = min(found.items())
            pair = f"{data.seen_test[test].name} and {data.seen_train[train].name}"
            text = (
                f"{len(found):,} of {len(data.seen_test):,} test images are {what} training images"
            )
            yield Fault(
                effect if len(found) >= LEAK * len(data.seen_test) else "is to know",
                f"{text}, such as {pair}" + ("" if data.built_in else f"; {then}"),
            )


def _unreadable(data: Inspection) -> Iterator[Fault]:
    n = len(data.unreadable)
    if not n:
        return
    are = "is" if n == 1 else "are"
    yield Fault(
        "weakens",
        f"{plural(n, 'image')} of {data.opened:,} {are} unreadable, such as "
        f"{data.unreadable[0]}; mend or delete, since the command leaves them out",
    )
    readable = Counter(one.label for one in data.seen_train)
    lost = [
        name
        for i, name in enumerate(data.classes)
        if data.whole and data.train[i] and not readable[i]
    ]
    if lost:
        yield Fault("stops", f"no readable training image in {listed(lost, NAMES)}; add some")


def _too_few(data: Inspection, choice: Choice) -> Iterator[Fault]:
    present = data.train[data.train > 0]
    least, most, median = (int(n) for n in (present.min(), present.max(), present.median()))
    if least < VERY_FEW:
        names = [
            f"{data.classes[i]} ({int(data.train[i])})"
            for i in data.train.argsort(stable=True).tolist()
            if 0 < data.train[i] < VERY_FEW
        ]
        yield Fault(
            "weakens",
            f"fewer than {VERY_FEW} training images in {listed(names, NAMES)}; such a class is "
            "hardly learned: add images or leave it out",
        )
    elif median < FEW and choice.fine_tuned is None:
        total = int(data.train.sum())
        total -= number_to_hold_out(total)
        mend = "add images"
        if are_few_photos(total, choice.side, choice.stream):
            mend = (
                "on 245 photos fine-tuning made a quarter of the errors (docs/fine-tuning.md): "
                "add images, or try --pretrained and --model resnet18"
            )
        yield Fault(
            "weakens",
            f"{median:,} training images in a class are few for a network from scratch; {mend}",
        )
    n = int(data.test.sum())
    if not n:
        yield Fault("stops", "no image to test on; add images, or a folder test/")
    elif n < FEW_TESTS:
        yield Fault(
            "weakens", f"{plural(n, 'test image')} can rank hardly any two models: add test images"
        )
    if most >= UNBALANCED * least and least >= VERY_FEW:
        small, large = (
            data.classes[int(torch.where(data.train == n)[0][0])] for n in (least, most)
        )
        yield Fault(
            "weakens",
            f"{large} has {most / least:.1f} times as many training images as {small}; the error "
            "is mostly that of the large classes, and nothing here balances them",
        )


def _sides(data: Inspection, choice: Choice) -> Iterator[Fault]:
    sizes = [(one.header.height, one.header.width) for one in data.seen]
    small = sum(min(size) < choice.side for size in sizes) / len(sizes)
    if sum(min(size) < TINY for size in sizes) > len(sizes) / 2:
        yield Fault("weakens", f"most images are smaller than {TINY} px; little is to be seen")
    elif small > OFTEN:
        yield Fault(
            "is to know",
            f"{small:.0%} of the images are smaller than {choice.side} px and enlarged",
        )
    if choice.size is not None:
        cropped = sum(1 - min(size) / max(size) > CROPPED for size in sizes) / len(sizes)
        if cropped > OFTEN:
            yield Fault(
                "is to know",
                f"the centre crop removes over a third of {cropped:.0%} of the images; crop them "
                "yourself where the object is at an end",
            )


def _names(data: Inspection, choice: Choice) -> Iterator[Fault]:
    if data.arrays:
        text = (
            "arrays (.npy) are not mirrored, since a sound played backwards is another one; leave "
            "out --no-flip where mirrored ones are right"
        )
        if choice.augment is not None:
            text += (
                "; RandAugment is left out, as it is not measured for them (docs/spectrograms.md)"
            )
        yield Fault("is to know", text)
    elif all(len(name) == 1 for name in data.classes):
        yield Fault(
            "is to know",
            f"if the classes {listed(data.classes, NAMES)} are digits, letters or the like, add "
            "--no-flip, since mirrored ones are wrong",
        )
    elif not choice.flip:
        yield Fault("is to know", "class names tell a direction, so images are not mirrored")
