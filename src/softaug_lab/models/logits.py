"""Logits of a model for many images, a batch at a time, by one process or by several.

n samples, k classes, c channels, h w pixels.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor, nn

from softaug.devices import to_device
from softaug_lab.basics.processes import Processes


def predict_logits(
    model: nn.Module,
    images: UInt8[Tensor, "n c h w"],
    batch_size: int = 500,
    device: torch.device | str | None = None,
) -> Float32[Tensor, "n k"]:
    """Compute the model's logits for uint8 images, float32 [N,K] on the CPU.

    The model runs in eval mode without gradients; afterwards every module is in its former mode.
    device: where the batches are moved; by default to the device of the model's parameters.
    """
    if len(images) == 0:
        raise ValueError("predict_logits needs at least one image, got none")
    batches = (images[rows] for rows in batch_slices(len(images), batch_size))
    (logits,) = predict_batches([model], batches, device)
    return logits


def predict_batches(
    models: Sequence[nn.Module],
    batches: Iterable[UInt8[Tensor, "_ c h w"]],
    device: torch.device | str | None = None,
) -> list[Float32[Tensor, "n k"]]:
    """Compute `predict_logits` of each model for batches, one or more, which are made only once."""
    logits: list[list[Tensor]] = [[] for _ in models]
    with ExitStack() as modes:
        for model in models:
            modes.enter_context(eval_mode(model))
        for batch in batches:
            with torch.inference_mode():
                for model, predicted in zip(models, logits, strict=True):
                    there = torch.device(device or _device_of(model))
                    predicted.append(model(to_device(batch, there)).float())
    # Read once, so that no batch waits for the device. Tensors made in inference mode never take
    # part in autograd; these are made outside.
    return [torch.cat(predicted).cpu() for predicted in logits]


def _device_of(model: nn.Module) -> torch.device:
    """Return the device of a model's parameters; the CPU for a model without."""
    first = next(model.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def predict_shared(
    model: nn.Module,
    images: UInt8[Tensor, "n c h w"],
    processes: Processes,
    batch_size: int = 500,
) -> Float32[Tensor, "n k"]:
    """Split `predict_logits` over the processes of a run; all receive all logits."""
    mine = images[processes.share(len(images))]
    return processes.gather(predict_logits(model, mine, batch_size))


def batch_slices(n: int, size: int) -> Iterator[slice]:
    """Split n samples, in order, into slices of `size`; the last one may be shorter."""
    if size < 1:
        raise ValueError(f"batch_size must be at least 1, got {size}")
    return (slice(start, start + size) for start in range(0, n, size))


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Set eval mode for the block, then restore each module's own mode (frozen ones stay so)."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
