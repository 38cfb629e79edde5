"""What to expect of a training, and how sure a measured error will be."""

import math

from softaug_lab.data import Inspection

Z = 1.96  # of a 95 % interval
ASSUMED = 0.25  # error whose uncertainty is stated
# Measured on CIFAR-10 (docs/budget.md, LOG.md): training images in a class, epochs, error of auto
# in %, and how far that is known.
MEASURED = (
    (950, 30, 24.0, "mean of 5 seeds"),
    (225, 120, 37.4, "one seed, without the RandAugment of today's rule"),
)
# Error of the standard crop minus that of auto there, in points: on images with 40 % cut off, and
# on whole ones.
GAIN_CUT_OFF, GAIN_WHOLE = 17.1, 0.6
LONG = 2 * 3600  # seconds after which a shorter training is named


def uncertainty(n: int) -> float:
    """Compute half the 95 % interval of an error of ASSUMED that is measured on n images."""
    return Z * math.sqrt(ASSUMED * (1 - ASSUMED) / n)


def least_difference(n: int) -> float:
    """Compute from which difference on two models with an error of ASSUMED differ beyond chance.

    On n images and at worst: models that err on the same images are told apart sooner.
    """
    return math.sqrt(2) * uncertainty(n)


def expectation(data: Inspection) -> str:
    """Say which error the project has measured for about so many images, and that of guessing."""
    per_class = int(data.train[data.train > 0].median())
    images, epochs, error, known = min(
        MEASURED, key=lambda row: abs(math.log(row[0] / max(1, per_class)))
    )
    return (
        f"On CIFAR-10, auto errs on {error:g} % after {epochs} epochs of {images} images in a "
        f"class ({known}); yours, {per_class:,} in a class, may be easier or harder. "
        f"{_guessing(data)}"
    )


def expectation_of_fine_tuning(data: Inspection) -> str:
    """Say which error the project has measured of fine-tuning, and that of guessing."""
    return (
        "On 245 photos of ants and bees, auto errs on 6.2 % where it fine-tunes EfficientNet-Lite0 "
        "(224 px), and on 27.3 % from scratch (64 px; 4 seeds each, docs/fine-tuning.md). Yours "
        f"may be easier or harder. {_guessing(data)}"
    )


def _guessing(data: Inspection) -> str:
    commonest = data.test[data.train.argmax()].item() / max(1, int(data.test.sum()))
    return f"Always naming the commonest class errs on {1 - commonest:.0%}."


def certainty(data: Inspection) -> str:
    """Say how exactly the test images measure an error, and which gains of auto they can show."""
    n = int(data.test.sum())
    if not n:
        return "Without test images nothing is known of the error."
    half, least = 100 * uncertainty(n), 100 * least_difference(n)
    if least < GAIN_WHOLE:
        enough = f"fine enough even for what auto gained on whole images ({GAIN_WHOLE} points)"
    elif least < GAIN_CUT_OFF:
        enough = (
            f"fine enough for what auto gained on cut-off images ({GAIN_CUT_OFF} points), "
            f"not on whole ones ({GAIN_WHOLE})"
        )
    else:
        enough = f"too coarse for any gain of auto (at most {GAIN_CUT_OFF} points)"
    return (
        f"{n:,} test images measure an error of {ASSUMED:.0%} to ± {half:.1f} points (95 %) and "
        f"surely tell two models apart from {least:.1f} points on: {enough} on CIFAR-10 from "
        "scratch. Seeds (softaug compare --seeds 5) show the chance of training; only more test "
        "images lessen that of testing."
    )


def duration(seconds: float) -> str:
    """Write a time with one significant unit, as rough as its estimate."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(1, seconds):.0f} seconds"
