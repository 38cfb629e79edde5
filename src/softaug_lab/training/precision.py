"""The precision of training steps: bfloat16 where the hardware computes it and torch is right."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from softaug_lab.basics.errors import UsageError
from softaug_lab.basics.processes import has_bf16
from softaug_lab.models import Classifier, predict_logits
from softaug_lab.recipes import Recipe


def autocast_dtype(recipe: Recipe, model: nn.Module, device: torch.device) -> torch.dtype | None:
    """Return bfloat16 if the recipe asks for it, or says auto and the hardware computes it.

    On CPUs auto is fp32 for a model with a `narrow_convolution`, and asking for bf16 there raises
    UsageError.
    """
    if recipe.precision == "fp32" or (recipe.precision == "auto" and not has_bf16(device)):
        return None
    narrow = narrow_convolution(model) if device.type == "cpu" else None
    if narrow is None:
        return torch.bfloat16
    if recipe.precision == "auto":
        return None
    raise UsageError(
        f"precision bf16: {narrow}, and torch's bfloat16 on CPUs is wrong there; take larger "
        "images or --precision fp32"
    )


def narrow_convolution(model: nn.Module) -> str | None:
    """Describe a layer of a classifier for which torch's bfloat16 on CPUs computes wrong numbers.

    These are convolutions whose input is narrower than their stride, as at the end of a deep
    network on tiny images: with torch 2.14 (oneDNN) gradients of their weights stay unwritten
    memory, where columns of a kernel meet padding alone, and outputs of tall inputs are wrong, also
    where input and stride are equally wide. None where there is none.
    """
    classifier = next((m for m in model.modules() if isinstance(m, Classifier)), None)
    if classifier is None:
        return None
    found: list[str] = []
    convolutions = [
        (name, module)
        for name, module in classifier.network.named_modules()
        if isinstance(module, nn.Conv2d) and max(module.stride) > 1
    ]
    hooks = [
        module.register_forward_pre_hook(partial(_note_narrow, name, found))
        for name, module in convolutions
    ]
    card = classifier.card
    try:
        predict_logits(
            classifier,
            torch.zeros(1, card.channels, card.height, card.width, dtype=torch.uint8),
        )
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None


def _note_narrow(name: str, found: list[str], module: Any, inputs: tuple[Tensor, ...]) -> None:
    height, width = inputs[0].shape[-2:]
    stride = module.stride[-1]
    if width < stride or (width == stride and height > width):
        found.append(f"{name} of the network moves {stride} px at a time over {width} px")
