"""Visibility in closed form, where a map would be written only to be summed."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from softaug.transforms.base import Drawn, Images, Transform
from softaug.transforms.chain import KEEPING, Chain
from softaug.transforms.crop import Crop, UniformCrop
from softaug.transforms.erase import Cutout, Erase

LOSING = (Crop, UniformCrop, Erase, Cutout)


def without_a_map(
    transform: Transform, images: Images, drawn: Drawn
) -> tuple[Images, Float[Tensor, "n"]] | None:
    """Images and visibility where no more than one step loses anything; None for other chains.

    To the bit what `apply` and the map give, for images that were whole.
    """
    steps: Sequence[Transform] = (transform,)
    draws = [drawn]
    # Types, not isinstance: what is derived from them may have methods of its own.
    if type(transform) is Chain:
        steps = transform.transforms
        draws = [drawn[str(i)] for i in range(len(steps))]
    losing = [step for step in steps if type(step) in LOSING]
    if len(losing) > 1 or any(type(step) not in (*LOSING, *KEEPING) for step in steps):
        return None
    left = None
    for step, its_drawn in zip(steps, draws, strict=True):
        assert isinstance(step, (*LOSING, *KEEPING))
        if isinstance(step, LOSING):
            height, width = images.shape[-2:]
            left = step.visibility(height, width, its_drawn).to(images.device)
        images = step.pixels(images, its_drawn)
    return images, torch.ones(len(images), device=images.device) if left is None else left
