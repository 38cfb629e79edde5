"""The model as it is served: pixels in [0, 1] to calibrated logits, and the check of its files.

n images, c channels, h w pixels, k classes.
"""

from collections.abc import Callable
from copy import deepcopy

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from softaug_lab.basics.errors import SoftaugError
from softaug_lab.models import Classifier

BATCHES = (1, 2, 5)  # images at once: the batch of an exported model is any
TOLERANCE = 1e-4  # of a logit, or relative to it where it is larger than 1


class Served(nn.Module):
    """Map float32 images [N,C,H,W] in [0, 1] to logits [N,K] divided by the temperature."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        # Training keeps weights in channels-last order, which exported graphs need not copy.
        self.network = deepcopy(model.network).to(memory_format=torch.contiguous_format)
        self.register_buffer("mean", model.mean / 255)
        self.register_buffer("std", model.std / 255)
        self.temperature = model.card.temperature

    def forward(self, images: Float32[Tensor, "n c h w"]) -> Float32[Tensor, "n k"]:
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits / self.temperature


def require_same(run: Callable[[Tensor], Tensor], model: Classifier, what: str) -> float:
    """Compare an exported model with the model on noise, and return the largest difference.

    run: from uint8 images [N,C,H,W] to calibrated logits [N,K]. what: the exported file, for
    messages. Raises SoftaugError where logits differ by more than TOLERANCE, or are not finite.
    """
    card, generator = model.card, torch.Generator().manual_seed(0)
    largest = 0.0
    for n in BATCHES:
        shape = (n, card.channels, card.height, card.width)
        images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        with torch.inference_mode():
            expected = model(images) / card.temperature
            got = run(images)
        if not expected.isfinite().all():
            raise SoftaugError("the model's logits are not finite; training has probably diverged")
        if got.shape != expected.shape:
            raise SoftaugError(
                f"{what}: gives logits {list(got.shape)} for {n} images, "
                f"the model {list(expected.shape)}; nothing was written"
            )
        difference = ((got - expected).abs() / expected.abs().clamp(min=1)).max().item()
        if not difference <= TOLERANCE:
            raise SoftaugError(
                f"{what}: its logits for {n} images differ from the model's by {difference:.2g}, "
                f"at most {TOLERANCE:g} is allowed; nothing was written"
            )
        largest = max(largest, difference)
    return largest
