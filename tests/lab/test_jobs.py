"""Runs side by side in processes of this machine: the same folders, whatever happens to them."""

import contextlib
import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import ended, fork
from two_processes import data

from softaug_lab.basics.errors import SoftaugError, UsageError
from softaug_lab.basics.processes import Processes
from softaug_lab.basics.storage import held
from softaug_lab.cli.app import main
from softaug_lab.data.load import load
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


@pytest.fixture(params=["forked", pytest.param("spawned", marks=pytest.mark.slow)])
def either(request: pytest.FixtureRequest) -> None:
    """Begin runs as copies of this process; in the slow tests, in new ones as users do."""
    if request.param == "forked":
        request.getfixturevalue("forked")


@pytest.mark.usefixtures("either")
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
    # One that an earlier version evaluated is evaluated again.
    evaluation = pairs[0][1].evaluation_file
    whole = json.loads(evaluation.read_text())
    evaluation.write_text(json.dumps(whole | {"mix": None}))
    run_jobs(pairs, data(), "cpu", 2, lambda *_: None, lambda _: None)
    assert json.loads(evaluation.read_text())["mix"] == whole["mix"]


@pytest.mark.usefixtures("forked")
def test_a_run_that_fails_is_named_and_stops_the_others(tmp_path: Path) -> None:
    """The other one, which would take hours, has a checkpoint of the step that it was in."""
    long = replace(RECIPE, epochs=100_000, seed=4)
    pairs = opened(tmp_path, replace(RECIPE, lr=1e30, seed=3), long)
    with pytest.raises(SoftaugError, match=r"soft seed 3: .*loss is nan at step"):
        run_jobs(pairs, data(), "cpu", 2, lambda *_: None, lambda _: None)
    assert not pairs[1][1].finished


def test_a_run_that_another_process_holds_is_a_wrong_request(tmp_path: Path) -> None:
    """Told by a new process, as users have it."""
    pairs = opened(tmp_path, RECIPE)
    with held(pairs[0][1].folder), pytest.raises(UsageError, match=r"soft seed 0: .*process"):
        run_jobs(pairs, data(), "cpu", 1, lambda *_: None, lambda _: None)


@pytest.mark.usefixtures("forked")
def test_a_killed_process_is_named(tmp_path: Path) -> None:
    pairs = opened(tmp_path, replace(RECIPE, epochs=100_000))

    def kill(*_: object) -> None:
        for child in multiprocessing.active_children():
            child.kill()

    with pytest.raises(
        SoftaugError, match="soft seed 0: its process ended with SIGKILL; the same command goes on"
    ):
        run_jobs(pairs, data(), "cpu", 1, kill, lambda _: None)


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize(
    ("epochs", "begun"),
    [
        (3000, "metrics.jsonl"),
        (1, "model.safetensors"),  # while it is evaluated
    ],
)
def test_an_interrupted_comparison_goes_on(epochs: int, begun: str, tmp_path: Path) -> None:
    """Ctrl-C in a terminal reaches every process of the command."""
    said = tmp_path / "said"
    process = fork(lambda: main(comparison(tmp_path, epochs)), said)
    wait_for_two(tmp_path, begun, lambda: os.waitpid(process, os.WNOHANG)[0] == 0, said)
    os.killpg(process, signal.SIGINT)
    assert ended(process) == 130
    check_stopped(tmp_path, said.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_comparison_of_new_processes_goes_on(
    number: signal.Signals, tmp_path: Path
) -> None:
    """A scheduler sends SIGTERM to the first process alone."""
    command = [sys.executable, "-m", "softaug", *comparison(tmp_path, 3000)]
    said = tmp_path / "said"
    with (
        said.open("w") as messages,
        subprocess.Popen(command, stderr=messages, start_new_session=True) as process,
    ):
        wait_for_two(tmp_path, "metrics.jsonl", lambda: process.poll() is None, said)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
    assert process.returncode == 128 + number
    check_stopped(tmp_path, said.read_text())


@pytest.mark.usefixtures("forked")
def test_runs_end_with_a_command_that_is_killed(tmp_path: Path) -> None:
    """Else they go on for hours, and the same command is refused."""
    said = tmp_path / "said"
    process = fork(lambda: main(comparison(tmp_path, 100_000)), said)
    wait_for_two(tmp_path, "metrics.jsonl", lambda: os.waitpid(process, os.WNOHANG)[0] == 0, said)
    os.kill(process, signal.SIGKILL)
    assert ended(process) == -signal.SIGKILL
    try:
        runs = [RunFolder(path) for path in tmp_path.glob("c/runs/*")]
        for run in runs:
            open_again(run)
            assert run.load_checkpoint() is not None
        assert len(runs) == 2
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
    assert "Traceback" not in said.read_text()


def open_again(run: RunFolder) -> None:
    source = run.description()["data"]["source"]
    loaded = load("demo", train_images=200, held_out=source["read"]["held_out"] or 0.0)
    open_run(run.folder, run.recipe(), loaded, source, resume=True)


def comparison(folder: Path, epochs: int) -> list[str]:
    return (
        f"compare demo --train-images 200 --epochs {epochs} --seeds 1 --arms standard soft "
        f"--batch-size 50 --jobs 2 --run {folder / 'c'}"
    ).split()


def wait_for_two(folder: Path, file: str, runs: Callable[[], bool], said: Path) -> None:
    """Wait until both runs have a file of that name."""
    while len(list(folder.glob(f"c/runs/*/{file}"))) < 2:
        time.sleep(0.05)
        assert runs(), said.read_text()


def check_stopped(folder: Path, said: str) -> None:
    assert "stopped after 0 of 2 runs, those under way with a checkpoint; the same command" in said
    assert "Traceback" not in said
    assert len(list(folder.glob("c/runs/*/checkpoint.pt"))) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--jobs 0", "--jobs must be at least 1, got 0"),
        ("--jobs 2 --shard", "leave out torchrun, --shard and --on ray"),
        ("--jobs 2 --on ray", "leave out torchrun, --shard and --on ray"),
        ("--jobs 2 --minutes 5", "--minutes measures one run alone; with --jobs set --epochs"),
    ],
)
def test_wrong_jobs_are_told(
    options: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["compare", "demo", *options.split()])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_more_warnings_than_a_pipe_holds_are_heard(
    tmp_path: Path, forked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run waits until somebody reads them, and must not be waited for meanwhile."""
    del forked

    def warn(*_: object) -> None:
        for i in range(20):
            logging.getLogger("softaug_lab").warning("an image is unreadable: %s %d", "x" * 8000, i)

    monkeypatch.setattr("softaug_lab.experiments.jobs.run_one", warn)
    signal.alarm(60)  # ends this process if it waits for ever
    heard: list[str] = []
    pairs = opened(tmp_path, RECIPE, replace(RECIPE, seed=1), replace(RECIPE, seed=2))
    run_jobs(pairs, data(), "cpu", 2, lambda *_: None, heard.append)
    signal.alarm(0)
    assert len(heard) == 3 * 20
    assert "seed 0: an image is unreadable" in heard[0]


def test_devices_and_threads_of_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_of("cpu", 3) == "cpu"
    monkeypatch.setattr("softaug_lab.experiments.jobs.choose_device", torch.device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [device_of("cuda", i) for i in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert device_of("cuda:1", 0) == "cuda:1"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert [threads_of(jobs) for jobs in (1, 3, 8, 20)] == [8, 2, 1, 1]
