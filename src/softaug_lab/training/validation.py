"""Figures of held-out training images after each epoch: how training goes, without test images."""

import torch
from torch import nn

from softaug.devices import to_device
from softaug_lab.basics.processes import Processes
from softaug_lab.data import Data, ImageSet
from softaug_lab.metrics import sample_nll, top_k_error
from softaug_lab.models import eval_mode
from softaug_lab.recipes import Recipe

MOST = 0.05  # share of the training images: a pass over more would slow training by over 2 %


class Validation:
    """Measures top-1 error and NLL of held-out images with the weights as they are.

    The main process measures alone, since the batch norm statistics that are saved are its own.
    Nothing random is drawn and no weight changes, so training goes on to the bit as without.
    Without held-out images or labels, and where the weights are sharded, there are no figures.
    dtype: of the forward passes under autocast, as in training; None for float32.
    """

    def __init__(
        self, recipe: Recipe, data: Data, processes: Processes, dtype: torch.dtype | None
    ) -> None:
        apart = processes.shard or not processes.main or recipe.parsed_arm.self_supervised
        self.images = None if data.held_out is None or apart else thinned(data.held_out, data)
        self.batch_size = max(1, recipe.batch_size // recipe.accumulate)
        self.device, self.dtype = processes.device, dtype

    def figures(self, model: nn.Module) -> dict[str, float]:
        """Compute `held_out_top1_error` and `held_out_nll`; the model stays in training mode."""
        if self.images is None:
            return {}
        with (
            eval_mode(model),
            torch.inference_mode(),
            torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None),
        ):
            # Not the call: a compiled one would be compiled again for evaluation.
            outputs = [
                model.forward(to_device(images, self.device)).float()
                for images in self.images.images.split(self.batch_size)
            ]
            logits = torch.cat(outputs).cpu()
        labels = self.images.labels.cpu()
        return {
            "held_out_top1_error": top_k_error(logits, labels),
            "held_out_nll": sample_nll(logits, labels).mean().item(),
        }


def thinned(held_out: ImageSet, data: Data) -> ImageSet:
    """Take at most MOST of the training images' number, evenly spaced: they may lie by class."""
    n = min(len(held_out), max(1, int(MOST * data.train_images)))
    if n == len(held_out):
        return held_out
    chosen = torch.arange(n) * len(held_out) // n
    return held_out[chosen]
