"""TensorBoard's event files: what the log says, each epoch once, and training as without them."""

import os
import signal
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support import folder, stripes
from test_pace import CPU, QUICK, assert_alike, ignore

from softaug_lab.basics.processes import Processes
from softaug_lab.cli.app import main
from softaug_lab.cli.options import RunOptions
from softaug_lab.cli.training import events_beside_logs
from softaug_lab.data import Data
from softaug_lab.runs import RunFolder, event_files, open_run
from softaug_lab.training import InterruptedRunError, Progress, fit

EVENTS = "softaug_lab.runs.events"
LONGER = replace(QUICK, epochs=4)
TIMES = ("epoch", "seconds")


@pytest.fixture(scope="module")
def data() -> Data:
    return Data("stripes", ("rows", "columns", "checks"), stripes(70, 0), stripes(30, 1))


@pytest.fixture(scope="module")
def whole(data: Data, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run without event files."""
    run = open_run(tmp_path_factory.mktemp("runs") / "whole", LONGER, data, {}, resume=False)
    fit(LONGER, data, run, CPU, ignore)
    return run


def shown(run: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a run: step and value of each point, by the name of the curve."""
    name = "tensorboard.backend.event_processing.event_accumulator"
    events = pytest.importorskip(name).EventAccumulator(str(run))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def logged(run: Path) -> dict[str, Any]:
    """The curves of a run's log."""
    history = RunFolder(run).history()
    return {
        name: [(epoch["epoch"], pytest.approx(float(epoch[name]))) for epoch in history]
        for name in history[0]
        if name not in TIMES
    }


def train(
    run: RunFolder, data: Data, copy_logs: Callable[[], None], stop_at: int | None = None
) -> None:
    """Train, and copy the log after each step; Ctrl-C after some step."""

    def watch(step: Progress) -> None:
        copy_logs()
        if step.step == stop_at:
            os.kill(os.getpid(), signal.SIGINT)

    fit(LONGER, data, run, CPU, watch)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note each look at the logs during training, and copy them at the end alone."""
    noted: list[str] = []
    monkeypatch.setattr(f"{EVENTS}.Events.update_in_time", lambda _: noted.append("look"))
    return noted


def test_a_run_shows_what_its_log_says(tmp_path: Path, looks: list[str]) -> None:
    pytest.importorskip("tensorboard")
    folder(tmp_path / "data" / "train", range(60))
    folder(tmp_path / "data" / "test", range(60, 72))
    command = ["train", str(tmp_path / "data"), "--epochs", "2", "--batch-size", "20"]
    command += ["--held-out", "0.2", "--tensorboard", "--run", str(tmp_path / "run")]
    main(command)
    assert len(looks) == 6  # steps
    curves = shown(tmp_path / "run")
    assert curves == logged(tmp_path / "run")
    assert set(curves) > {"loss", "held_out_nll", "held_out_top1_error", "lr"}
    main([*command, "--resume"])
    assert len(list((tmp_path / "run").glob("events.*"))) == 1


def test_every_run_of_a_comparison_has_its_curves(tmp_path: Path, looks: list[str]) -> None:
    pytest.importorskip("tensorboard")
    folder(tmp_path / "data" / "train", range(60))
    folder(tmp_path / "data" / "test", range(60, 72))
    command = ["compare", str(tmp_path / "data"), "--epochs", "1", "--batch-size", "20"]
    command += ["--arms", "standard", "soft", "--seeds", "1", "--tensorboard"]
    main([*command, "--run", str(tmp_path / "run")])
    assert len(looks) == 6  # steps
    runs = sorted((tmp_path / "run" / "runs").iterdir())
    assert len(runs) == 2
    for run in runs:
        assert shown(run) == logged(run)


@pytest.mark.parametrize("before", [True, False])
def test_a_resumed_run_shows_every_epoch_once(
    before: bool, whole: RunFolder, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a kill that lost the checkpoints but not the log, and with the option new then."""
    pytest.importorskip("tensorboard")
    monkeypatch.setattr(f"{EVENTS}.SECONDS", 0)
    run = open_run(tmp_path / "run", LONGER, data, {}, resume=False)
    with (
        pytest.raises(InterruptedRunError),
        event_files(run.folder) if before else nullcontext(lambda: None) as copy_logs,
    ):
        train(run, data, copy_logs, stop_at=14)  # in the third of four epochs of five steps
    assert bool(list(run.folder.glob("events.*"))) == before
    run.remove_checkpoints()
    assert len(run.history()) == 2
    with event_files(run.folder) as copy_logs:
        train(run, data, copy_logs)
    curves, log = shown(run.folder), logged(run.folder)
    del curves["images_per_second"], log["images_per_second"]  # may be those of the first try
    assert curves == log
    assert [step for step, _ in curves["loss"]] == [1, 2, 3, 4]
    assert_alike(run, whole)


def test_a_run_under_way_is_shown(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    monkeypatch.setattr(f"{EVENTS}.SECONDS", 0)
    run = open_run(tmp_path / "run", LONGER, data, {}, resume=False)
    seen: list[int] = []
    with event_files(run.folder) as copy_logs:

        def watch(step: Progress) -> None:
            copy_logs()
            if step.step == 11:  # the first of the third epoch
                seen.extend(epoch for epoch, _ in shown(run.folder)["loss"])

        fit(LONGER, data, run, CPU, watch)
    assert seen == [1, 2]


def test_one_process_of_several_writes(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "loss": 2.0, "seconds": 3.0}\n')
    pytest.importorskip("tensorboard")
    second = Processes(torch.device("cpu"), rank=1, count=2)
    for options, processes in ((RunOptions(), CPU), (RunOptions(tensorboard=True), second)):
        with events_beside_logs(tmp_path, options, processes) as copy_logs:
            copy_logs()
        assert not list(tmp_path.glob("events.*"))
    with events_beside_logs(tmp_path, RunOptions(tensorboard=True), CPU):
        pass
    assert shown(tmp_path) == {"loss": [(1, 2.0)]}


def test_the_missing_package_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("softaug_lab.cli.options.find_spec", lambda _: None)
    with pytest.raises(SystemExit) as exit_:
        main(["train", "demo", "--tensorboard", "--run", str(tmp_path / "run")])
    assert exit_.value.code == 2
    message = "--tensorboard needs tensorboard: pip install 'softaug[tensorboard]'"
    assert capsys.readouterr().err == f"softaug: {message}\n"
    assert not (tmp_path / "run").exists()
