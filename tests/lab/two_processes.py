"""What tests run under torchrun: trains on made-up images or a stream, and keeps what each
process saw."""

import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from softaug import Chain, Crop, Flip, mean_one
from softaug_lab.basics.processes import Processes, started
from softaug_lab.data.dataset import Data, ImageSet
from softaug_lab.data.load import load
from softaug_lab.data.stream import StreamOptions
from softaug_lab.experiments.run_one import run_one
from softaug_lab.recipes.recipe import Recipe
from softaug_lab.runs.folder import RunFolder, open_run
from softaug_lab.training.augmentation import build_arm
from softaug_lab.training.batches import build_batches
from softaug_lab.training.progress import Progress
from softaug_lab.training.simsiam import build_siamese
from softaug_lab.training.supervised import weighted_over_processes


def data() -> Data:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (75, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.arange(75) % 3
    images[:, 0] //= 1 + labels[:, None, None].to(torch.uint8)
    train, test = ImageSet(images[:53], labels[:53]), ImageSet(images[53:], labels[53:])
    return Data("made up", ("a", "b", "c"), train, test)


def batches(recipe: Recipe, loaded: Data, processes: Processes) -> list[dict[str, object]]:
    """What this process feeds its network in an epoch, with weights over the global batch.

    The fills show other images, which must be the same ones for any number of processes.
    """
    _, height, width = loaded.image_shape
    crop = Chain([Flip(), Crop(fill="mixed")])
    augment = replace(build_arm(recipe, 3, height, width), transform=crop, weight=mean_one)
    augment = weighted_over_processes(augment, processes)
    kept = []
    for batch in build_batches(recipe, loaded, processes).epoch(1, augment.transform, 0):
        images, targets = augment(batch.images, batch.labels, drawn=batch.drawn)
        one: dict[str, object] = {"names": [*batch.names], "images": images, "targets": targets}
        kept.append(one | {"unreadable": batch.unreadable})
    return kept


def pairs(processes: Processes) -> list[dict[str, Tensor]]:
    """The views and weights that this process has in an epoch without labels."""
    recipe, loaded = Recipe(arm="simsiam-soft(pair=own)", batch_size=16), data()
    objective = build_siamese(recipe, loaded, processes)
    kept = []
    for batch in build_batches(recipe, loaded, processes).epoch(1, objective.transform(False), 0):
        made = objective.inputs_and_targets(batch, False)
        views, weights = objective.of_batch(*made, 0, False)
        kept.append({"views": views, "weights": weights})
    return kept


def main(folder: Path, model: str, options: list[str]) -> None:
    recipe = Recipe(model=model, arm="soft", epochs=2, batch_size=16, precision="fp32", lr=0.02)
    losses: list[float] = []
    sources = [option.removeprefix("--stream=") for option in options if "--stream=" in option]
    loaded = data()
    for source in sources:
        how = StreamOptions(readers=4, buffer=24)
        loaded = load(source, size=32, max_unreadable=0.1, stream=how)
    with started("cpu", "--shard" in options) as processes:
        run = RunFolder(folder / "run")
        if processes.main:
            run = open_run(run.folder, recipe, loaded, {}, "--resume" in options)
        processes.wait()

        def watch(step: Progress) -> None:
            losses.append(step.loss)
            time.sleep(0.3 * ("--slow" in options))

        record = run_one(recipe, loaded, run, processes, watch)
        kept = {
            "batches": batches(recipe, loaded, processes),
            "losses": losses,
            "record": asdict(record),
        }
        kept["pairs"] = pairs(processes)
        torch.save(kept, folder / f"{processes.count}-{processes.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
