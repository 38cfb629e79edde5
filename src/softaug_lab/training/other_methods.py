"""Other methods beside soft augmentation: Mixup, CutMix, focal loss, online label smoothing."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from softaug import smooth_by_confusion
from softaug_lab.recipes import Arm
from softaug_lab.training.heads import kernel_loss

BETA = 1.0  # Mixup and CutMix draw their shares from Beta(1, 1), as in both papers
UNSEEN = 1e-6  # added to confusions, for classes without any correct prediction yet


def mix_batch(
    arm: Arm, images: Shaped[Tensor, "n c h w"], rows: Float[Tensor, "n k"], seed: int
) -> tuple[Shaped[Tensor, "n c h w"], Float[Tensor, "n k"]]:
    """Mix images and target rows with their neighbours' by torchvision, if the arm asks for it.

    Mixed pixels are float32; the random numbers come from `seed`.
    """
    if arm.mix == "none":
        return images, rows
    from torchvision.transforms import v2

    mixer = {"mixup": v2.MixUp, "cutmix": v2.CutMix}[arm.mix]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        images, rows = mixer(alpha=BETA, num_classes=rows.shape[1])(images.float(), rows)
    return images, rows


def loss_of(arm: Arm) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the arm's loss of logits [N,K] and target rows [N,K], summed over samples."""
    if arm.head == "centroids":
        return kernel_loss
    if arm.loss == "focal":
        return partial(focal, gamma=arm.gamma)
    return partial(F.cross_entropy, reduction="sum")


def focal(
    logits: Float[Tensor, "n k"], rows: Float[Tensor, "n k"], gamma: float
) -> Float[Tensor, ""]:
    """Focal loss, -sum t (1 - p)^gamma log p, summed over samples; cross-entropy at gamma 0.

    Source: Lin et al. 2017, arXiv 1708.02002, eq. 4, with rows t in place of labels.
    """
    log_p = logits.log_softmax(dim=1)
    return -(rows * (1 - log_p.exp()) ** gamma * log_p).sum()


def confusions(logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"]) -> Float[Tensor, "k k"]:
    """Sum the probabilities of correctly classified samples by class, [K,K].

    Source: Zhang et al. 2021, arXiv 2011.12562, eq. 4.
    """
    p = logits.float().softmax(dim=1)
    correct = p.argmax(dim=1) == labels
    # Wrong samples count 0 instead of being left out, so that no count is read from a GPU.
    rows = torch.zeros_like(p).scatter_(1, labels[:, None], correct[:, None].float())
    return rows.T @ p


def online_smoothing(confusion: Float[Tensor, "k k"]) -> Callable[[Tensor, Tensor], Tensor]:
    """Make a `soften` function that moves the label's mass to the classes it is confused with."""
    return partial(smooth_by_confusion, confusion=confusion + UNSEEN)
