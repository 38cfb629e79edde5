"""A recipe: one experiment as data. Nothing of torch until there is one: help needs none of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from softaug_lab.basics.errors import UsageError
from softaug_lab.recipes.arms import Arm, read_arm

if TYPE_CHECKING:
    from softaug import Transform

ANY_SIZE = (64, 64)  # pixels, to check an expression before the data are known


def _read(_: Any, tokens: Sequence[Any]) -> str:
    from softaug_lab.recipes.expression import from_file

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
    compile
        Have torch compile the network: for long runs, since it takes up to half a minute at the
        start and gained 0 to 9 % of a step where measured. --dry-run tells the pace with and
        without.
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
    compile: bool = False
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
        if self.parsed_arm.self_supervised and self.end_epochs:
            raise UsageError(
                f"end_epochs must be 0 with {self.arm}, got {self.end_epochs}: views that are "
                "alike teach nothing"
            )
        transform_of(self, *ANY_SIZE)

    @cached_property
    def parsed_arm(self) -> Arm:
        """The settings that the text `arm` stands for."""
        return read_arm(self.arm)


def transform_of(recipe: Recipe, height: int, width: int) -> "Transform":
    """Build the arm's augmentation, in which `standard` and `harsh` stand for the recipe's."""
    from softaug import UniformCrop
    from softaug_lab.recipes.expression import parse

    parts: dict[str, Transform] = {
        "standard": parse(recipe.standard, height, width)
        if recipe.standard
        else UniformCrop(padding=round(min(height, width) / 8)),
        "harsh": parse(recipe.augment or f"crop({recipe.sigma})", height, width),
    }
    return parse(recipe.parsed_arm.augment, height, width, parts)
