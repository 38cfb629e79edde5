"""Train on JPEG photos that are read from archives while training: what bounds the images a second.

Each photo has 500 x 333 px and is scaled and cut to 224 px. Reading and decoding alone, training
alone (images in memory) and both together, for a network each; all cores.
"""

import io
import itertools
import tarfile
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from benchmarks.decode import SIDE, photo
from benchmarks.training import differences
from softaug import Still
from softaug_lab.basics.processes import Processes
from softaug_lab.data import Data, ImageSet, StreamOptions, load
from softaug_lab.recipes import Recipe
from softaug_lab.runs import open_run
from softaug_lab.training import build_batches, fit

BATCH, STEPS, WARM_UP = 8, 12, 4
PER_CLASS = BATCH * STEPS // 2


def measure(models: tuple[str, ...] = ("small", "resnet50")) -> list[dict[str, Any]]:
    """Measure images per second; of_bound: both together, over the slower one alone."""
    records = []
    with tempfile.TemporaryDirectory() as folder:
        write_archives(Path(folder))
        streamed = load(folder, size=SIDE, stream=StreamOptions(readers=2, buffer=32))
        decoding = pace(decoded(streamed))
        for model in models:
            training, both = pace(trained(model, in_memory())), pace(trained(model, streamed))
            of_bound = both / min(decoding, training)
            record = {"model": model, "decoding": decoding, "training": training}
            records.append({**record, "both": both, "of_bound": of_bound})
    return records


def write_archives(folder: Path) -> None:
    """Write two classes of photos as WebDataset's archives, four for training and one to test."""
    files = [photo(name, (500, 333)) for name in ("china.jpg", "flower.jpg")]
    for part, archives, n in (("train", 4, PER_CLASS), ("test", 1, 4)):
        for number in range(archives):
            with tarfile.open(folder / f"{part}-{number:03}.tar", "w") as archive:
                for i, label in itertools.product(range(number, n, archives), (0, 1)):
                    add(archive, f"{label}-{i:05}.jpg", files[label])
                    add(archive, f"{label}-{i:05}.cls", str(label).encode())


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def in_memory() -> Data:
    images = torch.zeros(2 * PER_CLASS, 3, SIDE, SIDE, dtype=torch.uint8)
    labels = torch.arange(len(images)) % 2
    return Data("in memory", ("0", "1"), ImageSet(images, labels), ImageSet(images[:8], labels[:8]))


def recipe(model: str) -> Recipe:
    return Recipe(arm="soft", model=model, epochs=1, batch_size=BATCH)


def decoded(data: Data) -> list[float]:
    """Read and decode one epoch; return the seconds of each batch."""
    batches = build_batches(recipe("small"), data, Processes(torch.device("cpu")))
    times = [time.perf_counter()]
    times += [time.perf_counter() for _ in batches.epoch(0, Still(), 0)]
    return differences(times)


def trained(model: str, data: Data) -> list[float]:
    """Train one epoch; return the seconds of each step."""
    times = [time.perf_counter()]
    with tempfile.TemporaryDirectory() as folder:
        run = open_run(Path(folder) / "run", recipe(model), data, {}, resume=False)
        watch = lambda _: times.append(time.perf_counter())  # noqa: E731
        fit(recipe(model), data, run, Processes(torch.device("cpu")), watch)
    return differences(times)


def pace(seconds: list[float]) -> float:
    """Images per second after the first batches, which were read ahead or warm up."""
    return BATCH / mean(seconds[WARM_UP:])


if __name__ == "__main__":
    for record in measure():
        print(record)
