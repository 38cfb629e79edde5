"""What test_engine kills: trains in a folder, or goes on there, with a checkpoint at every step."""

import sys
from pathlib import Path

import torch
from two_processes import data

from softaug.lab import train as training
from softaug.lab.engine import Engine
from softaug.lab.recipe import Recipe
from softaug.lab.run import open_run

if __name__ == "__main__":
    training.CHECKPOINT_SECONDS = 0
    recipe = Recipe(epochs=12, batch_size=16, precision="fp32")
    run = open_run(Path(sys.argv[1]), recipe, data(), {}, resume=True)
    training.train(
        recipe,
        data(),
        run,
        Engine(torch.device("cpu")),
        lambda progress: print(progress.step, flush=True),  # noqa: T201  the test listens
    )
