"""softaug train"""

from dataclasses import replace

from softaug_lab.basics.errors import UsageError
from softaug_lab.cli.options import (
    FOLDER,
    READ,
    RUNNING,
    Arm,
    Folder,
    LeftOpen,
    ReadOptions,
    RecipeFile,
    RecipeOptions,
    Running,
    Source,
)
from softaug_lab.cli.training import train_one
from softaug_lab.recipes import Recipe, read_arm


def train(
    data: Source,
    /,
    *,
    arm: Arm = "auto",
    recipe: RecipeOptions = None,
    read: ReadOptions = READ,
    folder: Folder = FOLDER,
    _file: RecipeFile = None,
    running: Running = RUNNING,
    _left_open: LeftOpen = (),
) -> None:
    """Train one model, evaluate it, and write a run folder with a report.

    On several devices or machines: torchrun --nproc-per-node N -m -- softaug train ...
    """
    recipe = replace(recipe or Recipe(), arm=arm)
    if read_arm(arm).self_supervised:
        raise UsageError(f"{arm} learns without labels: softaug pretrain")
    train_one(data, recipe, read, folder, running, _left_open)
