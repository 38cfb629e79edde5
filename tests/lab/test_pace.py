"""A host that runs ahead of its device trains the same model: on a CPU, with the pace of a GPU."""

import json
import math
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support import stripes
from torch import Tensor, nn

from softaug_lab.basics.errors import SoftaugError
from softaug_lab.basics.processes import Processes
from softaug_lab.data.dataset import Data
from softaug_lab.models.classifier import load_model
from softaug_lab.recipes.recipe import Recipe
from softaug_lab.runs.folder import RunFolder, open_run
from softaug_lab.training.augmentation import resolve
from softaug_lab.training.checkpoints import Checkpoints
from softaug_lab.training.loop import fit
from softaug_lab.training.objective import Objective, build_objective
from softaug_lab.training.pace import Pace, pace_of
from softaug_lab.training.prepared import Prepared
from softaug_lab.training.progress import Progress, State
from softaug_lab.training.signals import InterruptedRunError
from softaug_lab.training.step import Step
from softaug_lab.training.update import Update

CPU = Processes(torch.device("cpu"))
AHEAD = Pace(lag=3, block=4, every_epoch=False)
QUICK = Recipe(epochs=2, batch_size=16, precision="fp32")


@pytest.fixture(scope="module")
def data() -> Data:
    """70 images: the last batch of an epoch is smaller, and no block is the last one's size."""
    return Data("stripes", ("rows", "columns", "checks"), stripes(70, 0), stripes(30, 1))


def ignore(_: Progress) -> None:
    pass


def trained(
    recipe: Recipe, data: Data, folder: Path, pace: Pace, watch: Any = ignore, **options: Any
) -> RunFolder:
    run = open_run(folder, recipe, data, {}, resume=False)
    fit(recipe, data, run, CPU, watch, pace=pace, **options)
    return run


def weights(run: RunFolder) -> dict[str, Tensor]:
    file = run.model_file if run.model_file.exists() else run.backbone_file
    return load_model(file).state_dict()


def log(run: RunFolder) -> list[dict[str, Any]]:
    timed = ("seconds", "images_per_second")
    return [{k: v for k, v in epoch.items() if k not in timed} for epoch in run.history()]


def assert_alike(ours: RunFolder, others: RunFolder) -> None:
    theirs = weights(others)
    for name, value in weights(ours).items():
        assert torch.equal(value, theirs[name]), name
    assert log(ours) == log(others)


ARMS = (
    "standard-smoothed", "auto", "soft-both", "soft-weight@crop(0.3)", "cutmix", "online-smoothed",
    "trivialaugment", "soft@erase(0.5, fill=noise)", "simsiam-soft", "simsiam-harsh",
)  # fmt: skip


@pytest.mark.parametrize("arm", ARMS)
def test_blocks_and_late_reports_change_nothing(arm: str, data: Data, tmp_path: Path) -> None:
    recipe = resolve(replace(QUICK, arm=arm, end_epochs=0 if "simsiam" in arm else 1), data)
    seen: dict[str, list[tuple[int, int, float]]] = {}
    runs = []
    for name, pace in (("at once", Pace()), ("ahead", AHEAD)):
        told = seen.setdefault(name, [])

        def watch(progress: Progress, told: list[tuple[int, int, float]] = told) -> None:
            told.append((progress.step, progress.epoch, progress.loss))

        runs.append(trained(recipe, data, tmp_path / name, pace, watch))
    assert [step for step, _, _ in seen["ahead"]] == list(range(1, 11))
    if "simsiam" in arm:  # its last bits differed in one of a dozen runs, with the same draws
        losses = ([loss for _, _, loss in told] for told in seen.values())
        torch.testing.assert_close(*map(torch.tensor, losses), rtol=1e-3, atol=1e-4)
        return
    assert seen["at once"] == seen["ahead"]
    assert_alike(*runs)


class Spoilt(Step):
    """Steps whose loss (2, 7) or gradients (4) are not finite."""

    def gradients(self, prepared: Prepared) -> tuple[Tensor, Tensor]:
        outputs, loss = super().gradients(prepared)
        if prepared.index == 4:
            for p in self.model.parameters():
                p.grad = torch.full_like(p, math.inf)
        if prepared.index in (0, 2, 7):
            for p in self.model.parameters():
                p.grad = torch.full_like(p, math.nan)
            loss = loss * math.nan
        return outputs, loss


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_steps_are_left_out_alike(optimizer: Any, data: Data, tmp_path: Path) -> None:
    """The first step of all too, before there are momenta."""
    recipe = replace(QUICK, arm="online-smoothed", skip_nonfinite=4, optimizer=optimizer, lr=1e-3)
    runs = [
        trained(recipe, data, tmp_path / str(pace.lag), pace, make_step=Spoilt)
        for pace in (Pace(), AHEAD)
    ]
    assert_alike(*runs)
    assert [epoch["skipped_steps"] for epoch in log(runs[0])] == [3, 4]
    assert all(value.isfinite().all() for value in weights(runs[1]).values())


def test_a_late_host_finds_the_weights_of_before_the_fault(data: Data, tmp_path: Path) -> None:
    """It hears of step 3 at step 6; by then steps 3 to 6 were left out on the device."""
    recipe, parameters = replace(QUICK, skip_nonfinite=1), []
    for name, pace in (("at once", Pace()), ("ahead", AHEAD)):
        objective: Objective = build_objective(recipe, data, CPU)
        with pytest.raises(SoftaugError, match=r"loss is nan at step 3 of 10 .*: training image"):
            trained(recipe, data, tmp_path / name, pace, objective=objective, make_step=Spoilt)
        parameters.append([p.detach().clone() for p in objective.model.parameters()])
    assert all(map(torch.equal, *parameters))


@pytest.mark.parametrize("stop_after", [1, 2, 4, 6])
def test_an_interrupted_run_goes_on(stop_after: int, data: Data, tmp_path: Path) -> None:
    whole = trained(QUICK, data, tmp_path / "whole", Pace())

    def interrupt(progress: Progress) -> None:
        if progress.step == stop_after:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(InterruptedRunError, match=r"after step \d+ of 10, with a checkpoint"):
        trained(QUICK, data, tmp_path / "cut", AHEAD, interrupt)
    run = open_run(tmp_path / "cut", QUICK, data, {}, resume=True)
    assert run.checkpoint_files[0].exists()
    fit(QUICK, data, run, CPU, ignore, pace=AHEAD)
    assert_alike(run, whole)


@pytest.mark.parametrize("pace", [Pace(), AHEAD], ids=["cpu", "gpu"])
def test_a_signal_in_the_last_steps_is_heard(pace: Pace, data: Data, tmp_path: Path) -> None:
    """No step follows whose sums could carry it to the other processes."""

    def interrupt(progress: Progress) -> None:
        if progress.step == 10:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(InterruptedRunError, match="after step 10 of 10, with a checkpoint"):
        trained(QUICK, data, tmp_path / "cut", pace, interrupt)
    run = open_run(tmp_path / "cut", QUICK, data, {}, resume=True)
    fit(QUICK, data, run, CPU, ignore, pace=pace)
    assert_alike(run, trained(QUICK, data, tmp_path / "whole", Pace()))


def test_a_checkpoint_is_of_the_steps_that_were_taken(data: Data, tmp_path: Path) -> None:
    """Killed at any report, a run that saves whenever it can ends as an undisturbed one."""

    class KilledError(Exception):
        pass

    recipe = replace(QUICK, arm="online-smoothed", epochs=3)
    whole, often = trained(recipe, data, tmp_path / "whole", Pace()), replace(AHEAD, seconds=0)
    for stop_after in (2, 6, 9, 13):

        def kill(progress: Progress, stop_after: int = stop_after) -> None:
            if progress.step > stop_after:
                raise KilledError

        with pytest.raises(KilledError):
            trained(recipe, data, tmp_path / str(stop_after), often, kill)
        run = open_run(tmp_path / str(stop_after), recipe, data, {}, resume=True)
        fit(recipe, data, run, CPU, ignore, pace=often)
        assert_alike(run, whole)


def test_checkpoints_by_time_alone(data: Data, tmp_path: Path) -> None:
    """No checkpoint ends an epoch, except the last one; the log is written with it."""
    found = []

    def watch(progress: Progress) -> None:
        run = RunFolder(tmp_path / "run")
        found.append((run.checkpoint_files[0].exists(), run.history_file.exists()))
        del progress

    run = trained(QUICK, data, tmp_path / "run", Pace(every_epoch=False), watch)
    assert found == [(False, False)] * 10
    assert run.checkpoint_files[0].exists()
    assert len(run.history_file.read_text().splitlines()) == 2
    assert json.loads(run.history_file.read_text().splitlines()[1])["epoch"] == 2


@pytest.mark.parametrize(
    ("seconds", "costs", "interval"),
    [
        (60, (1.0, 1.0), 60),
        (60, (3.0, 3.0), 60),
        (60, (12.0, 13.0), 240),
        (300, (12.0, 12.0), 300),
        (60, (1.0, 300.0), 60),  # one slow write changes nothing
        (0, (12.0, 12.0), 0),
    ],
)
def test_slow_checkpoints_are_rarer(
    seconds: float,
    costs: tuple[float, float],
    interval: float,
    data: Data,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They take a twentieth of the time at most."""
    now, writes = [0.0], iter(costs)
    monkeypatch.setattr("softaug_lab.training.checkpoints.time.perf_counter", lambda: now[0])

    def write(*_: object, **__: object) -> None:
        now[0] += next(writes)

    monkeypatch.setattr(RunFolder, "save_checkpoint", write)
    objective = build_objective(QUICK, data, CPU)
    step = Step(QUICK, objective, CPU)
    run = open_run(tmp_path, QUICK, data, {}, resume=False)
    pace = Pace(seconds=seconds)
    checkpoints = Checkpoints(run, objective, step, objective.optimizer(step.model), pace)
    for _ in costs:
        checkpoints.save(State(), [])
    now[0] += interval
    assert not checkpoints.due
    now[0] += 0.1
    assert checkpoints.due


def test_a_broken_checkpoint_does_not_replace_a_whole_one(data: Data, tmp_path: Path) -> None:
    """A disk may break the newest again and again, after each first checkpoint of a process."""
    objective = build_objective(QUICK, data, CPU)
    step = Step(QUICK, objective, CPU)
    run = open_run(tmp_path, QUICK, data, {}, resume=False)

    def begin() -> tuple[Checkpoints, int]:
        checkpoints = Checkpoints(run, objective, step, objective.optimizer(step.model), Pace())
        return checkpoints, checkpoints.resume()[0].position

    def cut_short() -> None:
        newest = run.checkpoint_files[0]
        newest.write_bytes(newest.read_bytes()[:1000])

    checkpoints, _ = begin()
    for position in (1, 2):
        checkpoints.save(State(position=position), [])
    for _ in range(3):
        cut_short()
        checkpoints, position = begin()
        assert position == 1
        checkpoints.save(State(position=3), [])
    assert begin()[1] == 3
    checkpoints.save(State(position=4), [])  # now 3 is the one before
    cut_short()
    assert begin()[1] == 3


def test_a_gpu_is_run_ahead_of_and_a_cpu_is_not() -> None:
    assert pace_of(torch.device("cpu")) == Pace(lag=0, block=1)
    assert pace_of(torch.device("cuda")).lag > 0


def test_an_optimiser_without_fused_kernels_is_asked_by_the_host() -> None:
    model = nn.Linear(2, 1)
    before = model.weight.detach().clone()
    update = Update(model, torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9), 1, 0)
    for broken, moved in ((True, False), (False, True)):
        update.begin()
        model(torch.ones(1, 2)).sum().backward()
        assert update(torch.tensor(broken)).item() is not broken
        assert torch.equal(model.weight, before) is not moved
