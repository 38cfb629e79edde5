"""Training steps per second: softaug's loop and others, on the same network, batch and images.

Every loop trains on CIFAR-sized images in memory, crops them by up to 4 px and mirrors them, each
as its users would write it: softaug with its arm `standard`; a plain loop with torchvision's
transforms in the workers of a DataLoader; timm's loader, transforms and optimiser, as in its
script; Lightning's Trainer on the plain loop's data.
"""

import contextlib
import itertools
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from softaug_lab.basics.processes import Processes, has_bf16
from softaug_lab.data import Data, ImageSet
from softaug_lab.models import ModelCard, build
from softaug_lab.recipes import Recipe
from softaug_lab.runs import open_run
from softaug_lab.training import build_arm, build_batches, fit

BATCH, SIDE, CLASSES = 128, 32, 10
# Without the hardware a step in bfloat16 takes ten times as long, and nobody trains so.
IN_BFLOAT16 = has_bf16(torch.device("cpu"))
CARD = tuple(map(str, range(CLASSES)))
PACKAGES = ("torchvision", "timm", "lightning")
Seconds = list[float]  # the duration of each step


def measure(model: str = "small", steps: int = 30, rounds: int = 2) -> list[dict[str, Any]]:
    """Measure images per second, from the median step of each loop's best round.

    The loops take turns in every round. ratio: the time of a step divided by softaug's.
    """
    images, labels = made_up(steps * BATCH)
    loops: dict[str, Callable[[], Seconds]] = {
        "softaug": partial(softaug_loop, model, images, labels, "auto"),
        "softaug, float32": partial(softaug_loop, model, images, labels, "fp32"),
        "plain loop, torchvision": partial(plain_loop, model, images, labels),
        "timm's parts": partial(timm_loop, model, images, labels),
        "Lightning": partial(lightning_loop, model, images, labels, "32-true"),
    }
    if IN_BFLOAT16:
        loops |= {
            "plain loop, torchvision, bfloat16": partial(
                plain_loop, model, images, labels, torch.bfloat16
            ),
            "timm's parts, bfloat16": partial(timm_loop, model, images, labels, torch.bfloat16),
            "Lightning, bfloat16": partial(lightning_loop, model, images, labels, "bf16-mixed"),
        }
    best: dict[str, float] = {}
    for _ in range(rounds):
        for name, loop in loops.items():
            took = median(loop()[3:])  # the first steps warm up
            best[name] = min(took, best.get(name, took))
    return [
        {
            "name": name,
            "model": model,
            "images_per_second": BATCH / seconds,
            "ratio": seconds / best["softaug"],
        }
        for name, seconds in best.items()
    ]


def measure_parts(model: str = "small", steps: int = 30) -> dict[str, Any]:
    """Measure the share of a step that data, augmentation and softened targets take."""
    images, labels = made_up(steps * BATCH)
    step = median(softaug_loop(model, images, labels, "auto", arm="soft")[3:])
    recipe, data = Recipe(arm="soft", model=model, batch_size=BATCH), as_data(images, labels)
    augment = build_arm(recipe, CLASSES, SIDE, SIDE)
    batches = build_batches(recipe, data, Processes(torch.device("cpu")))
    took = []
    begin = time.perf_counter()
    for batch in batches.epoch(0, augment.transform, 0):
        augment(batch.images, batch.labels, drawn=batch.drawn)
        took.append(time.perf_counter() - begin)
        begin = time.perf_counter()
    part = median(took[3:])
    return {"model": model, "step_ms": 1e3 * step, "part_ms": 1e3 * part, "share": part / step}


def made_up(n: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (n, 3, SIDE, SIDE), generator=generator).to(torch.uint8)
    return images, torch.randint(CLASSES, (n,), generator=generator)


def as_data(images: Tensor, labels: Tensor) -> Data:
    return Data("made up", CARD, ImageSet(images, labels), ImageSet(images[:10], labels[:10]))


def network(model: str) -> nn.Module:
    """Build the network of all loops, from images in 0 to 255 (uint8 or float) to logits."""
    torch.manual_seed(0)
    return build(ModelCard(model, CARD, 3, SIDE, SIDE), (127.5,) * 3, (64.0,) * 3)


def softaug_loop(
    model: str, images: Tensor, labels: Tensor, precision: Any, arm: str = "standard"
) -> Seconds:
    data = as_data(images, labels)
    recipe = Recipe(arm=arm, model=model, epochs=1, batch_size=BATCH, precision=precision)
    times = [time.perf_counter()]
    with tempfile.TemporaryDirectory() as folder:
        run = open_run(Path(folder) / "run", recipe, data, {}, resume=False)
        watch = lambda _: times.append(time.perf_counter())  # noqa: E731
        fit(recipe, data, run, Processes(torch.device("cpu")), watch)
    return differences(times)


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images in memory, transformed by torchvision when they are accessed."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        from torchvision.transforms import v2

        self.images, self.labels = images, labels
        self.transform = v2.Compose([v2.RandomCrop(SIDE, padding=4), v2.RandomHorizontalFlip()])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.transform(self.images[i]), int(self.labels[i])


def loader(images: Tensor, labels: Tensor) -> DataLoader[tuple[Tensor, int]]:
    workers = os.cpu_count() or 1
    return DataLoader(Pictures(images, labels), BATCH, shuffle=True, num_workers=workers)


def plain_loop(
    model: str, images: Tensor, labels: Tensor, dtype: torch.dtype | None = None
) -> Seconds:
    net = network(model).train()
    optimizer = torch.optim.SGD(
        net.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    return differences(list(plain_steps(net, optimizer, loader(images, labels), dtype)))


def plain_steps(
    net: nn.Module, optimizer: torch.optim.Optimizer, batches: Any, dtype: torch.dtype | None
) -> Iterator[float]:
    """Yield the time at the start and after each step."""
    yield time.perf_counter()
    for inputs, classes in batches:
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            logits = net(inputs)
        loss = F.cross_entropy(logits.float(), classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield time.perf_counter()


def timm_loop(
    model: str, images: Tensor, labels: Tensor, dtype: torch.dtype | None = None
) -> Seconds:
    from PIL import Image
    from timm.data import create_loader
    from timm.optim import create_optimizer_v2

    class Files(Dataset[tuple[Any, int]]):
        transform: Any = None

        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, i: int) -> tuple[Any, int]:
            picture = Image.fromarray(images[i].permute(1, 2, 0).numpy())
            return self.transform(picture), int(labels[i])

    files: Any = Files()  # timm types this argument as its own class, but takes any Dataset
    batches = create_loader(
        files,
        input_size=(3, SIDE, SIDE),
        batch_size=BATCH,
        is_training=True,
        no_aug=False,
        train_crop_mode="rkrc",
        color_jitter=0.0,
        num_workers=os.cpu_count() or 1,
        use_prefetcher=False,
        device=torch.device("cpu"),
        mean=(0.0,) * 3,
        std=(1 / 255,) * 3,
    )
    net = network(model).train()
    optimizer = create_optimizer_v2(net, "sgd", lr=0.1, weight_decay=5e-4, momentum=0.9)
    return differences(list(plain_steps(net, optimizer, batches, dtype)))


def lightning_loop(model: str, images: Tensor, labels: Tensor, precision: Any) -> Seconds:
    import lightning

    times = []

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network(model)

        def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
            return F.cross_entropy(self.net(batch[0]).float(), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(
                self.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
            )

        def on_train_batch_end(self, *_: Any) -> None:
            times.append(time.perf_counter())

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(None):
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            accelerator="cpu",
            precision=precision,
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(Module(), loader(images, labels))
    return differences(times)


def differences(times: Seconds) -> Seconds:
    return [after - before for before, after in itertools.pairwise(times)]


if __name__ == "__main__":
    for record in [*measure(), measure_parts()]:
        print(record)
