"""Visibility: how much of the original image can still be seen."""

import torch
from jaxtyping import Float
from torch import Tensor


def visibility(seen: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n"]:
    """The share of each original image that its `seen` map still holds.

    seen: float32 [N,1,H,W], entries >= 0. Returns float32 [N] in [0, 1]. For a lone crop this
    is (W - |tx|)(H - |ty|) / (W H), exactly (Liu et al. 2023, section 3): a sum of ones and one
    division.

    >>> visibility(torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]]))
    tensor([0.5000])
    """
    total = seen.flatten(1).sum(dim=1)
    # A tensor as divisor: by a Python number, CUDA multiplies with the reciprocal and loses a bit.
    return total / torch.full_like(total, seen.shape[-2] * seen.shape[-1])
