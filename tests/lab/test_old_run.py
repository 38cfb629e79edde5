"""Runs and a model file that softaug wrote before it became two packages (commit e5a6ce1)."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from softaug_lab.cli.app import main
from softaug_lab.models.classifier import load_model

OLD = Path(__file__).parent / "old_run"
# What differs by machine, and what the old version did not write.
UNSTEADY = ("seconds", "images_per_second", "held_out_top1_error", "held_out_nll")
OPTIONS = (
    "--arm soft --sigma 0.2 --model test_efficientnet --epochs 3 --batch-size 8 --precision fp32 "
    "--device cpu --lr 0.01 --held-out 0.2"
)


def make_images(root: Path) -> None:
    """The images that the old runs were trained on: grey rings and stripes of 16 x 16 pixels."""
    y, x = np.mgrid[:16, :16]
    patterns = {"rings": ((x - 8) ** 2 + (y - 8) ** 2) * 3, "stripes": x * 40}
    for part, count, start in (("train", 12, 0), ("test", 4, 11)):
        for name, pattern in patterns.items():
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = ((pattern + 37 * i + start) % 256).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i:02}.png")


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the old runs beside their images, as the working directory."""
    shutil.copytree(OLD, tmp_path / "old")
    make_images(tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "old"


def records(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in UNSTEADY} for line in lines]


def test_an_old_checkpoint_resumes_to_the_weights_of_the_uninterrupted_run(old: Path) -> None:
    main(["train", "tiny", *OPTIONS.split(), "--run", str(old / "interrupted"), "--resume"])
    for got, expected in zip(records(old / "interrupted"), records(old / "finished"), strict=True):
        assert got == pytest.approx(expected, rel=1e-3)
    models = [load_model(old / name / "model.safetensors") for name in ("interrupted", "finished")]
    for got, expected in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


def test_an_old_run_is_evaluated_to_the_same_metrics(old: Path) -> None:
    main(["evaluate", str(old / "finished"), "--json", "now.json"])
    now, then = (
        json.loads(Path(name).read_text()) for name in ("now.json", "old/finished/evaluation.json")
    )
    for name in ("images", "top1_error", "nll", "ece", "brier", "aurc"):
        assert now[name] == pytest.approx(then[name], rel=1e-3), name
    # Views came later; they are after the temperature that the model file keeps.
    assert "mix" not in then
    assert now["mix"]["images"] == then["images"]
    assert now["temperature"] == pytest.approx(then["temperature"])


def test_an_old_model_file_names_its_classes_and_temperature(old: Path) -> None:
    card = load_model(old / "finished" / "model.safetensors").card
    assert card.classes == ("rings", "stripes")
    assert (card.channels, card.height, card.width) == (1, 16, 16)
    assert card.temperature != 1.0


def test_an_old_finished_run_is_evaluated_again_and_not_trained(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = old / "finished"
    before = (run / "model.safetensors").read_bytes()
    history, then = records(run), json.loads((run / "evaluation.json").read_text())
    command = ["train", "tiny", *OPTIONS.split(), "--run", str(run), "--resume"]
    main(command)
    said = capsys.readouterr().err
    assert said.count("evaluated by an earlier version; its model is evaluated again") == 1
    assert "trained, epoch" not in said
    assert (run / "model.safetensors").read_bytes() == before
    assert records(run) == history
    now = json.loads((run / "evaluation.json").read_text())
    for name in ("nll", "ece", "temperature", "top1_error"):
        assert now[name] == pytest.approx(then[name], rel=1e-3), name
    assert now["mix"]["images"] == 8
    assert "occlusion" not in now
    # Once: the next call only reads.
    main(command)
    assert "evaluated again" not in capsys.readouterr().err
