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

    None for a model whose last layer has no score. model: a Classifier, or a module around one.
    """
    inner = next((m for m in model.modules() if isinstance(m, Classifier)), None)
    if inner is None or inner.head_name is None:
        return None
    with headless(inner) as head:
        features = predict_logits(inner, images, batch_size)
    device = inner.mean.device
    with torch.inference_mode():
        scores = [head.score(rows.to(device)).cpu() for rows in features.split(batch_size)]
    return torch.cat(scores).clone()
