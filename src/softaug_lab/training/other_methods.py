"""What the rivals of soft augmentation do to a batch, its loss or its targets."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from softaug import smooth_by_confusion
from softaug_lab.recipes import Arm

BETA = 1.0  # of Mixup and CutMix: shares drawn from Beta(1, 1), as both papers have it
UNSEEN = 1e-6  # for classes that no model has yet got right


def mixed(
    arm: Arm, images: Shaped[Tensor, "n c h w"], rows: Float[Tensor, "n k"], seed: int
) -> tuple[Shaped[Tensor, "n c h w"], Float[Tensor, "n k"]]:
    """Images and rows mixed with those of their neighbours, by torchvision; float32 pixels."""
    if arm.mix == "none":
        return images, rows
    from torchvision.transforms import v2

    mixer = {"mixup": v2.MixUp, "cutmix": v2.CutMix}[arm.mix]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        images, rows = mixer(alpha=BETA, num_classes=rows.shape[1])(images.float(), rows)
    return images, rows


def loss_of(arm: Arm) -> Callable[[Tensor, Tensor], Tensor]:
    """The summed loss of logits [N,K] against rows [N,K]."""
    if arm.loss == "focal":
        return partial(focal, gamma=arm.gamma)
    return partial(F.cross_entropy, reduction="sum")


def focal(
    logits: Float[Tensor, "n k"], rows: Float[Tensor, "n k"], gamma: float
) -> Float[Tensor, ""]:
    """-sum t (1 - p)^gamma log p, summed over samples; cross-entropy at gamma 0.

    Source: Lin et al. 2017, eq. 4, for rows t in place of labels.
    """
    log_p = logits.log_softmax(dim=1)
    return -(rows * (1 - log_p.exp()) ** gamma * log_p).sum()


def confusions(logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"]) -> Float[Tensor, "k k"]:
    """The probabilities of the samples whose class is right, summed by class: [K,K].

    Source: Zhang et al. 2021, eq. 4.
    """
    p = logits.float().softmax(dim=1)
    right = p.argmax(dim=1) == labels
    return F.one_hot(labels[right], p.shape[1]).float().T @ p[right]


def online_smoothing(confusion: Float[Tensor, "k k"]) -> Callable[[Tensor, Tensor], Tensor]:
    """Targets that lose their mass to the classes that these confusions name."""
    return partial(smooth_by_confusion, confusion=confusion + UNSEEN)
