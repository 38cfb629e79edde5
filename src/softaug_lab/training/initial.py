"""The initial model: weights from the recipe's seed, normalisation from the training images."""

import torch

from softaug_lab.basics.seeds import key
from softaug_lab.data import Data
from softaug_lab.models import Classifier, ModelCard, build
from softaug_lab.recipes import Recipe


def initial_model(recipe: Recipe, data: Data) -> Classifier:
    """Build the recipe's model with the weights of its seed, normalised by the training images."""
    channels, height, width = data.image_shape
    arm = recipe.parsed_arm
    card = ModelCard(
        recipe.model,
        data.classes,
        channels,
        height,
        width,
        recipe.pretrained,
        head=None if arm.head == "linear" else arm.head,
        bound=arm.bound,
    )
    mean, std = data.pixel_statistics
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(recipe.seed, 0, "weights"))
        return build(card, mean, std)
