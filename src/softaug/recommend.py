"""The soft augmentation to begin with: its strength by a rule, from the length of the training."""

from dataclasses import dataclass

from torch import Generator

from softaug.augment import SoftAugment
from softaug.checks import check_whole
from softaug.curves import PowerCurve
from softaug.transforms import Chain, Crop, Erase, Flip, Hard, RandAugment, Transform

# Sigma grows with the root of the epochs, is SIGMA at EPOCHS and at most the paper's 0.3.
SIGMA, EPOCHS = 0.1, 30
LEAST, MOST = 0.05, 0.3
ERASE = (0.0, 0.1, 0.25)  # by `robust`
# From so many epochs on RandAugment pays; beside it, sigma is SIGMA at these.
POLICY_EPOCHS = 60


@dataclass(frozen=True)
class Strength:
    """How strong a recommended augmentation is.

    sigma: of the `Crop`, a share of the side. erase: the probability that a rectangle is hidden,
    whose share of the area is uniform over `area`. k: the exponent of the curve. policy: whether
    RandAugment comes first, which softens nothing.
    """

    sigma: float
    erase: float
    area: tuple[float, float] = (0.02, 0.4)
    k: float = 2.0  # the paper's
    policy: bool = False


def strength(
    *, epochs: int, images: int, side: int, robust: int = 1, policy: bool | None = None
) -> Strength:
    """Choose the strength by the rule of docs/budget.md: sigma from the epochs, at least a pixel.

    epochs: of the whole training. images: in the training set, 1 or more; the rule gives the same
    strength for any number of them. side: the shorter one of the images, in pixels.
    robust: 0 hides no rectangle, 1 hides one in a tenth of the images, 2 in a quarter of them, at
    a price in accuracy on whole images. docs/budget.md has the measurements. policy: whether
    RandAugment comes first; by default from 60 epochs on. Without it sigma is larger.
    """
    check_whole("recommended", "epochs", epochs, 1, "epoch")
    check_whole("recommended", "images", images, 1, "image")
    check_whole("recommended", "side", side, 1, "pixel")
    if robust not in (0, 1, 2):
        raise ValueError(f"recommended: robust must be 0, 1 or 2, got {robust}")
    policy = epochs >= POLICY_EPOCHS if policy is None else policy
    sigma = SIGMA * (epochs / (POLICY_EPOCHS if policy else EPOCHS)) ** 0.5
    sigma = round(min(max(sigma, LEAST), MOST), 3)
    return Strength(max(sigma, 1 / side), erase=ERASE[robust], policy=policy)


def recommended(
    num_classes: int,
    *,
    epochs: int,
    images: int,
    side: int,
    robust: int = 1,
    policy: bool | None = None,
    flip: bool = True,
    generator: Generator | None = None,
) -> SoftAugment:
    """Build the SoftAugment to begin with: a crop with mixed fills, as strong as the budget allows.

    Images are uint8, to be normalised afterwards; up to 59 epochs they may be normalised already.
    From 60 epochs on RandAugment comes first, in `Hard`, and needs torchvision. It moves an object
    without its map `seen`: pass policy=False where that is given.

    num_classes: K >= 2. epochs: of the whole training. images: in the training set, 1 or more; the
    present rule gives the same augmentation for any number. side: the shorter one of the images, in
    pixels. robust, policy: as for `strength`. flip: mirror images left to
    right with probability 1/2; False where left and right matter, as in digits. generator: as for
    `SoftAugment`.

    >>> augment = recommended(10, epochs=30, images=10_000, side=32)
    >>> augment.transform.transforms[1]
    Crop(sigma=0.1, fill='mixed')
    """
    check_whole("recommended", "num_classes", num_classes, 2)
    chosen = strength(epochs=epochs, images=images, side=side, robust=robust, policy=policy)
    transforms: list[Transform] = [Hard(RandAugment())] if chosen.policy else []
    transforms.append(Crop(chosen.sigma, fill="mixed"))
    if chosen.erase:
        transforms.append(Erase(chosen.area, probability=chosen.erase, fill="mixed"))
    return SoftAugment(
        Chain([Flip(), *transforms] if flip else transforms),
        num_classes,
        curve=PowerCurve(chosen.k, chance=1 / num_classes),
        generator=generator,
    )
