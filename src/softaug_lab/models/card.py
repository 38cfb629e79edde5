"""Model card: the settings from which a model is built again, and the names of its classes."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softaug_lab.basics.errors import SoftaugError
from softaug_lab.models.heads import HEADS

MAX_PIXELS = 89_478_485  # of an image that a model file may ask for: Pillow's limit
SMALL_IMAGE = 64  # pixels; up to this size a network begins with a 3x3 stem without pooling


@dataclass(frozen=True)
class ModelCard:
    """Settings of a model, stored in its file.

    model: one of OWN_MODELS, or a name of timm. classes: their names, in the order of the logits.
    channels, height, width: of its images, in pixels. pretrained: whether it began with timm's
    pretrained weights. temperature: the divisor of its logits before softmax. small_stem: whether
    timm's network begins with a stem for small images; None, in files of older versions, means that
    its images and `pretrained` tell. head: the name of what replaces its last layer, bound: of the
    largest singular value of its weights; None without. Raises ValueError for what cannot be a
    model's, as in a broken or forged file.
    """

    model: str
    classes: tuple[str, ...]
    channels: int
    height: int
    width: int
    pretrained: bool = False
    temperature: float = 1.0
    small_stem: bool | None = None
    head: str | None = None
    bound: float | None = None

    def __post_init__(self) -> None:
        if not all(isinstance(name, str) for name in (self.model, *self.classes)):
            raise ValueError("model and classes must be text")
        if len(set(self.classes)) < max(2, len(self.classes)):
            raise ValueError(f"classes must be 2 or more, all different, got {list(self.classes)}")
        for name in ("channels", "height", "width"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be a whole number from 1, got {value!r}")
        if type(self.pretrained) is not bool:
            raise ValueError(f"pretrained must be true or false, got {self.pretrained!r}")
        if type(self.small_stem) not in (bool, type(None)):
            raise ValueError(f"small_stem must be true or false, got {self.small_stem!r}")
        if self.head not in (None, *HEADS):
            raise ValueError(f"head must be {' or '.join(HEADS)}, got {self.head!r}")
        if self.bound is not None and (type(self.bound) not in (int, float) or not self.bound > 0):
            raise ValueError(f"bound must be above 0, got {self.bound!r}")
        is_number = type(self.temperature) in (int, float)
        if not is_number or not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be above 0 and finite, got {self.temperature!r}")

    @property
    def takes_small_stem(self) -> bool:
        """Whether timm's network gets a stem for small images: as recorded, or by the rule."""
        if self.small_stem is not None:
            return self.small_stem
        return max(self.height, self.width) <= SMALL_IMAGE and not self.pretrained


def read_card(fields: Any, path: Path) -> ModelCard:
    """Read a model card from the JSON object of a model file; raise SoftaugError where it is none.

    path: the file, for messages.
    """
    try:
        if not isinstance(fields["classes"], list):
            raise TypeError("classes are no list")
        card = ModelCard(**{**fields, "classes": tuple(fields["classes"])})
    except (KeyError, TypeError, ValueError) as error:
        raise SoftaugError(f"{path}: its card is broken ({error})") from error
    # A convolutional network accepts any size, and `predict` scales images to the card's size.
    if card.height * card.width > MAX_PIXELS:
        raise SoftaugError(f"{path}: images of {card.width} x {card.height} px are too large")
    return card
