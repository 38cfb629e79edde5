"""What rows of targets cost beside indices of classes, as a share of a training step."""

from typing import Any

import torch
import torch.nn.functional as F

import softaug
from benchmarks.timing import per_image
from softaug_lab.models.card import ModelCard
from softaug_lab.models.classifier import build

BATCH, SIDE = 128, 32
CLASSES = (10, 1_000, 21_841)


def measure(rounds: int = 7) -> list[dict[str, Any]]:
    """For each number of classes K: rows and their cross-entropy, that of indices, and a step.

    The step is of the small network on 32 px, forward and backward, in float32: whatever is larger
    makes the share smaller.
    """
    records = []
    generator = torch.Generator().manual_seed(0)
    for classes in CLASSES:
        labels = torch.randint(classes, (BATCH,), generator=generator)
        confidence = 0.1 + 0.9 * torch.rand(BATCH, generator=generator)
        logits = torch.randn(BATCH, classes, generator=generator).requires_grad_()
        images = torch.randint(256, (BATCH, 3, SIDE, SIDE), generator=generator).to(torch.uint8)
        card = ModelCard("small", tuple(map(str, range(classes))), 3, SIDE, SIDE)
        model = build(card, (127.5,) * 3, (64.0,) * 3)

        def by_rows(logits: torch.Tensor = logits, labels: torch.Tensor = labels) -> None:
            rows = softaug.smooth(labels, confidence, logits.shape[1])  # noqa: B023
            F.cross_entropy(logits, rows).backward()

        def by_index(logits: torch.Tensor = logits, labels: torch.Tensor = labels) -> None:
            F.cross_entropy(logits, labels).backward()

        def step(
            model: torch.nn.Module = model,
            images: torch.Tensor = images,
            labels: torch.Tensor = labels,
        ) -> None:
            F.cross_entropy(model(images), labels).backward()

        found = per_image({"rows": by_rows, "index": by_index, "step": step}, BATCH, rounds)
        more = found["rows"].least - found["index"].least
        records.append(
            {
                "classes": classes,
                **{f"{name}_us": timing.least for name, timing in found.items()},
                "share_of_step": more / (found["step"].least + more),
            }
        )
    return records
