"""step: TODO."""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from softaug_lab.basics.processes import Processes, has_bf16
from softaug_lab.recipes import Recipe


def backward(
    wrapped: nn.Module,
    processes: Processes,
    summed_loss: Callable[[Tensor, Tensor], Tensor],
    inputs: Tensor,
    targets: Tensor,
    count: int,
    *,
    dtype: torch.dtype | None,
    parts: int,
) -> tuple[Tensor, Tensor]:
    """Gradients of the mean loss of a global batch of `count`, from this process's share of it.

    In `parts` parts, to hold less at once. Returns the share's logits, and its summed loss.
    """
    # Batch norm needs two images in each part.
    parts = max(1, min(parts, len(inputs) // 2))
    all_logits, all_losses = [], []
    for i, (some, rows) in enumerate(
        zip(inputs.tensor_split(parts), targets.tensor_split(parts), strict=True)
    ):
        last = i == parts - 1
        with contextlib.nullcontext() if last else processes.gradients_held(wrapped):
            with torch.autocast(inputs.device.type, dtype, enabled=dtype is not None):
                logits = wrapped(some)
            loss = summed_loss(logits.float(), rows)
            # The processes' gradients are averaged, and the mean is over all their images.
            (loss * (processes.count / count)).backward()
        all_logits.append(logits.detach())
        all_losses.append(loss.detach())
    return torch.cat(all_logits), torch.stack(all_losses).sum()


def learning_rate(
    recipe: Recipe, peak: float, step: int, steps: int, steps_per_epoch: int
) -> float:
    """Linear warm-up, then half a cosine to 0, per step."""
    warmup = min(round(recipe.warmup_epochs * steps_per_epoch), steps // 2)
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def autocast_dtype(recipe: Recipe, device: torch.device) -> torch.dtype | None:
    """bfloat16 where the recipe asks for it, or leaves it open and the processor has it."""
    if recipe.precision == "fp32":
        return None
    if recipe.precision == "bf16" or has_bf16(device):
        return torch.bfloat16
    return None


def gradient_norm(model: nn.Module) -> Tensor:
    norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def local_parts(parameters: Iterable[Tensor]) -> Iterator[Tensor]:
    """What this process holds of each parameter."""
    return (p.to_local() if isinstance(p, DTensor) else p for p in parameters)
