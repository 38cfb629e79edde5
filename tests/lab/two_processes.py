"""What test_engine runs under torchrun: trains, and keeps what each process saw."""

import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from softaug import mean_one
from softaug.lab import train as training
from softaug.lab.data import Data, ImageSet
from softaug.lab.engine import Engine, started
from softaug.lab.experiment import perform
from softaug.lab.feed import MemoryFeed
from softaug.lab.recipe import Recipe, build_arm
from softaug.lab.run import Run, open_run
from softaug.lab.train import Progress


def data() -> Data:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (74, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.arange(74) % 3
    images[:, 0] //= 1 + labels[:, None, None].to(torch.uint8)
    train, test = ImageSet(images[:52], labels[:52]), ImageSet(images[52:], labels[52:])
    return Data("made up", ("a", "b", "c"), train, test)


def batches(recipe: Recipe, engine: Engine) -> list[dict[str, object]]:
    """What this process feeds its network in an epoch, with weights over the global batch."""
    augment = replace(build_arm(recipe, 3, 32, 32), weight=mean_one)
    augment = training._over_processes(augment, engine)
    feed = MemoryFeed(data().train, recipe.batch_size, recipe.seed, engine)
    kept = []
    for batch in feed.epoch(1, augment.transform, 0):
        images, targets = augment(batch.images, batch.labels, drawn=batch.drawn)
        kept.append({"names": batch.names, "images": images, "targets": targets})
    return kept


def main(folder: Path, model: str, options: list[str]) -> None:
    recipe = Recipe(model=model, arm="soft", epochs=2, batch_size=16, precision="fp32", lr=0.02)
    losses: list[float] = []
    with started("cpu", "--shard" in options) as engine:
        run = Run(folder / "run")
        if engine.main:
            run = open_run(run.folder, recipe, data(), {}, "--resume" in options)
        engine.wait()

        def watch(step: Progress) -> None:
            losses.append(step.loss)
            time.sleep(0.3 * ("--slow" in options))

        record = perform(recipe, data(), run, engine, watch)
        kept = {"batches": batches(recipe, engine), "losses": losses, "record": record}
        torch.save(kept, folder / f"{engine.processes}-{engine.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
