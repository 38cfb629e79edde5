"""resize: TODO."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from softaug_lab.basics.errors import UsageError


def fit(images: Shaped[Tensor, "n c h w"], height: int, width: int) -> Shaped[Tensor, "n c y x"]:
    """Decoded images scaled to cover height x width, then centre crop: torchvision's pixels."""
    tall, wide = images.shape[-2:]
    if height * wide >= width * tall:
        goal = height, height * wide // tall
    else:
        goal = width * tall // wide, width
    if goal != (tall, wide):
        images = F.interpolate(images, goal, mode="bilinear", antialias=True)
    return centre_crop(images, height, width)


def centre_crop(images: Tensor, height: int, width: int) -> Tensor:
    """The middle height x width of images [N,C,H,W] that are no smaller; halves to even numbers, as
    torchvision has them."""
    top, left = (round((images.shape[i] - n) / 2) for i, n in ((-2, height), (-1, width)))
    return images[..., top : top + height, left : left + width]


def with_channels(images: Float[Tensor, "n c h w"], channels: int) -> Float[Tensor, "n d h w"]:
    """Grey as RGB, RGB as grey (by the weights of ITU-R 601, as Pillow); else UsageError."""
    own = images.shape[1]
    if own == channels:
        return images
    if own == 1:
        return images.expand(-1, channels, -1, -1)
    if (own, channels) == (3, 1):
        weights = torch.tensor([0.299, 0.587, 0.114], device=images.device)
        return (images * weights.view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    raise UsageError(f"images have {own} channels, {channels} are needed")
