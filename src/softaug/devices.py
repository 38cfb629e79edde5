"""Copies to a device that no step waits for."""

import torch
from torch import Tensor


def to_device(values: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Copy values to a device, and go on before a CUDA device has them.

    CUDA takes up to 64 KB out of any memory at once, and more out of pinned memory; of more in
    other memory the host waits for the copy. Other devices than CUDA's may read the memory late,
    so there the host waits.
    """
    return values.to(device, dtype, non_blocking=device.type == "cuda")
