"""The record of a comparison, or of one run, as plain data for JSON: all that a report shows."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from statistics import fmean
from typing import Any

import torch
from torch import Generator, Tensor

from softaug import CalibratedCurve, PowerCurve, SoftAugment, visibility
from softaug_lab.data import Data, begun, png_text
from softaug_lab.evaluation import example_views
from softaug_lab.experiments.disagreements import disagreements
from softaug_lab.experiments.mistakes import mistakes
from softaug_lab.experiments.run_one import RunRecord, fills_for, read_record
from softaug_lab.metrics import HEADLINE_SHARE
from softaug_lab.models import load_model
from softaug_lab.recipes import AUTO, Recipe, transform_of
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
    """Collect the results of finished runs of one recipe that differ in arm and seed."""
    recipes = [run.recipe() for run in runs]
    first = {recipe.arm: recipe for recipe in reversed(recipes)}
    arm_names = list(dict.fromkeys(recipe.arm for recipe in recipes))
    records = [read_record(run) for run in runs]
    arms = [
        _ArmRecord(first[name], data, [one.history[-1] for one in records if one.arm == name])
        for name in arm_names
    ]
    return {
        "title": title,
        "command": command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **_environment(runs),
        "seconds": sum(record.seconds for record in records),
        "data": {
            "name": data.name,
            "classes": list(data.classes),
            "train_images": data.train_images,
            "test_images": len(data.test),
            "image_shape": list(data.image_shape),
            "objects": data.train.objects is not None,  # whose visibility the targets followed
            "notes": [*data.notes, *([data.split] if data.split else [])],
        },
        "recipe": _shared_settings(recipes, runs[0]),
        "seeds": sorted({recipe.seed for recipe in recipes}),
        "arms": [arm.description() for arm in arms],
        "runs": [run_as_dict(record) for record in records],
        "comparisons": comparisons,
        "views": _example_views(data),
        "samples": [{"arm": arm.recipe.arm, "items": arm.samples()} for arm in arms],
        "disagreements": disagreements(runs, data),
        "mistakes": _mistakes(runs, records, data),
        "softening": [arm.softening() for arm in arms],
    }


def _mistakes(
    runs: Sequence[RunFolder], records: Sequence[RunRecord], data: Data
) -> dict[str, Any] | None:
    """The mistakes of a single run; a comparison shows where its arms disagree."""
    if len(runs) > 1:
        return None
    return mistakes(runs[0], data, records[0].evaluation.get("temperature"))


def _example_views(data: Data) -> dict[str, Any]:
    """The first test image, whole and with a share cut off or hidden, by every fill."""
    image, label = data.test.images[0], int(data.test.labels[0])
    return {
        "share": HEADLINE_SHARE,
        "class": data.classes[label],
        "png": png_text(image),
        "items": [
            {"kind": kind, "fill": fill, "png": png_text(view)}
            for kind, fill, view in example_views(fills_for(data), 0, HEADLINE_SHARE)
        ],
    }


def run_as_dict(record: RunRecord) -> dict[str, Any]:
    """Convert the record of a run to plain data, with its main further results as metrics."""
    further, metrics = {}, {}
    if record.corruptions is not None:
        further["corruptions"] = record.corruptions
        mean = record.corruptions["mean"]
        metrics["corruption_error"] = None if mean is None else mean["top1_error"]
    if record.ood is not None:
        further["ood"] = record.ood
        metrics["softmax_auroc"] = record.ood["softmax"]["auroc"]
        metrics["energy_auroc"] = record.ood["energy"]["auroc"]
        metrics["own_auroc"] = record.ood["own"]["auroc"] if "own" in record.ood else None
    return {
        "arm": record.arm,
        "seed": record.seed,
        "seconds": record.seconds,
        "images_per_second": record.images_per_second,
        "history": record.history,
        "evaluation": record.evaluation | metrics,
        **further,
    }


def _environment(runs: Sequence[RunFolder]) -> dict[str, Any]:
    """Join the versions, machines and commits of the runs; where they differ, name all."""
    environments = [run.description()["environment"] for run in runs]
    return {
        "versions": _joined([environment["versions"] for environment in environments]),
        "machine": _joined([environment["machine"] for environment in environments]),
        "commit": _distinct([e["commit"] for e in environments if e["commit"]]) or None,
    }


def _joined(described: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Join dicts of values key by key."""
    values: dict[str, list[str]] = {}
    for one in described:
        for name, value in one.items():
            values.setdefault(name, []).append(str(value))
    return {name: _distinct(texts) for name, texts in values.items()}


def _distinct(texts: Sequence[str]) -> str:
    return " and ".join(dict.fromkeys(texts))


def _shared_settings(recipes: Sequence[Recipe], run: RunFolder) -> dict[str, Any]:
    """Return the settings that all runs share, and the number of parameters of their model."""
    first, *others = (asdict(recipe) for recipe in recipes)
    settings = {
        name: value
        for name, value in first.items()
        if name not in ("arm", "seed") and all(other[name] == value for other in others)
    }
    file = next(file for file in run.model_files if file.exists())
    parameters = sum(p.numel() for p in load_model(file).parameters())
    return {**settings, "parameters": parameters}


class _ArmRecord:
    """One arm in the record: its description, the visibilities that it draws, and samples.

    last_epochs: of its runs' histories; they have the curve of an arm that learned it.
    """

    def __init__(self, recipe: Recipe, data: Data, last_epochs: list[dict[str, Any]]) -> None:
        self.recipe, self.data = recipe, data
        _, height, width = data.image_shape
        self.augment: SoftAugment = build_arm(
            recipe, data.num_classes, height, width, data.train.objects
        )
        if isinstance(self.augment.curve, CalibratedCurve):
            k, ceiling = (fmean(log[name] for log in last_epochs) for name in ("k", "ceiling"))
            learned = PowerCurve(k, chance=self.augment.curve.chance, ceiling=ceiling)
            self.augment = replace(self.augment, curve=learned)
        transform = self.augment.transform
        if recipe.parsed_arm.self_supervised:
            # So many colour changes of large images take minutes, and leave visibility unchanged.
            transform = transform_of(recipe, height, width)
        self.visibility = drawn_visibility(transform, height, width, data.train.objects)

    def description(self) -> dict[str, Any]:
        arm = self.recipe.parsed_arm
        harsh = self.recipe.augment or f"crop({self.recipe.sigma})"  # also what `auto` stands for
        augment = "" if arm.augment in ("still", "standard") else f": {arm.augment}"
        return {
            "name": self.recipe.arm,
            "description": arm.about + augment.replace("harsh", harsh).replace(AUTO, harsh),
            "augmentation": repr(self.augment),
            "mean_confidence": self._confidence(self.visibility).mean().item(),
        }

    def _confidence(self, visibility: Tensor) -> Tensor:
        assert self.augment.curve is not None
        return self.augment.curve(visibility)

    def softening(self) -> dict[str, Any]:
        """Sample the curve, and count the visibilities in 20 bins."""
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
    """Augment n training images; return them with labels, visibility and confidence [n].

    The choice of images depends on the seed alone, and so do the draws of equal transforms.
    """
    assert augment.curve is not None
    order = torch.randperm(len(data.train), generator=Generator().manual_seed(seed))[:n]
    _, height, width = data.image_shape
    drawn = augment.transform.draw(len(order), height, width, Generator().manual_seed(seed + 1))
    chosen = data.train[order]
    images, seen = augment.transform.apply(chosen.images, begun(chosen.objects), drawn)
    share = visibility(seen)
    return images, chosen.labels, share, augment.curve(share)
