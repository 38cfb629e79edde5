"""The dry run: what it says of memory and time is true, and it leaves nothing behind."""

import re
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from softaug_lab.basics.machine import keep_freed_memory
from softaug_lab.basics.processes import Processes
from softaug_lab.cli.app import main
from softaug_lab.data.dataset import Data, ImageSet
from softaug_lab.experiments import cost
from softaug_lab.experiments.cost import measure, plan, state_bytes
from softaug_lab.models.card import ModelCard
from softaug_lab.models.classifier import build
from softaug_lab.recipes.recipe import Recipe
from softaug_lab.runs.folder import open_run
from softaug_lab.training.loop import fit
from softaug_lab.training.progress import Progress
from softaug_lab.training.signals import InterruptedRunError

CPU = Processes(torch.device("cpu"))
CLASSES = ("a", "b", "c")


def noise(n: int) -> Data:
    images = torch.randint(0, 256, (n, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    part = ImageSet(images.to(torch.uint8), torch.arange(n) % 3)
    return Data("noise", CLASSES, part, part)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_train_tells_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--recipe", "cifar", "--train-images", "100", "--batch-size", "10"]
    main(["train", "demo", *options, "--dry-run"])
    text = said(capsys)
    assert "model small, 308,074 parameters" in text
    assert "100 training and 2,000 test images of 1 x 28 x 28, 10 classes" in text
    assert "steps 5,000 of 10 images, 10 in each of 500 epochs" in text
    assert "sgd, lr 0.1, half a cosine to 0; epochs of warm-up: 0, at the end" in text
    assert "weights 1.24 MB, gradients 1.23 MB, optimizer 1.23 MB, activations" in text
    assert re.search(r"time, soft-both [\d.]+ \w+: [\d,]+ images/s", text)
    assert not list(tmp_path.iterdir())


def test_compare_tells_the_total(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--train-images", "40", "--batch-size", "20", "--epochs", "1", "--seeds", "2"]
    main(["compare", "demo", *options, "--arms", "none", "soft@crop(0.2)+erase", "--dry-run"])
    text = said(capsys)
    assert "time, none" in text
    assert "evaluation" in text
    assert re.search(r"total [\d.]+ \w+ for 4 runs", text)
    assert not list(tmp_path.iterdir())


def test_pretraining_of_few_steps_is_measured_and_not_probed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--train-images", "40", "--batch-size", "20", "--epochs", "1"]
    main(["pretrain", "demo", *options, "--dry-run"])
    text = said(capsys)
    # 128 features to 512 and 512, by way of 128 to 512: weights, norms with a scale, and a bias.
    heads = 128 * 512 + 2 * 512 + 512 * 512 + 512 * 128 + 2 * 128 + 128 * 512 + 512
    assert f"308,074 parameters; with the heads of pre-training {308_074 + heads:,}" in text
    assert "steps 2 of 20 images" in text
    assert "lr 0.03 for 256 images, half a cosine" in text
    # Without the last layer, which is not trained.
    assert f"gradients {4 * (308_074 - 1290 + heads) / 1e6:.3g} MB" in text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "recipe", [Recipe(), Recipe(momentum=0), Recipe(optimizer="adamw")], ids=["sgd", "0", "adamw"]
)
def test_the_optimizers_state_is_counted(recipe: Recipe, tmp_path: Path) -> None:
    """By the checkpoint of a real run."""
    data, recipe = noise(6), replace(recipe, epochs=1, batch_size=6)
    run = open_run(tmp_path / "run", recipe, data, {}, resume=False)
    fit(recipe, data, run, CPU, lambda _: None)
    state = run.load_checkpoint()
    assert state is not None
    tensors = [v for of in state["optimizer"]["state"].values() for v in of.values()]
    model = build(ModelCard("small", CLASSES, 3, 32, 32), (0.0,), (1.0,))
    weights, gradients, optimizer = state_bytes(recipe, model)
    assert optimizer == sum(v.nbytes for v in tensors if isinstance(v, torch.Tensor))
    assert gradients == 4 * sum(p.numel() for p in model.parameters())
    assert weights == sum(v.nbytes for v in state["model"].values())


def test_activations_grow_with_the_batch() -> None:
    data, peaks = noise(512), []
    for batch in (64, 512):
        cost = measure(Recipe(epochs=3, batch_size=batch, precision="fp32"), data, CPU)
        if cost.peak is None:
            pytest.skip("the peak is not measured on this system")
        peaks.append(cost.peak)
    # At least what the first two norms and convolutions keep: 4 maps of 32 x 16 x 16, in float32.
    assert peaks[1] - peaks[0] > (512 - 64) * 4 * 32 * 16 * 16 * 4


def test_what_is_measured_again_takes_as_much_memory_again() -> None:
    """Freed memory is kept, so that of the first measurement must be returned before the next."""
    keep_freed_memory()
    recipe, data = Recipe(epochs=1, batch_size=128, precision="fp32"), noise(512)
    peaks = [measure(recipe, data, CPU).peak for _ in range(3)]
    if None in peaks:
        pytest.skip("the peak is not measured on this system")
    assert peaks[2] > 128 * 4 * 32 * 16 * 16 * 4  # type: ignore[operator]


def test_the_steps_of_an_ensemble_are_those_of_a_member() -> None:
    recipe, data = Recipe(epochs=2, batch_size=64), noise(256)
    lines = plan(recipe, ["ensemble"], 1, data, CPU)
    assert lines["steps"].startswith("8 of 64 images, 4 in each of 2 epochs")


def test_a_measurement_that_is_stopped_says_that_nothing_was_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(*_: object) -> None:
        raise InterruptedRunError("/tmp/x: stopped after step 3, with a checkpoint", signal.SIGINT)

    monkeypatch.setattr(cost, "fit", stop)
    with pytest.raises(InterruptedRunError, match=r"^stopped while measuring the pace$") as stopped:
        measure(Recipe(), noise(6), CPU)
    assert stopped.value.exit_code == 130


@pytest.mark.slow
def test_the_time_is_that_of_the_run(tmp_path: Path) -> None:
    data, recipe = noise(640), Recipe(epochs=6, batch_size=32)
    cost = measure(recipe, data, CPU)
    assert cost.steps == 120
    run = open_run(tmp_path / "run", recipe, data, {}, resume=False)
    began = time.perf_counter()
    fit(recipe, data, run, CPU, lambda _: None)
    assert 1 / 3 < cost.seconds / (time.perf_counter() - began) < 3


def test_a_run_of_one_step_is_measured() -> None:
    cost = measure(Recipe(epochs=1, batch_size=6), noise(6), CPU)
    assert cost.steps == 1
    assert cost.seconds > 0


@pytest.mark.parametrize(
    ("step", "other", "steps"), [(0.001, 0, 2001), (0.5, 0, 10), (3.0, 0, 4), (0.5, 30, 30)]
)
def test_a_pace_is_of_ten_steps_and_two_seconds(
    step: float, other: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten seconds are enough for slow ones; another process may need `other` steps."""
    now, taken = [0.0], 0

    def fit(recipe: Recipe, *others: Any) -> None:
        nonlocal taken
        del recipe
        for taken in range(1, 10_000):
            now[0] += step
            others[-1](Progress(taken, 10_000, 1, 0.0, 0.0))

    def largest(_: Processes, value: float) -> float:
        return max(value, float(taken < other + cost.WARM_UP))

    monkeypatch.setattr(cost, "fit", fit)
    monkeypatch.setattr(cost, "SECONDS", 2.0)
    monkeypatch.setattr(Processes, "largest", largest)
    monkeypatch.setattr("softaug_lab.experiments.cost.time.perf_counter", lambda: now[0])
    found = measure(Recipe(epochs=1), noise(6), CPU)
    assert found.seconds_per_step == pytest.approx(step)
    assert taken == steps + cost.WARM_UP
