"""Train heads that are not linear: their loss, their penalty, what is fitted after training."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from softaug import Still
from softaug.devices import to_device
from softaug_lab.basics.errors import UsageError
from softaug_lab.basics.processes import Processes
from softaug_lab.models import Centroids, Classifier, Gaussians, Process, headless
from softaug_lab.recipes import Recipe
from softaug_lab.training.batches import MemoryBatches, StreamBatches

PENALTY = 0.5  # the weight of DUQ's gradient penalty
LEAST = 1e-6  # of minus the log of a kernel value: at a centroid its loss would be infinite


def require_head_trainable(recipe: Recipe, processes: Processes) -> None:
    """Raise UsageError for a head or a bound with settings that it does not go with."""
    arm = recipe.parsed_arm
    if processes.shard and (arm.head != "linear" or arm.bound is not None):
        raise UsageError(f"arm {recipe.arm!r} trains whole models, not with --shard")
    if recipe.compile and arm.head == "centroids":
        raise UsageError(
            f"arm {recipe.arm!r} needs gradients of gradients, which compiled models have not; "
            "leave out --compile"
        )


def kernel_loss(logits: Float[Tensor, "n k"], rows: Float[Tensor, "n k"]) -> Float[Tensor, ""]:
    """Binary cross-entropy of kernel values, whose logs are `logits`, summed over samples.

    Source: van Amersfoort et al. 2020, arXiv 2003.02037, eq. 3, with rows in place of labels.
    """
    logs = logits.clamp(max=-LEAST)
    return -(rows * logs + (1 - rows) * torch.log(-torch.expm1(logs))).sum()


def gradient_penalty(
    logits: Float[Tensor, "n k"], images: Float[Tensor, "n c h w"], std: Tensor
) -> Float[Tensor, ""]:
    """Penalise gradients of the summed kernel values whose square norm is not 1; sum over samples.

    images: what the logits were computed from, with gradients. std: the divisor of the images, by
    which the gradients are those of normalised pixels.
    Source: van Amersfoort et al. 2020, arXiv 2003.02037, eq. 7, two-sided.
    """
    (gradient,) = torch.autograd.grad(logits.float().exp().sum(), images, create_graph=True)
    squares = (gradient * std).square().flatten(1).sum(dim=1)
    return PENALTY * (squares - 1).square().sum()


def penalty_of(model: Classifier) -> Callable[[Tensor, Tensor], Tensor] | None:
    """Return what is added to the loss, from logits and images; None for most heads."""
    if isinstance(model.own_head, Centroids):
        return lambda logits, images: gradient_penalty(logits, images, model.std)
    return None


def fit_head(
    model: Classifier, batches: MemoryBatches | StreamBatches, processes: Processes
) -> None:
    """Fit what a head learns after training, on all training images as they are."""
    if not isinstance(model.own_head, Gaussians | Process):
        return
    head, totals = model.own_head, torch.zeros((), device=processes.device)
    was_training = model.training
    model.eval()
    for buffer in model.buffers():  # all compute with the statistics that are saved, rank 0's
        buffer.copy_(processes.summed(buffer if processes.main else torch.zeros_like(buffer)))
    # Compiled, the network without its last layer would cost another compilation.
    with torch.no_grad(), headless(model), torch.compiler.set_stance("force_eager"):
        for batch in batches.epoch(0, Still(), 0):
            images = to_device(batch.images, processes.device)
            labels = to_device(batch.labels, processes.device)
            totals = totals + head.sums(model(images).float(), labels)
        head.fit(processes.summed(totals))
    model.train(was_training)
