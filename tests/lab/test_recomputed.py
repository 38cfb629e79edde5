"""Figures of a comparison, computed again from the saved logits by other means."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from softaug_lab.cli.app import main
from softaug_lab.data.load import load
from softaug_lab.models.classifier import load_model
from softaug_lab.models.logits import predict_logits

Array = npt.NDArray[np.float64]
DOCUMENT = Path(__file__).parents[2] / "docs" / "results-json.md"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 300 training and 200 test images of the demo."""
    path, demo = tmp_path_factory.mktemp("pictures"), load("demo")
    for part, images, n in (("train", demo.train, 300), ("test", demo.test, 200)):
        for i in range(n):
            place = path / part / str(int(images.labels[i]))
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images.images[i, 0].numpy()).save(place / f"{i}.png")
    return path


@pytest.fixture(scope="module")
def folder(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two arms and two seeds, with a fifth of the training images held out."""
    path = tmp_path_factory.mktemp("compared")
    command = ["compare", str(pictures), "--arms", "standard", "soft", "--seeds", "2"]
    command += ["--epochs", "1", "--held-out", "0.2", "--ood", str(pictures)]
    main([*command, "--run", str(path / "c")])
    return path / "c"


def runs(folder: Path) -> list[tuple[dict[str, Any], dict[str, Array]]]:
    """What results.json says of each run, with its saved logits as float64."""
    results = json.loads((folder / "results.json").read_text())
    found = []
    for run in results["runs"]:
        file = folder / "runs" / f"{run['arm']}-seed-{run['seed']}" / "predictions.npz"
        with np.load(file) as arrays:
            kept = {
                name: arrays[name].astype(np.float64)
                for name in arrays.files
                if not name.startswith("fills_")
            }
        found.append((run["evaluation"], kept))
    assert len(found) == 4
    return found


def softmax(logits: Array) -> Array:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Array = raised / raised.sum(axis=1, keepdims=True)
    return shares


def plain_figures(logits: Array, labels: Array) -> dict[str, float]:
    """Image by image, as the definitions are written."""
    p = softmax(logits)
    correct, confidence, nll, brier, top5 = [], [], [], [], []
    for row, label in zip(p, labels.astype(int), strict=True):
        correct.append(float(row.argmax() == label))
        confidence.append(row.max())
        nll.append(-np.log(row[label]))
        brier.append(sum((row[j] - (j == label)) ** 2 for j in range(len(row))))
        top5.append(float(label not in np.argsort(-row)[:5]))
    ece = 0.0
    for b in range(15):
        low, high = b / 15, (b + 1) / 15
        inside = [i for i, c in enumerate(confidence) if low < c <= high]
        if inside:
            gap = np.mean([correct[i] for i in inside]) - np.mean([confidence[i] for i in inside])
            ece += len(inside) / len(labels) * abs(gap)
    return {
        "top1_error": 1 - float(np.mean(correct)),
        "top5_error": float(np.mean(top5)),
        "nll": float(np.mean(nll)),
        "brier": float(np.mean(brier)),
        "ece": float(ece),
        "calibration_gap": float(np.mean(confidence) - np.mean(correct)),
    }


def test_figures_are_those_of_the_saved_logits(folder: Path) -> None:
    for said, kept in runs(folder):
        for name, value in plain_figures(kept["logits"], kept["labels"]).items():
            assert said[name] == pytest.approx(value, rel=1e-5, abs=1e-7), name
        for kind in ("cut_off", "hidden"):
            for group in ("usual", "unseen"):
                for level in said[kind][group]:
                    views = kept[f"{kind}_{group}_{level['share']}"] / said["temperature"]
                    expected = plain_figures(views, kept["labels"])
                    for name in ("top1_error", "nll", "ece"):
                        assert level[name] == pytest.approx(expected[name], rel=1e-4, abs=1e-6)
        expected = plain_figures(kept["mix_logits"] / said["temperature"], kept["labels"])
        for name in ("top1_error", "nll", "ece"):
            assert said["mix"][name] == pytest.approx(expected[name], rel=1e-4, abs=1e-6)


def test_the_temperature_is_the_best_of_the_held_out_images(folder: Path) -> None:
    for said, kept in runs(folder):
        logits, labels = kept["held_out_logits"], kept["held_out_labels"].astype(int)
        assert 55 <= len(labels) <= 65

        def nll(temperature: float, logits: Array = logits, labels: Array = labels) -> float:
            return -float(np.log(softmax(logits / temperature)[range(len(labels)), labels]).mean())

        best = nll(said["temperature"])
        assert all(best <= nll(said["temperature"] * by) for by in (0.5, 0.99, 1.01, 2))
        scaled = plain_figures(kept["logits"] / said["temperature"], kept["labels"])
        for name in ("nll", "brier", "ece", "calibration_gap"):
            assert said["scaled"][name] == pytest.approx(scaled[name], rel=1e-4, abs=1e-6), name


def test_comparisons_are_differences_of_the_arms(folder: Path) -> None:
    results = json.loads((folder / "results.json").read_text())
    figures = {(run["arm"], run["seed"]): run["evaluation"] for run in results["runs"]}
    for record in results["comparisons"]:
        if record["metric"] in ("top1_error", "nll", "ece"):
            differences = [
                figures[record["arm"], seed][record["metric"]]
                - figures[record["against"], seed][record["metric"]]
                for seed in results["seeds"]
            ]
            assert record["difference"] == pytest.approx(np.mean(differences))


def test_predict_divides_by_the_temperature(
    folder: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = folder / "runs" / "soft-seed-0"
    said = json.loads((run / "evaluation.json").read_text())
    model = load_model(run / "model.safetensors")
    assert model.card.temperature == said["temperature"] != 1
    file = next((pictures / "test").rglob("7.png"))
    image = load("demo").test.images[7]
    capsys.readouterr()
    main(["predict", str(run), str(file)])
    confidence = float(capsys.readouterr().out.split("\t")[2])
    logits = predict_logits(model, image[None]) / said["temperature"]
    assert confidence == pytest.approx(logits.softmax(dim=1).max().item(), abs=1e-4)
    assert torch.isfinite(logits).all()


def test_all_of_results_json_is_documented(folder: Path) -> None:
    """Every key, but the names that users and settings bring."""
    documented = set(re.findall(r"`([^`]+)`", DOCUMENT.read_text()))
    documented |= {f"{name}_{end}" for name in documented for end in ("floor", "interval")}
    own = {"versions", "recipe"}  # of packages, of the recipe's fields

    def keys(value: Any) -> set[str]:
        if isinstance(value, list):
            return {key for item in value for key in keys(item)}
        if not isinstance(value, dict):
            return set()
        inner = {key for name, item in value.items() if name not in own for key in keys(item)}
        return set(value) | inner

    found = keys(json.loads((folder / "results.json").read_text()))
    assert len(found) > 60
    assert found <= documented
