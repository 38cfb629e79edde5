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
    """Describe the first convolution for which torch's bfloat16 on CPUs computes wrong numbers.

    Return None where the model has none. A convolution whose input is narrower than its stride
    leaves gradients of its weights unwritten (torch 2.14, oneDNN); one whose input is no wider than
    its stride, but taller than wide, computes wrong outputs. Deep networks have such
    layers at their end, on tiny images.
    """
    classifier = next((m for m in model.modules() if isinstance(m, Classifier)), None)
    if classifier is None:
        return None
    found: list[str] = []
    hooks = [
        module.register_forward_pre_hook(partial(_note_narrow, name, found))
        for name, module in classifier.network.named_modules()
        if isinstance(module, nn.Conv2d) and max(module.stride) > 1
    ]
    card = classifier.card
    image = torch.zeros(1, card.channels, card.height, card.width, dtype=torch.uint8)
    try:
        predict_logits(classifier, image)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None


def _note_narrow(name: str, found: list[str], module: Any, inputs: tuple[Tensor, ...]) -> None:
    height, width = inputs[0].shape[-2:]
    stride = module.stride[-1]
    if width < stride or (width == stride and height > width):
        found.append(f"{name} of the network moves {stride} px at a time over {width} px")
