"""A recipe: one experiment as data, and what it makes of an arm of a comparison."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from cyclopts import Parameter

from softaug import (
    Chain,
    Constant,
    Crop,
    Curve,
    Flip,
    GaussianBlur,
    Hard,
    PowerCurve,
    SoftAugment,
    Still,
    Transform,
    UniformCrop,
    per_sample,
    visibility,
)
from softaug.lab.arms import Arm, read_arm
from softaug.lab.errors import UsageError
from softaug.lab.expression import from_file, parse
from softaug.lab.models import SMALL_IMAGE
from softaug.lab.views import ColourJitter, Greyscale

DRAWS, BLOCK = 20_000, 1_000  # for means over a transform's draws, and how many at a time
ANY_SIZE = (64, 64)  # pixels, to check an expression before the data are known


def _read(_: Any, tokens: Sequence[Any]) -> str:
    return from_file(tokens[0].value)


# An expression, or on the command line the path of a YAML file that holds one.
Augmentation = Annotated[str | None, Parameter(converter=_read)]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One experiment. Everything but `arm` and `seed` is shared by the arms of a comparison.

    Parameters
    ----------
    arm
        A name of ARMS; NAME(FIELD=VALUE, ...) for one that differs, NAME@SIGMA or NAME@EXPRESSION
        for another augmentation.
    augment
        What the harsh and soft arms do, such as crop(0.3)+erase(0.2), or a YAML file with a list
        of such parts; by default the crop at SIGMA.
    standard
        What the standard arms do, instead of the crop by up to an eighth of the side; text or a
        file like augment.
    sigma
        Strength of the soft crop, a share of the image side.
    k
        Exponent of the softening curve.
    flip
        Mirror left and right with probability 1/2, in every arm.
    blur
        Without labels: the probability that a view is blurred; by default 0 for images up to 64 px,
        above 1/2.
    model
        small, wrn-28-10, pyramidnet-272-shakedrop, or a model of timm by its name.
    pretrained
        Begin with timm's pretrained weights and normalisation.
    epochs
        Passes over the training images.
    batch_size
        Images in a step.
    optimizer
        SGD with Nesterov momentum (without labels: plain momentum), or AdamW.
    lr
        Peak learning rate, after warm-up and before the cosine; for AdamW take about 0.001.
        Without labels: for 256 images, and in proportion to the batch.
    momentum
        Of SGD.
    weight_decay
        On weights, not on norms and biases; without labels on all.
    warmup_epochs
        Epochs of linear warm-up, at most half of all steps.
    accumulate
        Parts in which a step computes its batch, to hold less in memory at once.
    end_epochs
        Epochs at the end without augmentation but the flip, in every arm.
    skip_nonfinite
        Steps whose loss or gradient is not finite that may be left out before the run stops.
    precision
        auto is bf16 where the processor computes it in hardware, else fp32.
    seed
        Of weights, order and augmentation: the same seed gives the same run.
    """

    # No option of its own: `train` takes one arm, `compare` several.
    arm: Annotated[str, Parameter(parse=False)] = "soft"
    augment: Augmentation = None
    standard: Augmentation = None
    sigma: float = 0.3
    k: float = 2.0
    flip: bool = True
    blur: float | None = None
    model: str = "small"
    pretrained: bool = False
    epochs: int = 20
    batch_size: int = 128
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup_epochs: float = 1.0
    accumulate: int = 1
    end_epochs: int = 0
    skip_nonfinite: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"epochs": 1, "batch_size": 2, "accumulate": 1, "skip_nonfinite": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise UsageError(f"{name} must be at least {low}, got {getattr(self, name)}")
        for name in ("lr", "k"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"{name} must be above 0 and finite, got {getattr(self, name)}")
        for name in ("weight_decay", "warmup_epochs"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if not 0 <= self.momentum < 1:
            raise UsageError(f"momentum must be in [0, 1), got {self.momentum}")
        if not 0 <= self.end_epochs < self.epochs:
            raise UsageError(
                f"end_epochs must be 0 or more and below epochs, which is {self.epochs}, "
                f"got {self.end_epochs}"
            )
        if self.blur is not None and not 0 <= self.blur <= 1:
            raise UsageError(f"blur must be a probability in [0, 1], got {self.blur}")
        arm = read_arm(self.arm)
        if arm.self_supervised and self.end_epochs:
            raise UsageError(
                f"end_epochs must be 0 with {self.arm}, got {self.end_epochs}: views that are "
                "alike teach nothing"
            )
        _transform(self, arm, *ANY_SIZE)


def build_arm(recipe: Recipe, num_classes: int, height: int, width: int) -> SoftAugment:
    """The augmentation and the targets of a recipe's arm.

    Without labels the curve ends at 0, not at 1/K. 1/K is what a guess at the label is worth where
    nothing is seen; a pair of views has no label to guess, and of the many images whose view the
    other one might be, the chance to hit the right one is next to 0. Such a pair has no weight.
    """
    arm = read_arm(recipe.arm)
    transform = _transform(recipe, arm, height, width)
    chance = 0.0 if arm.self_supervised else 1 / num_classes
    soft = PowerCurve(k=arm.k or recipe.k, chance=chance, ceiling=arm.ceiling)
    curves: dict[str, Callable[[], Curve]] = {
        "hard": lambda: Constant(1.0),
        "smoothed": lambda: Constant(smoothed(arm.alpha, num_classes)),
        "online": lambda: Constant(1 - arm.alpha),
        "constant": lambda: Constant(mean_confidence(transform, soft, height, width)),
        "soft": lambda: soft,
    }
    if arm.self_supervised:
        transform = Chain([transform, *_colours(recipe, height, width)])
    return SoftAugment(
        Chain([Flip(), transform]) if recipe.flip else transform,
        num_classes,
        # Where only the loss is weighted, the curve says by how much.
        curve=(curves["soft"] if arm.weighted else curves[arm.targets])(),
        soften=arm.targets != "hard",
        weight=per_sample if arm.weighted else None,
    )


def build_end_phase(recipe: Recipe, num_classes: int) -> SoftAugment:
    """What every arm does in its last `end_epochs`: flips, and the labels of whole images."""
    arm = read_arm(recipe.arm)
    p = smoothed(arm.alpha, num_classes) if arm.targets == "smoothed" else 1.0
    return SoftAugment(Flip() if recipe.flip else Still(), num_classes, curve=Constant(p))


def _transform(recipe: Recipe, arm: Arm, height: int, width: int) -> Transform:
    """An arm's own expression, in which `standard` and `harsh` are the recipe's."""
    parts: dict[str, Transform] = {
        "standard": parse(recipe.standard, height, width)
        if recipe.standard
        else UniformCrop(padding=round(min(height, width) / 8)),
        "harsh": parse(recipe.augment or f"crop({recipe.sigma})", height, width),
    }
    return parse(arm.augment, height, width, parts)


def _colours(recipe: Recipe, height: int, width: int) -> list[Transform]:
    """What is done to the colours of a view (Chen and He 2021, appendices A and D)."""
    small = max(height, width) <= SMALL_IMAGE
    blur = recipe.blur if recipe.blur is not None else 0.0 if small else 0.5
    colours: list[Transform] = [ColourJitter(), Greyscale()]
    if blur:
        # A tenth of the side, as in SimCLR. It softens nothing: the pair is judged by its crops.
        reach = max(1, round(min(height, width) / 20))
        colours.append(Hard(GaussianBlur(2 * reach + 1, probability=blur)))
    return colours


def smoothed(alpha: float, num_classes: int) -> float:
    """What label smoothing leaves the label."""
    return 1 - alpha * (1 - 1 / num_classes)


def mean_confidence(transform: Transform, curve: Curve, height: int, width: int) -> float:
    """The mean of the curve over the law by which a transform's parameters are drawn.

    Exactly for a crop alone, else over DRAWS draws, the same ones every time.
    """
    if isinstance(transform, Crop):
        rows = 1 - torch.arange(-height, height + 1).abs() / height
        columns = 1 - torch.arange(-width, width + 1).abs() / width
        shares = (rows[:, None] * columns).flatten()
        vertical, horizontal = transform.sigmas
        law = _offset_law(vertical, height)[:, None] * _offset_law(horizontal, width)
        return float((curve(shares.double()) * law.flatten()).sum())
    return float(curve(drawn_visibility(transform, height, width)).mean())


def drawn_visibility(transform: Transform, height: int, width: int) -> torch.Tensor:
    """The visibilities of DRAWS draws of a transform on images of this size, float32 [DRAWS]."""
    generator = torch.Generator().manual_seed(0)
    blank = torch.zeros(1, 1, height, width, dtype=torch.uint8).expand(BLOCK, -1, -1, -1)
    shares = []
    for _ in range(DRAWS // BLOCK):
        drawn = transform.draw(BLOCK, height, width, generator)
        shares.append(visibility(transform.apply(blank, None, drawn)[1]))
    return torch.cat(shares)


def _offset_law(sigma: float, size: int) -> torch.Tensor:
    """The probability of each whole offset -size ... size, float64 [2 size + 1]."""
    if sigma == 0:
        return (torch.arange(-size, size + 1) == 0).double()
    edges = (torch.arange(-size, size + 2, dtype=torch.float64) - 0.5).clamp(-size, size)
    below: torch.Tensor = torch.special.ndtr(edges / (sigma * size))
    return below.diff() / (below[-1] - below[0])
