"""Runs side by side in processes of this machine: the same folders, whatever happens to them."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from two_processes import data

from softaug_lab.basics.errors import SoftaugError, UsageError
from softaug_lab.basics.processes import Processes
from softaug_lab.basics.storage import held
from softaug_lab.cli.app import main
from softaug_lab.experiments.jobs import device_of, run_jobs, threads_of
from softaug_lab.experiments.run_one import run_one
from softaug_lab.models.classifier import load_model
from softaug_lab.recipes.recipe import Recipe
from softaug_lab.runs.folder import RunFolder, open_run

RECIPE = Recipe(epochs=2, batch_size=16, precision="fp32")


def opened(folder: Path, *recipes: Recipe) -> list[tuple[Recipe, RunFolder]]:
    return [
        (recipe, open_run(folder / str(i), recipe, data(), {}, resume=True))
        for i, recipe in enumerate(recipes)
    ]


def test_jobs_end_as_runs_one_after_another(tmp_path: Path) -> None:
    recipes = [replace(RECIPE, seed=seed) for seed in range(2)]
    told: list[tuple[int, int]] = []
    pairs = opened(tmp_path / "jobs", *recipes)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run_jobs(
            pairs, data(), "cpu", 2, lambda r, p: told.append((r.seed, p.epoch)), lambda _: None
        )
        torch.set_num_threads(threads_of(2))
        for (recipe, run), (_, alone) in zip(
            pairs, opened(tmp_path / "alone", *recipes), strict=True
        ):
            run_one(recipe, data(), alone, Processes(torch.device("cpu")), lambda _: None)
            ours, theirs = (load_model(r.model_file).state_dict() for r in (run, alone))
            assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
            assert run.finished
    finally:
        torch.set_num_threads(before)
    assert {seed for seed, _ in told} == {0, 1}
    # Finished runs are not begun again.
    run_jobs(pairs, data(), "cpu", 2, lambda *_: pytest.fail("begun"), lambda _: None)


def test_a_run_that_fails_is_named_and_stops_the_others(tmp_path: Path) -> None:
    """The other one, which would take hours, has a checkpoint of the step that it was in."""
    long = replace(RECIPE, epochs=100_000, seed=4)
    pairs = opened(tmp_path, replace(RECIPE, lr=1e30, seed=3), long)
    with pytest.raises(SoftaugError, match=r"soft seed 3: .*loss is nan at step"):
        run_jobs(pairs, data(), "cpu", 2, lambda *_: None, lambda _: None)
    assert not pairs[1][1].finished


def test_a_run_that_another_process_holds_is_a_wrong_request(tmp_path: Path) -> None:
    pairs = opened(tmp_path, RECIPE)
    with held(pairs[0][1].folder), pytest.raises(UsageError, match=r"soft seed 0: .*process"):
        run_jobs(pairs, data(), "cpu", 1, lambda *_: None, lambda _: None)


def test_a_killed_process_is_named(tmp_path: Path) -> None:
    pairs = opened(tmp_path, replace(RECIPE, epochs=100_000))

    def kill(*_: object) -> None:
        (child,) = subprocess.check_output(
            ["pgrep", "-P", str(os.getpid()), "-f", "multiprocessing.spawn"]
        ).split()
        os.kill(int(child), signal.SIGKILL)

    with pytest.raises(
        SoftaugError, match="soft seed 0: its process ended with SIGKILL; the same command goes on"
    ):
        run_jobs(pairs, data(), "cpu", 1, kill, lambda _: None)


@pytest.mark.parametrize(
    ("number", "epochs", "begun"),
    [
        (signal.SIGINT, 3000, "metrics.jsonl"),
        (signal.SIGINT, 1, "model.safetensors"),  # while it is evaluated
        pytest.param(signal.SIGTERM, 3000, "metrics.jsonl", marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_comparison_goes_on(
    number: signal.Signals, epochs: int, begun: str, tmp_path: Path
) -> None:
    """Ctrl-C in a terminal reaches every process of the command."""
    command = (
        f"compare demo --train-images 200 --epochs {epochs} --seeds 1 --arms standard soft "
        f"--batch-size 50 --jobs 2 --run {tmp_path / 'c'}"
    ).split()
    with subprocess.Popen(
        [sys.executable, "-m", "softaug", *command],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        while len(list(tmp_path.glob(f"c/runs/*/{begun}"))) < 2:
            time.sleep(0.1)
            assert process.poll() is None, process.communicate()[1]
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "stopped after 0 of 2 runs, those under way with a checkpoint; the same command" in said
    assert "Traceback" not in said
    assert len(list(tmp_path.glob("c/runs/*/checkpoint.pt"))) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--jobs 0", "--jobs must be at least 1, got 0"),
        ("--jobs 2 --shard", "leave out torchrun, --shard and --on ray"),
        ("--jobs 2 --on ray", "leave out torchrun, --shard and --on ray"),
    ],
)
def test_wrong_jobs_are_told(
    options: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["compare", "demo", *options.split()])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_devices_and_threads_of_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_of("cpu", 3) == "cpu"
    monkeypatch.setattr("softaug_lab.experiments.jobs.choose_device", torch.device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [device_of("cuda", i) for i in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert device_of("cuda:1", 0) == "cuda:1"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert [threads_of(jobs) for jobs in (1, 3, 8, 20)] == [8, 2, 1, 1]
