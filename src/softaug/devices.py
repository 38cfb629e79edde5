"""Copies to a device that no step waits for, and numbers there that are not rounded to 16 bits."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

AT_ONCE = 2**16  # bytes that CUDA takes out of memory that is not pinned before it returns


def to_device(values: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Copy values to a device, and go on before a CUDA device has them.

    CUDA takes up to 64 KB out of any memory at once; more goes by way of pinned memory, or else the
    host would wait for the copy. Other devices than CUDA's may read the memory late, so there the
    host waits.
    """
    if device.type != "cuda" or values.device.type != "cpu":
        return values.to(device, dtype, non_blocking=device.type == "cuda")
    if dtype is not None:  # a conversion on the way would be in memory that is not pinned
        values = values.to(dtype)
    if values.nbytes > AT_ONCE and _can_pin() and not values.is_pinned():
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def without_autocast(values: Tensor) -> AbstractContextManager[object]:
    """Switch off `torch.autocast`, if it is on: it makes products in 16 bits."""
    kind = values.device.type
    if kind == "meta" or not torch.is_autocast_enabled(kind):
        return nullcontext()
    return torch.autocast(kind, enabled=False)


def _can_pin() -> bool:
    return torch.cuda.is_initialized() and not torch.compiler.is_compiling()
