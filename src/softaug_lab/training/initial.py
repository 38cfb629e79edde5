"""The initial model: weights of the recipe's seed, or of others, and its normalisation."""

from dataclasses import replace

import torch

from softaug_lab.basics.errors import UsageError
from softaug_lab.basics.seeds import key
from softaug_lab.data import Data
from softaug_lab.models import Classifier, ModelCard, Weights, build, build_from, read_weights
from softaug_lab.recipes import Recipe


def initial_model(recipe: Recipe, data: Data) -> Classifier:
    """Build the recipe's model, normalised by the training images or as its weights ask for.

    Nothing but timm's own weights is downloaded: `adopt_weights` did that.
    """
    if recipe.weights is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key(recipe.seed, 0, "weights"))
            return build(_card(recipe, data), *data.pixel_statistics)
    weights = read_weights(recipe.weights, download=False, sha256=recipe.weights_sha256)
    return _begin_with(weights, recipe, data)[0]


def adopt_weights(recipe: Recipe, data: Data) -> tuple[Recipe, list[str]]:
    """Fetch the weights that a recipe names, check that they fit, and write down which they are.

    The network is the one that the weights' source names, unless the recipe asks for another than
    the default. Returns the recipe and notes for the user. Raises SoftaugError where the weights
    cannot be had or do not fit, UsageError where no network is named.
    """
    if recipe.weights is None:
        return recipe, []
    weights = read_weights(recipe.weights, download=True)
    model = recipe.model
    if model == Recipe.model:
        if weights.model is None:
            raise UsageError(
                f"{recipe.weights}: does not say which network it belongs to; --model names it"
            )
        model = weights.model
    recipe = replace(recipe, model=model, weights_sha256=weights.sha256)
    _, notes = _begin_with(weights, recipe, data)
    return recipe, [f"{recipe.weights}: {model} begins with these weights", *notes]


def _begin_with(weights: Weights, recipe: Recipe, data: Data) -> tuple[Classifier, list[str]]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(recipe.seed, 0, "weights"))  # of a new head
        return build_from(weights, _card(recipe, data), *data.pixel_statistics)


def _card(recipe: Recipe, data: Data) -> ModelCard:
    channels, height, width = data.image_shape
    arm = recipe.parsed_arm
    return ModelCard(
        recipe.model,
        data.classes,
        channels,
        height,
        width,
        recipe.pretrained,
        head=None if arm.head == "linear" else arm.head,
        bound=arm.bound,
    )
