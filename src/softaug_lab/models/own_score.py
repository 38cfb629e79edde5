"""The score of a model's own head, which tells images like the training ones from others."""

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor, nn

from softaug_lab.models.classifier import Classifier, headless
from softaug_lab.models.logits import predict_logits


def own_score(
    model: nn.Module, images: UInt8[Tensor, "n c h w"], batch_size: int = 500
) -> Float32[Tensor, "n"] | None:
    """Compute the score of images by a classifier's own head, float32 [N] on the CPU.

    None for a model whose last layer has no score. model: a Classifier, or a module around one, or
    around several, whose scores are averaged.
    """
    inner = [module for module in model.modules() if isinstance(module, Classifier)]
    if not inner or any(one.head_name is None for one in inner):
        return None
    return torch.stack([_of_one(one, images, batch_size) for one in inner]).mean(dim=0)


def _of_one(
    inner: Classifier, images: UInt8[Tensor, "n c h w"], batch_size: int
) -> Float32[Tensor, "n"]:
    with headless(inner) as head:
        features = predict_logits(inner, images, batch_size)
    device = inner.mean.device
    with torch.inference_mode():
        scores = [head.score(rows.to(device)).cpu() for rows in features.split(batch_size)]
    return torch.cat(scores).clone()
