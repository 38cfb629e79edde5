"""The recipe for a data set: its side, epochs, and the options that reading it needs."""

import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

from softaug.recommend import POLICY_EPOCHS, strength
from softaug_lab.data import MAX_OWN_SIDE, Inspection, choose_side
from softaug_lab.recipes import Recipe, expression_of

# What `auto` was measured with (docs/budget.md): 30 epochs of 9,500 images in batches of 128, and
# at its longest 120 epochs of 2,250.
UPDATES = 2250
LEAST_EPOCHS, MOST_EPOCHS = 30, 120
FEW = 1000  # images; on 245 photos 120 epochs erred no less than 30 (32 and 28 %, one seed)
BATCH = Recipe.batch_size
# Words of class names that a mirrored image would contradict, as it does of arrows and of curves.
SIDED = {
    "left", "right", "clockwise", "counterclockwise", "anticlockwise", "forward", "forwards",
    "backward", "backwards", "rising", "falling", "ascending", "descending", "increasing",
    "decreasing",
}  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """How to train on a data set.

    height, width, channels: of the images in training. size: the option to scale them, None where
    they keep their size. unreadable: the share of images to leave out. fine_tuned: the network that
    `train` fine-tunes unasked from weights on this machine; None where it trains from scratch.
    augment: the option that leaves out RandAugment; None where the rule's own is right.
    """

    channels: int
    height: int
    width: int
    size: int | None
    epochs: int
    flip: bool
    unreadable: float
    stream: bool
    fine_tuned: str | None = None
    augment: str | None = None

    @property
    def side(self) -> int:
        return min(self.height, self.width)

    def command(self, source: str, test: str | None) -> str:
        """Write the command to copy, quoted for a shell."""
        words = ["softaug", "train", source]
        options: list[tuple[str, object]] = []
        if self.size is not None:
            options.append(("--size", self.size))
        if self.fine_tuned is None:  # else the epochs are those of the recipe
            options.append(("--epochs", self.epochs))
        if self.augment is not None:
            options.append(("--augment", self.augment))
        if test is not None:
            options.append(("--test", test))
        if self.unreadable:
            options.append(("--max-unreadable", f"{self.unreadable:g}"))
        words += [str(word) for option in options for word in option]
        words += ["--stream"] if self.stream else []
        words += [] if self.flip else ["--no-flip"]
        return shlex.join(words)


def choose(data: Inspection, free: int | None) -> Choice:
    """Choose how to train on a data set; free: bytes of memory, None where that is unknown."""
    headers = [one.header for one in data.seen]
    sizes = {(header.height, header.width) for header in headers}
    size = None
    if len(sizes) > 1 or min(min(sizes)) > MAX_OWN_SIDE:
        size = choose_side([min(header.height, header.width) for header in headers])
    height, width = min(sizes) if size is None else (size, size)
    channels = 1 if all(header.grey for header in headers) else 3
    total = int(data.train.sum() + data.test.sum())
    too_large = free is not None and total * channels * height * width > free / 2
    stream = too_large and not data.split and not data.built_in
    images = int(data.train.sum())
    epochs = choose_epochs(images)
    choice = Choice(
        channels=3 if stream else channels,  # a stream is RGB
        height=height,
        width=width,
        size=choose_side([min(height, width)]) if stream and size is None else size,
        epochs=epochs,
        flip=not data.arrays and not is_sided(data.classes),
        unreadable=math.ceil(1000 * len(data.unreadable) / data.opened) / 1000,
        stream=stream,
    )
    if data.arrays and epochs >= POLICY_EPOCHS:
        rule = strength(epochs=epochs, images=images, side=choice.side, policy=False)
        choice = replace(choice, augment=expression_of(rule))
    return choice


def is_sided(classes: Sequence[str]) -> bool:
    """Whether names of classes tell a direction, which a mirrored image would contradict."""
    return any(SIDED & set(_words(name)) for name in classes)


def choose_epochs(images: int) -> int:
    """Choose epochs that take about UPDATES steps, within what was measured; a multiple of ten."""
    if images < FEW:
        return LEAST_EPOCHS
    wanted = UPDATES / math.ceil(images / BATCH)
    return min(max(10 * math.ceil(wanted / 10), LEAST_EPOCHS), MOST_EPOCHS)


def _words(name: str) -> list[str]:
    """Split a class name such as `turn_left` or `left-2` at anything but letters."""
    return re.split(r"[^a-z]+", name.lower())
