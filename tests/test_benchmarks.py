"""The benchmarks in a small form: contenders do the same work, and records hold together."""

import pytest
import torch
from benchmarks import transforms
from benchmarks.timing import per_image, where

from softaug import Crop


def test_a_record_for_each_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms, "SETTINGS", ((16, 2),))
    monkeypatch.setattr(transforms, "allocate", lambda _: None)
    monkeypatch.setattr("benchmarks.timing.LEAST", 0.0)
    records = transforms.measure(rounds=2)
    by_name = {(r["name"], r["dtype"]): r for r in records}
    assert len(by_name) == len(records)
    for dtype in ("uint8", "float32"):
        for name, ours in (("Crop", "Crop"), ("gather", "Crop"), ("v2.RandomErasing", "Erase")):
            record = by_name[name, dtype]
            assert 0 < record["us_per_image"] <= record["median_us"]
            us = record["us_per_image"]
            assert record["times_copy"] == us / by_name["copy", dtype]["us_per_image"]
            assert record["ratio"] == us / by_name[ours, dtype]["us_per_image"]
    assert ("kornia.RandomCrop", "float32") in by_name
    assert ("kornia.RandomCrop", "uint8") not in by_name


@pytest.mark.parametrize("dtype", transforms.DTYPES)
def test_contenders_make_the_pixels_and_maps_of_ours(dtype: torch.dtype) -> None:
    images = (torch.rand(6, 3, 12, 9) * 255).to(dtype)
    made = []
    for program in (Crop(sigma=0.3), transforms.slices, transforms.gather):
        torch.manual_seed(0)
        made.append(program(images))
    for pixels, seen in made[1:]:
        assert torch.equal(pixels, made[0][0])
        assert torch.equal(seen, made[0][1])


def test_the_published_manner_packs_confidences_with_labels() -> None:
    images, labels = torch.rand(6, 3, 12, 9), torch.arange(6)
    out, targets = transforms.published_manner(images, labels, sigma=0.0)
    assert torch.equal(out, images)
    assert targets == labels.tolist()
    _, targets = transforms.published_manner(images, labels, sigma=0.3)
    assert all(0 <= t - label <= 0.99 for t, label in zip(targets, range(6), strict=True))


def test_times_are_for_each_image_and_least_first() -> None:
    took = per_image({"one": lambda: torch.ones(9), "other": lambda: None}, images=3, rounds=3)
    assert list(took) == ["one", "other"]
    assert all(0 < t.least <= t.median for t in took.values())
    assert took["other"].least < took["one"].least


def test_where_names_the_machine_and_the_versions() -> None:
    told = where("torchvision")
    assert told["torch"] == torch.__version__.split("+")[0] or told["torch"] == torch.__version__
    assert {"processor", "threads", "python", "torchvision"} <= told.keys()
