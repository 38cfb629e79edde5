"""The card of a model: all that is needed to build it again and to name what it says."""

from dataclasses import dataclass

SMALL_IMAGE = 64  # pixels; up to here a network begins with a 3x3 stem and does not pool


@dataclass(frozen=True)
class ModelCard:
    """All that is needed to build a model again and to name what it says.

    temperature: what its logits are divided by before they are read as probabilities.
    """

    model: str
    classes: tuple[str, ...]
    channels: int
    height: int
    width: int
    pretrained: bool = False
    temperature: float = 1.0
