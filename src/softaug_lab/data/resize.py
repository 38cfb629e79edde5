"""Image tensors to a height, width and number of channels: scaling, centre crop, grey and RGB."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

from softaug_lab.basics.errors import UsageError

MAX_ELONGATION = 100  # longer images are cropped to their middle before they are scaled
GREY_WEIGHTS = (0.299, 0.587, 0.114)  # luminance of RGB: ITU-R BT.601, as Pillow


def fit(images: Shaped[Tensor, "n c h w"], height: int, width: int) -> Shaped[Tensor, "n c y x"]:
    """Scale images to cover height x width, then crop the centre.

    Gives the pixels of torchvision's Resize (bilinear, antialias) and CenterCrop.
    """
    old_height, old_width = images.shape[-2:]
    if height * old_width >= width * old_height:
        scaled = height, height * old_width // old_height
    else:
        scaled = width * old_height // old_width, width
    if scaled != (old_height, old_width):
        images = F.interpolate(images, scaled, mode="bilinear", antialias=True)
    return centre_crop(images, height, width)


def centre_crop(images: Tensor, height: int, width: int) -> Tensor:
    """Crop the centre height x width of images [N,C,H,W], which must not be smaller.

    Half pixels are rounded to even offsets, as in torchvision.
    """
    top, left = (round((images.shape[i] - n) / 2) for i, n in ((-2, height), (-1, width)))
    return images[..., top : top + height, left : left + width]


def without_far_ends(
    images: UInt8[Tensor, "1 c h w"], height: int, width: int
) -> UInt8[Tensor, "1 c y x"]:
    """Crop a very elongated image to its middle before it is scaled.

    Scaling the ends, which the centre crop drops, would take gigabytes.
    """
    old_height, old_width = images.shape[-2:]
    max_height = max(1, MAX_ELONGATION * height * old_width // width)
    max_width = max(1, MAX_ELONGATION * width * old_height // height)
    return centre_crop(images, min(old_height, max_height), min(old_width, max_width))


def with_channels(images: Float[Tensor, "n c h w"], channels: int) -> Float[Tensor, "n d h w"]:
    """Convert grey images to RGB or RGB to grey (ITU-R BT.601, as Pillow).

    Raises UsageError for other numbers of channels.
    """
    present = images.shape[1]
    if present == channels:
        return images
    if present == 1:
        return images.expand(-1, channels, -1, -1)
    if (present, channels) == (3, 1):
        weights = torch.tensor(GREY_WEIGHTS, device=images.device)
        return (images * weights.view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    raise UsageError(f"images have {present} channels, {channels} are needed")
