"""One experiment as plain data. Nothing here imports torch until a recipe is made."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from softaug_lab.basics.errors import UsageError
from softaug_lab.recipes.arms import AUTO, Arm, read_arm
from softaug_lab.recipes.panels import AUGMENTATION, MODEL, RUN, SCHEDULE

if TYPE_CHECKING:
    from softaug import Transform
    from softaug.recommend import Strength

SIGMA, K = 0.3, 2.0  # of the soft crop and its curve where nothing else is asked for: the paper's
ANY_SIZE = (64, 64)  # pixels, to check an expression before the size of the data is known


def _expression(_: Any, tokens: Sequence[Any]) -> str:
    from softaug_lab.recipes.expression import from_file

    return from_file(tokens[0].value)


# An expression, or on the command line the path of a YAML file that holds one.
Augmentation = Annotated[
    str | None, Parameter(converter=_expression, group=AUGMENTATION, metavar="EXPRESSION")
]


def _whole(_: Any, tokens: Sequence[Any]) -> int:
    token = tokens[0]
    try:
        return int(token.value.encode("ascii"))  # cyclopts would round
    except ValueError:
        place = "" if token.source in ("", "cli") else f"{token.source}: "
        name = str(token.keyword).strip("[]")
        raise UsageError(f"{place}{name}: expected a whole number, got {token.value!r}") from None


WHOLE = Parameter(converter=_whole)  # a number of the command line that is not rounded to one
IN_AUGMENTATION = Parameter(group=AUGMENTATION)
IN_MODEL = Parameter(group=MODEL)
IN_SCHEDULE = Parameter(group=SCHEDULE)
IN_RUN = Parameter(group=RUN)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One experiment. The arms of a comparison differ in `arm` alone, its runs also in `seed`.

    `softaug train --help` shows these descriptions.

    Parameters
    ----------
    arm
        A name in ARMS; NAME(FIELD=VALUE, ...) changes fields of that arm, NAME@SIGMA or
        NAME@EXPRESSION replaces its augmentation.
    augment
        Augmentation of the harsh, soft and auto arms: an expression such as crop(0.3)+erase(0.2),
        or a YAML file with a list of such parts (default: a crop of strength SIGMA; in the arms
        auto by the rule).
    standard
        Augmentation of the standard arms, an expression or a YAML file (default: a crop that
        shifts the image by up to an eighth of its side).
    sigma
        Strength of the soft crop: standard deviation of the shift, as a share of the image side
        (default: 0.3, the paper's; in the arms auto by the rule).
    k
        Exponent of the curve from visibility to confidence (default: 2, the paper's; in the arms
        auto by the rule).
    robust
        In the arms auto: 0 hides no rectangle, 1 hides one in a tenth of the images, 2 in a
        quarter of them, at a price in accuracy on whole images.
    flip
        Mirror images left to right with probability 1/2, in every arm.
    blur
        Probability that a view is blurred (default: 0 for images up to 64 px, 1/2 for larger ones).
    model
        small, wrn-28-10, pyramidnet-272-shakedrop, or the name of a timm model.
    pretrained
        Start from timm's pretrained weights, with their normalisation; they are downloaded.
    weights
        Start from these weights, with their normalisation: a file (.safetensors, .pth),
        local-dir:PATH or hf-hub:NAME, which is downloaded. With them and with --pretrained the
        defaults of the schedule are those of the recipe `finetune`.
    body_lr
        Learning rate of all layers but the last, as a share of the last layer's. Below 1, their
        batch norm keeps the statistics that it began with.
    head_epochs
        Length of the first part in which only the last layer learns, in epochs; at most half of all
        steps.
    epochs
        Number of passes over the training images.
    batch_size
        Number of images in a training step.
    optimizer
        sgd is SGD with Nesterov momentum.
    lr
        Peak learning rate: after the linear warm-up, before the cosine decay. For adamw about 0.001
        is usual.
    momentum
        Momentum of sgd.
    weight_decay
        Weight decay, applied to weights but not to norms and biases.
    warmup_epochs
        Length of the linear warm-up, in epochs; at most half of all steps.
    accumulate
        Number of parts in which a step computes its batch; more parts need less memory.
    end_epochs
        Number of last epochs that train without augmentation other than the flip, in every arm.
    skip_nonfinite
        Number of steps that the run may skip because their loss or gradient is not finite; one
        more stops the run.
    precision
        auto is bf16 where the processor computes it in hardware, and fp32 elsewhere, as for images
        too small for the network on a CPU. On a GPU that has TF32, torch computes the convolutions
        of fp32 in it.
    compile
        Compile the network with torch.compile. This takes up to half a minute at the start and
        gained between -2 and 9 % of a step where measured, so it suits long runs; --dry-run
        measures the speed with and without.
    seed
        Seed of weights, data order and augmentation; the same seed gives the same run, on a GPU
        up to rounding.
    """

    # No option of its own: `train` takes one arm, `compare` several.
    arm: Annotated[str, Parameter(parse=False)] = "soft"
    augment: Augmentation = None
    standard: Augmentation = None
    sigma: Annotated[float | None, IN_AUGMENTATION] = None
    k: Annotated[float | None, IN_AUGMENTATION] = None
    robust: Annotated[Literal[0, 1, 2], IN_AUGMENTATION] = 1
    flip: Annotated[bool, IN_AUGMENTATION] = True
    blur: Annotated[float | None, IN_AUGMENTATION] = None
    model: Annotated[str, IN_MODEL] = "small"
    pretrained: Annotated[bool, IN_MODEL] = False
    weights: Annotated[str | None, IN_MODEL] = None
    weights_sha256: Annotated[str | None, Parameter(parse=False)] = None  # of the file
    epochs: Annotated[int, WHOLE, IN_SCHEDULE] = 20
    batch_size: Annotated[int, WHOLE, IN_SCHEDULE] = 128
    optimizer: Annotated[Literal["sgd", "adamw"], IN_SCHEDULE] = "sgd"
    lr: Annotated[float, IN_SCHEDULE] = 0.1
    body_lr: Annotated[float, IN_SCHEDULE] = 1.0
    head_epochs: Annotated[float, IN_SCHEDULE] = 0.0
    momentum: Annotated[float, IN_SCHEDULE] = 0.9
    weight_decay: Annotated[float, IN_SCHEDULE] = 5e-4
    warmup_epochs: Annotated[float, IN_SCHEDULE] = 1.0
    accumulate: Annotated[int, WHOLE, IN_RUN] = 1
    end_epochs: Annotated[int, WHOLE, IN_SCHEDULE] = 0
    skip_nonfinite: Annotated[int, WHOLE, IN_RUN] = 0
    precision: Annotated[Literal["auto", "fp32", "bf16"], IN_RUN] = "auto"
    compile: Annotated[bool, IN_RUN] = False
    seed: Annotated[int, WHOLE, IN_RUN] = 0

    def __post_init__(self) -> None:
        least = {"epochs": 1, "batch_size": 2, "accumulate": 1, "skip_nonfinite": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise UsageError(f"{name} must be at least {low}, got {getattr(self, name)}")
        for name in ("lr", "k"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"{name} must be above 0 and finite, got {value}")
        for name in ("weight_decay", "warmup_epochs", "head_epochs"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if not 0 <= self.momentum < 1:
            raise UsageError(f"momentum must be in [0, 1), got {self.momentum}")
        if not 0 <= self.end_epochs < self.epochs:
            raise UsageError(
                f"end_epochs must be 0 or more and below the recipe's {self.epochs} epochs, "
                f"got {self.end_epochs}"
            )
        if not 0 <= self.body_lr <= 1:
            raise UsageError(f"body_lr must be in [0, 1], got {self.body_lr}")
        if self.pretrained and self.weights is not None:
            raise UsageError("--weights names the weights; leave out --pretrained, for timm's own")
        for name in ("augment", "standard"):
            if getattr(self, name) == "":
                raise UsageError(f"{name} is empty; expected an augmentation, such as crop(0.3)")
        if self.blur is not None and not 0 <= self.blur <= 1:
            raise UsageError(f"blur must be a probability in [0, 1], got {self.blur}")
        if self.parsed_arm.self_supervised and self.end_epochs:
            raise UsageError(
                f"end_epochs must be 0 with {self.arm}, got {self.end_epochs}: two views "
                "without augmentation are alike and teach nothing"
            )
        if self.augment is not None or not self.by_rule:
            transform_of(self, *ANY_SIZE)

    @cached_property
    def parsed_arm(self) -> Arm:
        """The settings that the text `arm` stands for."""
        return read_arm(self.arm)

    @property
    def by_rule(self) -> bool:
        """Whether a rule chooses what the recipe leaves open: augmentation, sigma and k."""
        return self.parsed_arm.augment == AUTO


def transform_of(recipe: Recipe, height: int, width: int) -> "Transform":
    """Build the arm's augmentation, in which `standard`, `harsh`, `auto` stand for the recipe's.

    height, width: of the images, in pixels. Raises UsageError where a rule has yet to choose.
    """
    from softaug import UniformCrop
    from softaug_lab.recipes.expression import parse

    if recipe.by_rule and recipe.augment is None:
        raise UsageError(f"{recipe.arm}: its strength depends on the data; resolve the recipe")
    sigma = SIGMA if recipe.sigma is None else recipe.sigma
    harsh = parse(recipe.augment or f"crop({sigma})", height, width)
    parts: dict[str, Transform] = {
        "standard": parse(recipe.standard, height, width)
        if recipe.standard
        else UniformCrop(padding=round(min(height, width) / 8)),
        "harsh": harsh,
        AUTO: harsh,
    }
    return parse(recipe.parsed_arm.augment, height, width, parts)


def expression_of(rule: "Strength") -> str:
    """Write what `softaug.recommend` chose, without the flips, as an expression."""
    parts = ["hard(randaugment)"] if rule.policy else []
    parts.append(f"crop({rule.sigma:g}, fill=mixed)")
    if rule.erase:
        parts.append(f"erase({rule.area}, fill=mixed, probability={rule.erase:g})")
    return "+".join(parts)


def as_auto(recipe: Recipe, height: int, width: int) -> Recipe:
    """Return a recipe of the arm `auto` with the augmentation, the k and the flips of a recipe.

    Its `augment` is the arm's whole expression, in which no word stands for another part of the
    recipe. height, width: of the images, in pixels. The recipe must be resolved.
    """
    harsh = recipe.augment or f"crop({SIGMA if recipe.sigma is None else recipe.sigma})"
    standard = recipe.standard or f"uniform_crop({round(min(height, width) / 8)})"
    parts = {"harsh": harsh, AUTO: harsh, "standard": standard}
    arm = recipe.parsed_arm
    words = rf"\b({'|'.join(parts)})\b"
    augment = re.sub(words, lambda found: parts[found[0]], arm.augment)
    return replace(recipe, arm=AUTO, augment=augment, k=arm.k or recipe.k or K)
