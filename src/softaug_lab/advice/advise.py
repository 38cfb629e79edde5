"""The advice as sentences, from a verdict to the command to copy."""

from dataclasses import dataclass

from softaug.recommend import strength
from softaug_lab.advice.choose import Choice
from softaug_lab.advice.faults import Fault, find_faults
from softaug_lab.advice.figures import (
    LONG,
    certainty,
    duration,
    expectation,
    expectation_of_fine_tuning,
)
from softaug_lab.basics.errors import listed, plural
from softaug_lab.data import Inspection, number_to_hold_out

CLASSES = 6  # that are counted one by one


@dataclass(frozen=True)
class Advice:
    """What to know before training. sections: sentences by their headings, in order."""

    verdict: str
    faults: tuple[Fault, ...]
    sections: dict[str, str]
    command: str


def advise(
    source: str, test: str | None, data: Inspection, choice: Choice, seconds: float | None
) -> Advice:
    """Write the advice on a data set.

    source, test: as the user named them. seconds: that the training takes here; None where that
    was not measured.
    """
    faults = find_faults(data, choice)
    return Advice(
        verdict=_verdict(faults),
        faults=tuple(faults),
        sections={
            "images": _images(data),
            "sides": _sides(data, choice),
            "recipe": _recipe(data, choice),
            "budget": _budget(choice, seconds),
            "expect": (expectation_of_fine_tuning if choice.fine_tuned else expectation)(data),
            "how sure": certainty(data),
            "checked": _checked(data),
        },
        command=choice.command(source, test),
    )


def _verdict(faults: list[Fault]) -> str:
    effect = faults[0].effect if faults else "is to know"
    grave = plural(sum(fault.effect == effect for fault in faults), "fault")
    return {
        "stops": f"Not trainable as it is: {grave} to mend first.",
        "misleads": f"Mend the data first: {grave} would make the figures wrong.",
        "weakens": f"Trainable, but expect a weak model or unsure figures: see {grave} below.",
        "is to know": "Ready to train.",
    }[effect]


def _images(data: Inspection) -> str:
    order = data.train.argsort(descending=True, stable=True).tolist()
    counts = [f"{data.classes[i]} {int(data.train[i]):,}" for i in order]
    if len(counts) > CLASSES:
        half = CLASSES // 2
        counts[half:-half] = [f"{len(counts) - CLASSES:,} more"]
    test = "to test on" + (", a fifth of each class, set aside by train" if data.split else "")
    return (
        f"{int(data.train.sum()):,} to train on in {len(data.classes):,} classes "
        f"({listed(counts, CLASSES + 1)}), {int(data.test.sum()):,} {test}."
    )


def _sides(data: Inspection, choice: Choice) -> str:
    short = sorted(min(one.header.height, one.header.width) for one in data.seen)
    colour = "grey" if choice.channels == 1 else "RGB"
    if choice.size is None:
        return f"All images have {choice.width} x {choice.height} px, {colour}, and keep them."
    reach = sum(side >= choice.size for side in short) / len(short)
    return (
        f"Short sides of {short[0]:,} to {short[-1]:,} px, {colour}; {choice.size} px in training, "
        f"which {reach:.0%} of the images reach: scaled, then the centre square."
    )


def _recipe(data: Inspection, choice: Choice) -> str:
    n = int(data.train.sum())
    held = number_to_hold_out(n)
    policy = None if choice.augment is None else False
    rule = strength(epochs=choice.epochs, images=n - held, side=choice.side, policy=policy)
    ece = (
        "3.5 % without one on 245 photos" if choice.fine_tuned else "2.9 % without one on CIFAR-10"
    )
    temperature = (
        f"A temperature is fitted on {held:,} training images that are held out."
        if held
        else "Too few images to hold some out for a temperature, which auto hardly needs "
        f"(ECE {ece})."
    )
    arm = (
        f"The arm auto: a soft crop of sigma {rule.sigma:g} by the rule for {choice.epochs} "
        f"epochs, a rectangle in {rule.erase:.0%} of the images, "
        f"{'RandAugment before them, ' if rule.policy else ''}k = {rule.k:g}."
    )
    if choice.fine_tuned is not None:
        return (
            f"Few photos, so train fine-tunes {choice.fine_tuned} from weights on this machine "
            f"(docs/fine-tuning.md); --model small trains from scratch. {arm} {temperature}"
        )
    return f"{arm} The paper's sigma of 0.3 lost 7 points at 20 epochs. {temperature}"


def _budget(choice: Choice, seconds: float | None) -> str:
    basis = {
        30: "auto was measured with 30 epochs of 9,500 images",
        120: "the most that auto was measured with, for few images",
    }.get(choice.epochs, "as many steps as auto was measured with")
    if choice.fine_tuned is not None:
        basis = "those of the recipe finetune"
    text = f"{choice.epochs} epochs: {basis}."
    if seconds is not None:
        text += f" That takes about {duration(seconds)} here, by a few steps on noise."
        if seconds > LONG:
            text += " A smaller --size takes less, by its area; --minutes 60 fits it into an hour."
    if choice.stream:
        text += " The images are too large for the memory, so they are read while training."
    return text


def _checked(data: Inspection) -> str:
    total = int(data.train.sum() + data.test.sum())
    images = f"All {total:,} images were" if data.whole else f"{data.opened:,} of {total:,} were"
    return (
        f"{images} opened. Copies between the parts: by the bytes, and by thumbnails if saved "
        "again or resized; mirrored or cropped copies, "
        "frames of one film and wrong labels are not found."
    )
