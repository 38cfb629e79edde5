"""What test_engine kills: trains in a folder, or goes on there, with a checkpoint at every step."""

import sys
from pathlib import Path

import torch
from two_processes import data

from softaug_lab.basics.processes import Processes
from softaug_lab.recipes.recipe import Recipe
from softaug_lab.runs.folder import open_run
from softaug_lab.training.loop import fit
from softaug_lab.training.pace import Pace

if __name__ == "__main__":
    recipe = Recipe(epochs=12, batch_size=16, precision="fp32")
    run = open_run(Path(sys.argv[1]), recipe, data(), {}, resume=True)
    fit(
        recipe,
        data(),
        run,
        Processes(torch.device("cpu")),
        lambda progress: print(progress.step, flush=True),  # noqa: T201  the test listens
        pace=Pace(seconds=0),
    )
