"""The time of a run on images that are not loaded, from a few steps on noise."""

from dataclasses import replace

import torch

from softaug_lab.basics.processes import Processes
from softaug_lab.data import Data, ImageSet
from softaug_lab.experiments.cost import measure_pace
from softaug_lab.recipes import Recipe

BATCHES = 2  # of noise, to train on
# A CPU takes the same time for each image of a batch of this many pixels or more, and few seconds
# for all steps.
PIXELS = 1 << 18
LEAST_BATCH = 8


def guess_seconds(
    recipe: Recipe,
    classes: tuple[str, ...],
    shape: tuple[int, int, int],
    train: int,
    test: int,
    processes: Processes,
) -> float:
    """Estimate the seconds of a run with its evaluation.

    shape: channels, height and width. train, test: numbers of images. The estimate leaves out the
    reading of the images.
    """
    batch = min(train, recipe.batch_size)
    if processes.device.type == "cpu":
        batch = min(batch, max(LEAST_BATCH, PIXELS // (shape[1] * shape[2])))
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (BATCHES * batch, *shape), generator=generator)
    images = ImageSet(pixels.to(torch.uint8), torch.arange(len(pixels)) % len(classes))
    few = ImageSet(images.images[:batch], images.labels[:batch])
    noise = Data("noise", classes, images, few)
    pace = measure_pace(replace(recipe, batch_size=batch), [recipe.arm], noise, processes)
    return recipe.epochs * train * pace.epoch / len(pixels) + pace.evaluation * test / batch
