"""The record of a comparison, or of one run: all that a report shows, as plain data for JSON."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Generator, Tensor

from softaug import SoftAugment, visibility
from softaug_lab.data import Data
from softaug_lab.experiments.disagreements import disagreements
from softaug_lab.experiments.png import png_text
from softaug_lab.experiments.run_one import record
from softaug_lab.recipes import Recipe, read_arm, transform_of
from softaug_lab.runs import RunFolder
from softaug_lab.training import build_arm, drawn_visibility

SAMPLES = 8  # images shown for each arm


def collect(
    title: str,
    command: str,
    runs: Sequence[RunFolder],
    data: Data,
    comparisons: list[dict[str, Any]],
) -> dict[str, Any]:
    """Everything the report reads, from finished runs of one recipe that differ in arm and seed."""
    recipes = [run.recipe() for run in runs]
    first = {recipe.arm: recipe for recipe in reversed(recipes)}
    arms = list(dict.fromkeys(recipe.arm for recipe in recipes))
    records = [record(run) for run in runs]
    shown = [_Shown(first[arm], data) for arm in arms]
    return {
        "title": title,
        "command": command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **_environment(runs),
        "seconds": sum(r["seconds"] for r in records),
        "data": {
            "name": data.name,
            "classes": list(data.classes),
            "train_images": data.train_images,
            "test_images": len(data.test),
            "image_shape": list(data.image_shape),
            "notes": [*data.notes, *([data.split] if data.split else [])],
        },
        "recipe": _shared(recipes[0], runs[0]),
        "seeds": sorted({recipe.seed for recipe in recipes}),
        "arms": [one.arm_record() for one in shown],
        "runs": records,
        "comparisons": comparisons,
        "samples": [{"arm": one.recipe.arm, "items": one.samples()} for one in shown],
        "disagreements": disagreements(runs, data),
        "softening": [one.softening() for one in shown],
    }


def _environment(runs: Sequence[RunFolder]) -> dict[str, Any]:
    """Versions, machine and commit of the runs; where they differ, all that there were."""
    found = [run.description()["environment"] for run in runs]
    versions: dict[str, list[str]] = {}
    machines: dict[str, list[str]] = {}
    for one in found:
        for known, own in ((versions, one["versions"]), (machines, one["machine"])):
            for name, value in own.items():
                known.setdefault(name, []).append(str(value))
    commits = [one["commit"] for one in found if one["commit"]]
    return {
        "versions": {name: _distinct(values) for name, values in versions.items()},
        "machine": {name: _distinct(values) for name, values in machines.items()},
        "commit": _distinct(commits) or None,
    }


def _distinct(values: Sequence[str]) -> str:
    return " and ".join(dict.fromkeys(values))


def _shared(recipe: Recipe, run: RunFolder) -> dict[str, Any]:
    """The settings that all arms share, and the size of their model."""
    from softaug_lab.models import load_model

    own = ("arm", "seed")
    settings = {k: v for k, v in vars(recipe).items() if k not in own}
    file = next(file for file in run.model_files if file.exists())
    parameters = sum(p.numel() for p in load_model(file).parameters())
    return {**settings, "parameters": parameters}


class _Shown:
    """One arm as the report shows it: its law of visibilities, and samples of it."""

    def __init__(self, recipe: Recipe, data: Data) -> None:
        self.recipe, self.data = recipe, data
        _, height, width = data.image_shape
        self.augment: SoftAugment = build_arm(recipe, data.num_classes, height, width)
        arm, law = read_arm(recipe.arm), self.augment.transform
        if arm.self_supervised:
            # Changes of colour take minutes for so many draws of large images, and hide nothing.
            law = transform_of(recipe, arm, height, width)
        self.visibility = drawn_visibility(law, height, width)

    def arm_record(self) -> dict[str, Any]:
        arm = read_arm(self.recipe.arm)
        harsh = self.recipe.augment or f"crop({self.recipe.sigma})"
        own = "" if arm.augment in ("still", "standard") else f": {arm.augment}"
        return {
            "name": self.recipe.arm,
            "description": arm.about + own.replace("harsh", harsh),
            "augmentation": repr(self.augment),
            "mean_confidence": self._confidence(self.visibility).mean().item(),
        }

    def _confidence(self, visibility: Tensor) -> Tensor:
        assert self.augment.curve is not None
        return self.augment.curve(visibility)

    def softening(self) -> dict[str, Any]:
        grid = torch.linspace(0, 1, 101)
        edges = torch.linspace(0, 1, 21)
        counts = torch.histogram(self.visibility, bins=edges).hist
        return {
            "arm": self.recipe.arm,
            "visibility": grid.tolist(),
            "confidence": self._confidence(grid).tolist(),
            "histogram": {"edges": edges.tolist(), "share": (counts / counts.sum()).tolist()},
        }

    def samples(self) -> list[dict[str, Any]]:
        images, labels, seen, confidence = augmented_samples(self.augment, self.data, SAMPLES)
        return [
            {
                "png": png_text(images[i]),
                "visibility": seen[i].item(),
                "confidence": confidence[i].item(),
                "class": self.data.classes[int(labels[i])],
            }
            for i in range(len(images))
        ]


def augmented_samples(
    augment: SoftAugment, data: Data, n: int, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """n training images under an augmentation, with labels, visibility and confidence [n].

    The images and, where the transforms agree, the draws depend on the seed alone.
    """
    assert augment.curve is not None
    order = torch.randperm(len(data.train), generator=Generator().manual_seed(seed))[:n]
    _, height, width = data.image_shape
    drawn = augment.transform.draw(len(order), height, width, Generator().manual_seed(seed + 1))
    images, seen = augment.transform.apply(data.train.images[order], None, drawn)
    share = visibility(seen)
    return images, data.train.labels[order], share, augment.curve(share)
