"""Model card: the settings from which a model is built again, and the names of its classes."""

from dataclasses import dataclass

SMALL_IMAGE = 64  # pixels; up to this size a network begins with a 3x3 stem without pooling


@dataclass(frozen=True)
class ModelCard:
    """Settings of a model, stored in its file.

    model: one of OWN_MODELS, or a name of timm. classes: their names, in the order of the logits.
    channels, height, width: of its images, in pixels. pretrained: whether it began with timm's
    pretrained weights. temperature: the divisor of its logits before softmax.
    """

    model: str
    classes: tuple[str, ...]
    channels: int
    height: int
    width: int
    pretrained: bool = False
    temperature: float = 1.0
