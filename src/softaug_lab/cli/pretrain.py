"""softaug pretrain"""

from dataclasses import replace

from softaug_lab.basics.errors import UsageError
from softaug_lab.cli.options import (
    FOLDER,
    READ,
    RUNNING,
    Arm,
    Folder,
    ReadOptions,
    RecipeFile,
    RecipeOptions,
    Running,
    Source,
)
from softaug_lab.cli.training import train_one
from softaug_lab.recipes import Recipe, read_arm


def pretrain(
    data: Source,
    /,
    *,
    arm: Arm = "simsiam-soft",
    recipe: RecipeOptions = None,
    read: ReadOptions = READ,
    folder: Folder = FOLDER,
    _file: RecipeFile = None,
    running: Running = RUNNING,
) -> None:
    """Pretrain one model without labels (SimSiam), fit a linear probe, write a run folder.

    Only the probe uses the labels of DATA. Defaults differ from those of train; they are the recipe
    `simsiam`.
    """
    recipe = replace(recipe or Recipe(), arm=arm)
    if not read_arm(arm).self_supervised:
        raise UsageError(f"{arm} learns from labels: softaug train")
    train_one(data, recipe, read, folder, running)
