"""Maps of what is seen, and visibility: how much of the original image can still be seen."""

from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor


def visibility(seen: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n"]:
    """Return the share of each original image that its map still holds: the map's mean.

    seen: float32 [N,1,H,W], entries >= 0. Returns float32 [N] in [0, 1]. For a lone crop this
    is (W - |tx|)(H - |ty|) / (W H), exactly (Liu et al. 2023, section 3): a sum of ones and one
    division.

    >>> visibility(torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]]))
    tensor([0.5000])
    """
    return share_of_image(seen.flatten(1).sum(dim=1), *seen.shape[-2:])


def share_of_image(pixels: Float[Tensor, "n"], height: int, width: int) -> Float[Tensor, "n"]:
    """Divide numbers of pixels by the image's, with the rounding of `visibility`."""
    # A tensor as divisor: by a Python number, CUDA multiplies with the reciprocal and loses a bit.
    return pixels / torch.full_like(pixels, height * width)


def as_seen(
    mask: Shaped[Tensor, "*n h w"], *, empty: Literal["error", "uniform"] = "error"
) -> Float[Tensor, "..."]:
    """Scale an object mask or saliency map to mean 1 for each sample: a map to begin with.

    Visibility is then that of the object: a part outside of the mask can be hidden for free.
    Give the map to `augment(images, labels, seen=as_seen(mask))`.

    mask: [N,1,H,W], [N,H,W] or, for one image, [1,H,W]; bool, integers or float, >= 0.
    empty: a mask that is 0 everywhere is an error, or stands for the whole image ("uniform").
    Returns float32 [N,1,H,W] ([1,H,W] for one image). Raises ValueError, naming the sample, for
    empty masks and for values that are negative or not finite.

    >>> as_seen(torch.tensor([[[1, 0], [1, 0]]]))
    tensor([[[2., 0.],
             [2., 0.]]])
    """
    if empty not in ("error", "uniform"):
        raise ValueError(f'empty must be "error" or "uniform", got {empty!r}')
    if mask.ndim not in (3, 4) or (mask.ndim == 4 and mask.shape[1] != 1):
        raise ValueError(f"mask must be [N,1,H,W], [N,H,W] or [1,H,W], got {list(mask.shape)}")
    seen = mask.float()
    if mask.ndim == 3 and len(mask) != 1:
        seen = seen[:, None]
    batch = seen if seen.ndim == 4 else seen[None]
    if mask.dtype.is_signed:  # others cannot be wrong, and to ask would wait for a GPU
        good = (batch.isfinite() & (batch >= 0)).flatten(1).all(dim=1)
        if not good.all():
            first = int((~good).nonzero()[0])
            raise ValueError(f"mask must be finite and >= 0, it is not for sample {first}")
    mean = batch.mean(dim=(1, 2, 3), keepdim=True)
    blank = mean == 0
    if empty == "error" and blank.any():
        first = int(blank.flatten().nonzero()[0])
        raise ValueError(
            f'mask of sample {first} is empty; leave the sample out, or pass empty="uniform" to '
            "use the whole image for it"
        )
    scaled = torch.where(blank, 1.0, batch / torch.where(blank, 1.0, mean))
    return scaled.view(seen.shape)
