"""What target rows cost compared with class indices, as a share of a training step."""

from typing import Any

import torch
import torch.nn.functional as F

import softaug
from benchmarks.timing import per_image
from softaug_lab.models import ModelCard, build

BATCH, SIDE = 128, 32
CLASSES = (10, 1_000, 21_841)


def measure(rounds: int = 7) -> list[dict[str, Any]]:
    """Time, for each number of classes K, rows with their cross-entropy, indices, and a step.

    The step is of the small network on 32 px, forward and backward, in float32: a larger network
    or larger images make the share smaller.
    """
    generator = torch.Generator().manual_seed(0)
    return [_measure_classes(classes, rounds, generator) for classes in CLASSES]


def _measure_classes(classes: int, rounds: int, generator: torch.Generator) -> dict[str, Any]:
    labels = torch.randint(classes, (BATCH,), generator=generator)
    confidence = 0.1 + 0.9 * torch.rand(BATCH, generator=generator)
    logits = torch.randn(BATCH, classes, generator=generator).requires_grad_()
    images = torch.randint(256, (BATCH, 3, SIDE, SIDE), generator=generator).to(torch.uint8)
    card = ModelCard("small", tuple(map(str, range(classes))), 3, SIDE, SIDE)
    model = build(card, (127.5,) * 3, (64.0,) * 3)

    def by_rows() -> None:
        F.cross_entropy(logits, softaug.smooth(labels, confidence, classes)).backward()

    def by_index() -> None:
        F.cross_entropy(logits, labels).backward()

    def step() -> None:
        F.cross_entropy(model(images), labels).backward()

    timings = per_image({"rows": by_rows, "index": by_index, "step": step}, BATCH, rounds)
    extra = timings["rows"].least - timings["index"].least
    return {
        "classes": classes,
        **{f"{name}_us": timing.least for name, timing in timings.items()},
        "share_of_step": extra / (timings["step"].least + extra),
    }
