"""Training as a user meets it: it learns, the same seed gives the same run, a kill loses little."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from support import folder, stripes
from torch import Tensor, nn

from softaug import Chain, Crop, Erase, Flip, Hard
from softaug_lab.basics.errors import SoftaugError, UsageError
from softaug_lab.basics.processes import Processes
from softaug_lab.basics.seeds import keyed
from softaug_lab.basics.storage import held
from softaug_lab.cli.app import main
from softaug_lab.data.dataset import Data, ImageSet
from softaug_lab.experiments.run_one import run_one
from softaug_lab.models.classifier import Classifier, load_model
from softaug_lab.recipes.arms import ARMS
from softaug_lab.recipes.recipe import Recipe
from softaug_lab.runs.folder import RunFolder, open_run
from softaug_lab.training.augmentation import (
    build_arm,
    build_end_phase,
    mean_confidence,
    resolve,
)
from softaug_lab.training.batches import MemoryBatches
from softaug_lab.training.faults import out_of_memory
from softaug_lab.training.initial import initial_model
from softaug_lab.training.loop import fit
from softaug_lab.training.objective import Objective
from softaug_lab.training.pace import Pace
from softaug_lab.training.prepared import Prepared
from softaug_lab.training.progress import Progress
from softaug_lab.training.schedule import Schedule
from softaug_lab.training.signals import InterruptedRunError, caught_signals
from softaug_lab.training.step import Step
from softaug_lab.training.supervised import build_supervised

CPU = Processes(torch.device("cpu"))
QUICK = Recipe(epochs=2, batch_size=16, precision="fp32")


@pytest.fixture(scope="module")
def data() -> Data:
    return Data("stripes", ("rows", "columns", "checks"), stripes(70, 0), stripes(30, 1))


def ignore(progress: Progress) -> None:
    del progress


def trained(recipe: Recipe, data: Data, folder: Path, **options: Any) -> dict[str, torch.Tensor]:
    run = open_run(folder, recipe, data, {}, resume=False)
    fit(recipe, data, run, CPU, options.pop("watch", ignore), **options)
    return load_model(run.model_file).state_dict()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a | b)


ALIKE = (  # what they do, others do too
    "auto-hard", "auto-constant", "standard", "harsh", "harsh-constant", "soft", "soft-weight",
    "soft-smoothed", "cutout", "randaugment", "ensemble", "simsiam", "simsiam-harsh",
    "ddu", "sngp", "duq",  # trained in test_heads
)  # fmt: skip


@pytest.mark.parametrize(
    "arm", [pytest.param(a, marks=pytest.mark.slow if a in ALIKE else ()) for a in ARMS]
)
def test_every_arm_learns(arm: str, data: Data, tmp_path: Path) -> None:
    recipe = resolve(replace(QUICK, arm=arm, sigma=0.1, epochs=12), data)
    run = open_run(tmp_path / "run", recipe, data, {}, resume=False)
    record = run_one(recipe, data, run, CPU, ignore)
    assert record.evaluation["top1_error"] < 0.4  # chance is 0.67
    assert [epoch["epoch"] for epoch in record.history] == list(range(1, 13))


def test_arms_of_any_augmentation_share_it() -> None:
    """Hard labels, one confidence for all at the soft arm's mean, and the visibility's own."""
    recipe = replace(QUICK, augment="crop(0.2)+erase((0.1, 0.5))")
    arms = {
        name: build_arm(replace(recipe, arm=name), 3, 12, 12)
        for name in ("harsh", "harsh-constant", "soft", "soft@erase(0.5)")
    }
    assert arms["harsh"].transform == arms["soft"].transform == arms["harsh-constant"].transform
    assert "area=0.5" in repr(arms["soft@erase(0.5)"].transform)
    images = torch.zeros(20_000, 1, 12, 12, dtype=torch.uint8)
    labels = torch.zeros(20_000, dtype=torch.int64)
    kept = {}
    for name, augment in arms.items():
        drawn = augment.transform.draw(20_000, 12, 12, torch.Generator().manual_seed(9))
        kept[name] = augment(images, labels, drawn=drawn)[1][:, 0]
    assert kept["harsh"].min().item() == 1
    assert kept["harsh-constant"].std().item() < 1e-6
    assert kept["soft"].std().item() > 0.05
    means = [kept[name].mean().item() for name in ("harsh-constant", "soft")]
    assert means[0] == pytest.approx(means[1], abs=0.005)


def test_same_seed_same_run(data: Data, tmp_path: Path) -> None:
    first = trained(QUICK, data, tmp_path / "a")
    assert same(first, trained(QUICK, data, tmp_path / "b"))
    assert not same(first, trained(replace(QUICK, seed=1), data, tmp_path / "c"))


class Noted(nn.Module):
    """A network that notes a random number in each pass, as dropout would draw it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.drawn = inner, list[float]()

    def forward(self, images: Tensor) -> Tensor:
        self.drawn.append(torch.rand(()).item())
        return cast(Tensor, self.inner(images))


def test_dropout_is_keyed_by_seed_and_step(data: Data, tmp_path: Path) -> None:
    draws = []
    for number, seed in enumerate((0, 0, 1)):
        torch.manual_seed(number)  # whatever was drawn before
        recipe = replace(QUICK, seed=seed)
        objective = build_supervised(recipe, data, CPU)
        noted = objective.model.network = Noted(objective.model.network)
        run = open_run(tmp_path / str(number), recipe, data, {}, resume=False)
        fit(recipe, data, run, CPU, ignore, objective=objective)
        draws.append(noted.drawn)
    assert len(set(draws[0])) == len(draws[0]) == 10
    assert draws[0] == draws[1]
    assert not set(draws[0]) & set(draws[2])


def test_an_epoch_without_a_step_is_refused(data: Data) -> None:
    """Batch norm needs two images in each process."""
    few = ImageSet(data.train.images[:3], data.train.labels[:3])
    two = Processes(torch.device("cpu"), count=2)
    with pytest.raises(UsageError, match="3 training images: too few for a step"):
        MemoryBatches(few, 16, 0, two)
    with pytest.raises(UsageError, match="batch size must be at least 4, two images for each"):
        MemoryBatches(data.train, 3, 0, two)


def test_every_epoch_has_an_order_and_draws_of_its_own(data: Data) -> None:
    """Both depend on seed and epoch alone, not on the batch size."""

    def epoch(number: int, batch_size: int = 16) -> tuple[list[str], list[float]]:
        augment = build_arm(QUICK, 3, 12, 12)
        batches = MemoryBatches(data.train, batch_size, 0, CPU).epoch(number, augment.transform, 0)
        names, shifts = list[str](), list[float]()
        for batch in batches:
            names += batch.names
            shifts += batch.drawn["1"]["tx"].tolist()
        return names, shifts

    (names, shifts), (later_names, later_shifts) = epoch(0), epoch(1)
    assert sorted(names) == sorted(later_names)
    assert names != later_names
    by_name = dict(zip(names, shifts, strict=True))
    later = dict(zip(later_names, later_shifts, strict=True))
    assert by_name != later
    assert epoch(0, batch_size=7) == (names, shifts)


def test_fills_show_other_training_images_whatever_the_batches_are(data: Data) -> None:
    """Keyed by seed, epoch and image: for any batch size, any process, and after a resume."""
    chain = Chain([Crop(0.5, fill="mixed"), Hard(Erase(0.5, fill="other")), Flip()])
    n = len(data.train)

    def shown(batch_size: int, processes: int = 1, done: int = 0) -> dict[str, Tensor]:
        images: dict[str, Tensor] = {}
        for rank in range(processes):
            share = Processes(torch.device("cpu"), rank=rank, count=processes)
            for batch in MemoryBatches(data.train, batch_size, 0, share).epoch(1, chain, done):
                out = chain.apply(batch.images, None, batch.drawn)[0]
                images |= dict(zip(batch.names, out, strict=True))
        return images

    whole = shown(16)
    assert len(whole) == n
    for other in (shown(7), shown(16, processes=2), shown(16, done=2)):
        assert other
        assert all(torch.equal(image, whole[name]) for name, image in other.items())
    # The donors are those of the epoch's draws.
    drawn = chain.draw(n, 12, 12, keyed(0, 1, "augment"))
    for batch in MemoryBatches(data.train, 16, 0, CPU).epoch(1, chain, 0):
        place = torch.tensor([int(name.split()[-1]) for name in batch.names])
        for step in ("0", "1"):
            index = (place + 1 + drawn[step]["donor"][place] % (n - 1)) % n
            assert not (index == place).any()
            assert torch.equal(batch.drawn[step]["others"], data.train.images[index])
        assert "others" not in batch.drawn["2"]


def test_an_epochs_loss_is_the_mean_over_its_images(data: Data, tmp_path: Path) -> None:
    seen: list[Progress] = []
    trained(QUICK, data, tmp_path / "run", watch=seen.append)
    images = [16, 16, 16, 16, 6]
    for epoch, record in enumerate(RunFolder(tmp_path / "run").history()):
        losses = [progress.loss for progress in seen[5 * epoch : 5 * epoch + 5]]
        mean = sum(n * loss for n, loss in zip(images, losses, strict=True)) / 70
        assert record["loss"] == pytest.approx(mean, rel=1e-6)


def test_arms_share_flips() -> None:
    flips = []
    for arm in ("standard", "soft"):
        augment = build_arm(replace(QUICK, arm=arm), 3, 12, 12)
        drawn = augment.transform.draw(50, 12, 12, torch.Generator().manual_seed(3))
        flips.append(drawn["0"]["flip"])
    assert torch.equal(*flips)


def test_weights_are_those_of_a_plain_loop(data: Data, tmp_path: Path) -> None:
    """One step without augmentation, worked by hand with torch's own optimiser."""
    recipe = replace(
        QUICK, arm="none", flip=False, epochs=1, batch_size=70, warmup_epochs=0, weight_decay=0.0
    )
    seen: list[Progress] = []
    after = trained(recipe, data, tmp_path / "a", watch=seen.append)
    model = initial_model(recipe, data).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    loss = F.cross_entropy(model(data.train.images), data.train.labels)
    loss.backward()
    optimizer.step()
    assert seen[0].loss == pytest.approx(loss.item(), rel=1e-5)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(after[name], value, rtol=1e-4, atol=1e-5)


def test_the_learning_rate_warms_up_and_ends_at_zero() -> None:
    schedule = Schedule(replace(QUICK, epochs=4, warmup_epochs=1), peak=0.8, steps_per_epoch=4)
    rates = [schedule.learning_rate(step) for step in range(16)]
    assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rates[4] == pytest.approx(0.8)  # the cosine begins at its top
    assert rates[10] == pytest.approx(0.4)
    assert schedule.learning_rate(16) == pytest.approx(0.0)
    longest = Schedule(replace(QUICK, epochs=4, warmup_epochs=9), peak=0.8, steps_per_epoch=4)
    assert longest.learning_rate(7) == pytest.approx(0.8)  # half of all steps
    assert longest.learning_rate(8) == pytest.approx(0.8)


def test_the_network_is_compiled_where_that_is_asked(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[torch.nn.Module] = []
    monkeypatch.setattr(
        torch.nn.Module,
        "compile",
        lambda self, dynamic: compiled.append(self) if not dynamic else None,
    )
    trained(QUICK, data, tmp_path / "eager")
    assert not compiled
    trained(replace(QUICK, compile=True), data, tmp_path / "compiled")
    assert [type(model) for model in compiled] == [Classifier]


@pytest.mark.slow
def test_a_compiled_network_learns_the_same(data: Data, tmp_path: Path) -> None:
    eager, compiled = (
        trained(replace(QUICK, compile=one), data, tmp_path / str(one)) for one in (False, True)
    )
    assert eager.keys() == compiled.keys()  # the file does not tell how it was trained
    for name, value in eager.items():
        torch.testing.assert_close(compiled[name], value, atol=1e-3, rtol=1e-2)


def test_a_third_interrupt_kills() -> None:
    before = signal.getsignal(signal.SIGINT)
    with caught_signals() as caught:
        signal.raise_signal(signal.SIGINT)
        assert caught == [signal.SIGINT]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stop_after", [1, 3, 4, 7])
def test_interrupted_and_resumed_ends_with_the_same_weights(
    stop_after: int, number: signal.Signals, data: Data, tmp_path: Path
) -> None:
    whole = trained(QUICK, data, tmp_path / "whole")

    def interrupt(progress: Progress) -> None:
        if progress.step == stop_after:
            os.kill(os.getpid(), number)

    with pytest.raises(InterruptedRunError, match="with a checkpoint") as stopped:
        trained(QUICK, data, tmp_path / "cut", watch=interrupt)
    assert stopped.value.exit_code == 128 + number
    run = open_run(tmp_path / "cut", QUICK, data, {}, resume=True)
    steps: list[int] = []
    fit(QUICK, data, run, CPU, lambda progress: steps.append(progress.step))
    assert steps[0] == stop_after + 2  # it stops after the step that the signal came in
    assert same(whole, load_model(run.model_file).state_dict())
    history = (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()
    again = (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()
    for a, b in zip(history, again, strict=True):
        assert json.loads(a)["loss"] == pytest.approx(json.loads(b)["loss"], rel=1e-12)
        assert json.loads(b)["images_per_second"] > 0


@pytest.mark.parametrize("name", ["train", "test"])
def test_corrected_labels_are_other_data(name: str, data: Data, tmp_path: Path) -> None:
    """Though counts, images and the sum of all labels stay as they were."""
    run = open_run(tmp_path, QUICK, data, {}, resume=False)
    run.checkpoint_files[0].touch()
    open_run(tmp_path, QUICK, data, {}, resume=True)
    part = getattr(data, name)
    labels = part.labels.clone()
    labels[:2] = labels[:2].flip(0)
    assert labels[0] != part.labels[0]
    mended = replace(data, **{name: replace(part, labels=labels)})
    with pytest.raises(UsageError, match=rf"made with another data: {name}_content was '\w{{16}}'"):
        open_run(tmp_path, QUICK, mended, {}, resume=True)


def test_a_checkpoint_within_an_epoch_is_of_the_step_that_was_taken(
    data: Data, tmp_path: Path
) -> None:
    """Killed after any step, a run that saves at every step ends with the same weights and log."""

    class KilledError(Exception):
        pass

    recipe = replace(QUICK, arm="online-smoothed", epochs=3, end_epochs=1)
    whole = trained(recipe, data, tmp_path / "whole")
    log = RunFolder(tmp_path / "whole").history()
    timed = ("seconds", "images_per_second")
    for stop_after in (5, 12):

        def kill(progress: Progress, stop_after: int = stop_after) -> None:
            if progress.step > stop_after:
                raise KilledError

        folder = tmp_path / str(stop_after)
        with pytest.raises(KilledError):
            trained(recipe, data, folder, watch=kill, pace=Pace(seconds=0))
        run, steps = open_run(folder, recipe, data, {}, resume=True), list[Progress]()
        fit(recipe, data, run, CPU, steps.append)
        assert [progress.step for progress in steps] == list(range(stop_after + 1, 16))
        assert same(whole, load_model(run.model_file).state_dict())
        for ours, expected in zip(run.history(), log, strict=True):
            assert {k: v for k, v in ours.items() if k not in timed} == {
                k: v for k, v in expected.items() if k not in timed
            }


@pytest.mark.slow
def test_killed_process_loses_at_most_an_epoch(tmp_path: Path) -> None:
    """SIGKILL in the middle of a real command; --resume ends with the weights of a whole run."""
    folder(tmp_path / "data" / "train", range(200))
    folder(tmp_path / "data" / "test", range(200, 212))
    command = [sys.executable, "-m", "softaug", "train", str(tmp_path / "data")]
    command += ["--epochs", "12", "--batch-size", "20", "--precision", "fp32"]
    subprocess.run([*command, "--run", str(tmp_path / "whole")], check=True, capture_output=True)
    killed = subprocess.Popen(
        [*command, "--run", str(tmp_path / "cut")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (tmp_path / "cut" / "checkpoint.pt").exists() and killed.poll() is None:
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    assert not (tmp_path / "cut" / "evaluation.json").exists()
    with pytest.raises(SystemExit) as refused:
        main([*command[3:], "--run", str(tmp_path / "cut")])
    assert refused.value.code == 2
    resume = [*command, "--run", str(tmp_path / "cut"), "--resume"]
    subprocess.run(resume, check=True, capture_output=True)
    whole = load_model(tmp_path / "whole" / "model.safetensors").state_dict()
    assert same(whole, load_model(tmp_path / "cut" / "model.safetensors").state_dict())
    assert not (tmp_path / "cut" / "checkpoint.pt").exists()


def test_one_process_holds_a_run(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("softaug_lab.runs.folder.PATIENCE", 0.1)
    run = open_run(tmp_path / "run", QUICK, data, {}, resume=False)
    held_by: list[str] = []

    def intrude(_: Progress) -> None:
        if held_by:
            return
        for again in (
            lambda: run_one(QUICK, data, run, CPU, ignore),
            lambda: open_run(run.folder, QUICK, data, {}, resume=True),
        ):
            with pytest.raises(UsageError, match=r"process \d+ is at work here") as refused:
                again()
            held_by.append(str(refused.value))

    run_one(QUICK, data, run, CPU, intrude)
    assert len(held_by) == 2
    assert f"process {os.getpid()} " in held_by[0]
    # Whoever comes later finds it free and finished.
    assert run_one(QUICK, data, open_run(run.folder, QUICK, data, {}, True), CPU, ignore)


def test_who_is_patient_gets_a_folder_when_it_is_free(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(UsageError, match="is at work here"), held(tmp_path, 0.2):
        pass
    entered, left = threading.Event(), []

    def hold() -> None:
        with held(tmp_path):
            entered.set()
            time.sleep(0.3)
            left.append(True)

    other = threading.Thread(target=hold)
    other.start()
    entered.wait()
    with held(tmp_path, patience=60):
        assert left
    other.join()


def test_leftovers_of_a_killed_process_are_no_obstacle(data: Data, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    left = [folder / f".{name}.k3_x9a2b" for name in ("recipe.json", "metrics.jsonl")]
    for file in left:
        file.write_text("{")
    run = open_run(folder, QUICK, data, {}, resume=False)
    assert {path.name for path in folder.iterdir()} == {"recipe.json", "training-keys.npy"}
    run.save_history([])
    (folder / ".checkpoint.pt.abcdefgh").write_text("half of one")
    open_run(folder, QUICK, data, {}, resume=True)
    assert not list(folder.glob(".*"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ".netrc").write_text("somebody's")
    with pytest.raises(UsageError, match="exists and is no run folder"):
        open_run(tmp_path / "other", QUICK, data, {}, resume=False)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", r"metrics.jsonl: has 0 of the 1 epochs that the checkpoint has; put it back, or"),
        ('{"epoch": 1', r"metrics.jsonl: not readable \("),
        ("[1]\n", r"metrics.jsonl: expected an object on each line"),
    ],
)
def test_a_history_that_was_lost_is_no_empty_one(
    lines: str, message: str, data: Data, tmp_path: Path
) -> None:
    def stop(progress: Progress) -> None:
        if progress.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(QUICK, data, tmp_path / "run", watch=stop)
    run = open_run(tmp_path / "run", QUICK, data, {}, resume=True)
    run.history_file.write_text(lines)
    with pytest.raises(SoftaugError, match=message):
        fit(QUICK, data, run, CPU, ignore)


def test_full_disk_keeps_the_old_checkpoint(data: Data, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    run = open_run(tmp_path / "run", QUICK, data, {}, resume=False)
    run.save_checkpoint({"step": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(SoftaugError, match=r"checkpoint\.pt: could not be written"):
            run.save_checkpoint({"step": 2, "model": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert run.load_checkpoint() == {"step": 1}
    assert {*run.folder.iterdir()} == {
        run.folder / "recipe.json", run.training_keys_file, run.checkpoint_files[0]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-100], "not a whole checkpoint"),
        (lambda content: content[:500] + b"?" + content[501:], "not a whole checkpoint"),
        (lambda content: content[60:], "no checkpoint of softaug"),
        (lambda _: b"", "no checkpoint of softaug"),
    ],
)
def test_a_broken_checkpoint_is_passed_over_for_the_one_before(
    damage: Any, message: str, data: Data, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = open_run(tmp_path / "run", QUICK, data, {}, resume=False)
    for step in (1, 2, 3):
        run.save_checkpoint({"step": step, "model": torch.zeros(1000)})
    last, before = run.checkpoint_files
    last.write_bytes(damage(last.read_bytes()))
    state = run.load_checkpoint()
    assert state is not None
    assert state["step"] == 2
    assert message in caplog.text
    assert "going on from the one before" in caplog.text
    before.write_bytes(b"?")
    with pytest.raises(SoftaugError, match=message):
        run.load_checkpoint()


class Trap:
    """A pickle of this makes a folder when it is read by one who trusts it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.folder),))


def test_no_pickle_of_a_checkpoint_is_run(data: Data, tmp_path: Path) -> None:
    """Not even in a file with our mark and the right digest."""
    run = open_run(tmp_path / "run", QUICK, data, {}, resume=False)
    run.save_checkpoint({"step": Trap(tmp_path / "sprung")})
    with pytest.raises(SoftaugError, match="not a checkpoint of tensors"):
        run.load_checkpoint()
    assert not (tmp_path / "sprung").exists()


def test_resume_refuses_another_recipe_or_other_data(data: Data, tmp_path: Path) -> None:
    open_run(tmp_path / "run", QUICK, data, {}, resume=False).save_checkpoint({"step": 1})
    with pytest.raises(UsageError, match=r"lr was 0\.1, now 0\.2"):
        open_run(tmp_path / "run", replace(QUICK, lr=0.2), data, {}, resume=True)
    other = replace(data, train=stripes(71, 0))
    with pytest.raises(UsageError, match="train_images was 70, now 71"):
        open_run(tmp_path / "run", QUICK, other, {}, resume=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="no run folder"):
        open_run(tmp_path / "full", QUICK, data, {}, resume=True)


def test_loss_that_is_not_finite_stops_the_run(data: Data, tmp_path: Path) -> None:
    with pytest.raises(SoftaugError, match=r"loss is (nan|inf) at step"):
        trained(replace(QUICK, lr=1e30, warmup_epochs=0), data, tmp_path / "run")


class Flaky(nn.Module):
    """A network that fails as it is told to."""

    def __init__(self, inner: nn.Module, fault: Callable[[int, torch.Tensor], torch.Tensor]):
        super().__init__()
        self.inner, self.fault, self.calls = inner, fault, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        images = self.fault(self.calls, images)
        return cast(torch.Tensor, self.inner(images))


def with_fault(
    recipe: Recipe, data: Data, fault: Callable[[int, torch.Tensor], torch.Tensor]
) -> Objective:
    """The recipe's objective, with a model that fails as it is told to."""
    objective = build_supervised(recipe, data, CPU)
    objective.model.network = Flaky(objective.model.network, fault)
    return objective


def test_steps_that_are_not_finite_are_left_out(
    data: Data, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As many as are allowed; statistics of batch norm do not keep what they saw."""

    def fault(call: int, images: torch.Tensor) -> torch.Tensor:
        return images * math.nan if call in (2, 7) else images

    recipe = replace(QUICK, skip_nonfinite=2)
    run = open_run(tmp_path / "run", recipe, data, {}, resume=False)
    fit(recipe, data, run, CPU, ignore, objective=with_fault(recipe, data, fault))
    assert [epoch["skipped_steps"] for epoch in run.history()] == [1, 2]
    assert all(math.isfinite(epoch["loss"]) for epoch in run.history())
    assert all(w.isfinite().all() for w in load_file(run.model_file).values())
    assert re.search(
        r"at step 2 of 10 \(epoch 1\): training image \d+, .*left out, 1 of 2", caplog.text
    )
    recipe = replace(QUICK, skip_nonfinite=1)
    run = open_run(tmp_path / "less", recipe, data, {}, resume=False)
    with pytest.raises(SoftaugError, match=r"at step 7 of 10 .*checkpoint: .*checkpoint\.pt"):
        fit(recipe, data, run, CPU, ignore, objective=with_fault(recipe, data, fault))


class Overflowing(Step):
    """The gradients of the third step overflow."""

    def gradients(self, prepared: Prepared) -> tuple[Tensor, Tensor]:
        outputs, loss = super().gradients(prepared)
        if prepared.index == 2:
            for p in self.model.parameters():
                p.grad = torch.full_like(p, math.inf)
        return outputs, loss


def test_gradients_that_are_not_finite_move_no_weight(data: Data, tmp_path: Path) -> None:
    """Their loss is finite: without a look at the gradients the next one would not be."""
    with pytest.raises(SoftaugError, match="gradient of the loss is not finite at step 3 of 10"):
        trained(QUICK, data, tmp_path / "run", make_step=Overflowing)
    recipe = replace(QUICK, skip_nonfinite=1)
    weights = trained(recipe, data, tmp_path / "skipped", make_step=Overflowing)
    assert all(value.isfinite().all() for value in weights.values())


def test_out_of_memory_says_what_fits(data: Data, tmp_path: Path) -> None:
    def fault(_: int, images: torch.Tensor) -> torch.Tensor:
        if len(images) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return images

    run = open_run(tmp_path / "run", QUICK, data, {}, resume=False)
    with pytest.raises(SoftaugError, match=r"--accumulate 4 fits, 4 images at once"):
        fit(QUICK, data, run, CPU, ignore, objective=with_fault(QUICK, data, fault))
    recipe = replace(QUICK, accumulate=4)
    in_parts = open_run(tmp_path / "b", recipe, data, {}, resume=False)
    fit(recipe, data, in_parts, CPU, ignore, objective=with_fault(recipe, data, fault))
    assert len(in_parts.history()) == 2


def test_a_compiled_step_that_is_too_large_is_tried_uncompiled() -> None:
    """A compilation for each number of parts would take minutes."""
    compiled: list[int] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        compiled.append(1)
        return graph

    model = torch.nn.Linear(2, 2)
    model.compile(backend=backend, dynamic=False)

    def compute(parts: int) -> None:
        if model(torch.ones(8 // parts, 2)).shape[0] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        compute(1)
    error = out_of_memory(replace(QUICK, batch_size=8), CPU, compute)
    assert "--accumulate 4 fits" in str(error)
    assert len(compiled) == 1


def test_a_run_records_the_device_it_trains_on(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine with a GPU, `--device cpu` still means the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    for i, (device, name) in enumerate({"cpu": "cpu", "cuda:1": "GPU 1"}.items()):
        run = open_run(tmp_path / str(i), QUICK, data, {}, False, torch.device(device))
        assert run.description()["environment"]["machine"]["device"] == name


def test_parts_of_a_batch_add_up(data: Data, tmp_path: Path) -> None:
    """Without batch norm, the step of a batch in parts is that of the whole."""
    recipe = replace(QUICK, model="test_convnext", lr=0.01)
    larger = [
        ImageSet(part.images.repeat(1, 1, 3, 3), part.labels) for part in (data.train, data.test)
    ]
    data = replace(data, train=larger[0], test=larger[1])
    losses = {}
    for parts in (1, 3):
        seen: list[Progress] = []
        some = replace(recipe, accumulate=parts)
        trained(some, data, tmp_path / str(parts), watch=seen.append)
        losses[parts] = [progress.loss for progress in seen]
    assert losses[3] == pytest.approx(losses[1], rel=1e-4)


def test_the_end_phase_is_the_same_in_every_arm(data: Data, tmp_path: Path) -> None:
    """In its last epochs an arm sees whole images, flipped alike, with hard labels."""
    for arm in ("standard", "soft", "harsh-constant", "soft-weight", "standard-smoothed"):
        recipe = replace(QUICK, arm=arm, epochs=3, end_epochs=1)
        augment = build_end_phase(recipe, 3)
        images, targets = augment(data.train.images, data.train.labels)
        least = 0.9 + 0.1 / 3 if arm == "standard-smoothed" else 1.0
        assert targets.max(dim=1).values.tolist() == pytest.approx([least] * 70)
        whole = [data.train.images, data.train.images.flip(-1)]
        same_image = torch.stack([(images == one).flatten(1).all(dim=1) for one in whole])
        assert same_image.any(dim=0).all()
    recipe, least_sure = replace(recipe, arm="soft"), []
    objective = build_supervised(recipe, data, CPU)
    loss = objective.loss

    def spy(outputs: Tensor, targets: Tensor) -> Tensor:
        least_sure.append(targets.max(dim=1).values.min().item())
        return loss(outputs, targets)

    objective.loss = spy
    run = open_run(tmp_path / "run", recipe, data, {}, resume=False)
    fit(recipe, data, run, CPU, ignore, objective=objective)
    assert max(least_sure[:10]) < 1
    assert least_sure[10:] == [1.0] * 5
    assert [epoch["end_phase"] for epoch in run.history()] == [False, False, True]


@pytest.mark.parametrize("fault", ["removed", "replaced"])
def test_a_run_folder_that_vanishes_is_named(fault: str, data: Data, tmp_path: Path) -> None:
    run = open_run(tmp_path / "run", QUICK, data, {}, resume=False)

    def watch(progress: Progress) -> None:
        if progress.step == 6 and fault == "removed":
            shutil.rmtree(run.folder)
        elif progress.step == 6:
            shutil.move(run.folder, tmp_path / "moved")
            run.folder.write_text("")

    with pytest.raises(SoftaugError, match=r"could not be written \(No(t a directory| such file)"):
        fit(QUICK, data, run, CPU, watch)
    if fault == "replaced":
        assert RunFolder(tmp_path / "moved").load_checkpoint() is not None


def test_a_lone_last_image_is_left_out(data: Data, tmp_path: Path) -> None:
    """70 images in batches of 23 leave one over, on which batch norm of 1 x 1 px would fail."""
    recipe = replace(QUICK, model="test_resnet", batch_size=23)
    steps: list[Progress] = []
    trained(recipe, data, tmp_path / "run", watch=steps.append)
    assert len(steps) == 2 * 3


def test_a_run_without_work_in_it_is_begun_anew(data: Data, tmp_path: Path) -> None:
    open_run(tmp_path / "run", QUICK, data, {}, resume=False)
    other = replace(QUICK, lr=0.2)
    assert open_run(tmp_path / "run", other, data, {}, resume=False).recipe() == other
    fit(other, data, RunFolder(tmp_path / "run"), CPU, ignore)
    with pytest.raises(UsageError, match="--resume goes on"):
        open_run(tmp_path / "run", other, data, {}, resume=False)


def test_training_error_is_of_the_original_labels(data: Data, tmp_path: Path) -> None:
    """A network that says `rows` always is wrong on two thirds, however soft the targets are."""
    recipe = replace(QUICK, arm="soft", epochs=1, lr=1e-30)
    trained(recipe, data, tmp_path / "run")
    error = RunFolder(tmp_path / "run").history()[0]["train_top1_error"]
    assert 0.3 <= error <= 1.0
    assert round(error * 70) == pytest.approx(error * 70)


def test_pixel_statistics(data: Data) -> None:
    mean, std = data.pixel_statistics
    pixels = data.train.images.double()
    assert mean[0] == pytest.approx(pixels.mean().item())
    assert std[0] == pytest.approx(pixels.std(correction=0).item())


@pytest.mark.parametrize("sigma", [0.0, 0.05, 0.3, 1.0])
def test_mean_confidence_of_the_law_is_that_of_the_draws(sigma: float) -> None:
    from softaug import Crop, PowerCurve, visibility

    crop, curve = Crop(sigma=sigma), PowerCurve(chance=0.1)
    _, seen = crop(torch.zeros(40_000, 1, 10, 14), generator=torch.Generator().manual_seed(0))
    confidence = curve(visibility(seen))
    error = 4 * confidence.std().item() / 200 + 1e-6
    assert mean_confidence(crop, curve, 10, 14) == pytest.approx(
        confidence.mean().item(), abs=error
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arm": "sfot"}, "did you mean soft"),
        ({"arm": "soft@much"}, "unknown transform 'much'"),
        ({"arm": "soft@9.6"}, r"got 9\.6"),
        ({"sigma": -0.1}, r"got -0\.1"),
        ({"augment": "crop(0.3)+erese"}, "at 'erese'"),
        ({"k": 0.0}, r"k must be above 0 and finite, got 0\.0"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"lr": float("nan")}, "lr must be above 0"),
        ({"momentum": 1.0}, "momentum"),
    ],
)
def test_bad_recipes_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Recipe(**changes)
