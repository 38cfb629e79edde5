"""Runs as tasks of a local Ray cluster: the same folders, whatever happens to the workers."""

import contextlib
import functools
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from PIL import Image
from two_processes import data

from softaug_lab.basics.errors import SoftaugError
from softaug_lab.basics.processes import Processes
from softaug_lab.cli.app import main
from softaug_lab.experiments.ray import (
    Limits,
    await_files,
    cluster,
    put,
    run_all,
    task_resources,
)
from softaug_lab.experiments.run_one import run_one
from softaug_lab.recipes.recipe import Recipe
from softaug_lab.runs.folder import RunFolder, open_run
from softaug_lab.training.signals import InterruptedRunError

# The seed names the processes of this test among those of others.
RECIPE = Recipe(epochs=40, batch_size=16, precision="fp32", seed=os.getpid())
LONG = replace(RECIPE, epochs=10_000, arm="standard")


@pytest.fixture(scope="module", autouse=True)
def begun() -> Iterator[None]:
    """A cluster of two CPUs, and a GPU in name only."""
    start = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--port=0"]
    start += ["--num-cpus=2", "--num-gpus=1", "--include-dashboard=false", "--disable-usage-stats"]
    # Sockets lie in it, whose names must be short; `ray stop` would stop those of others too.
    with (
        tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.setenv("RAY_TMPDIR", folder)
        environment.setenv("OMP_NUM_THREADS", "1")
        # What becomes the default, of which older versions warn.
        environment.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        with subprocess.Popen(start, stdout=subprocess.DEVNULL) as running:
            address = Path(folder) / "ray" / "ray_current_cluster"
            until(lambda: address.exists() or running.poll() is not None)
            environment.setenv("RAY_ADDRESS", address.read_text())
            yield
            running.terminate()


def until(true: Callable[[], object]) -> None:
    while not true():
        time.sleep(0.01)


def opened(folder: Path, recipe: Recipe) -> tuple[Recipe, RunFolder]:
    return recipe, open_run(folder / recipe.arm, recipe, data(), {}, resume=True)


@pytest.fixture
def joined() -> Iterator[None]:
    with cluster():
        yield


def performed(*pairs: tuple[Recipe, RunFolder], limits: Limits | None = None) -> None:
    run_all(pairs, data(), "cpu", lambda *_: None, limits or Limits())


def workers(recipe: Recipe) -> list[int]:
    """The processes that perform a recipe, by the title Ray gives them."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True)
    title = f"ray::{recipe.arm} seed {recipe.seed}"
    return [int(line.split()[0]) for line in listed.stdout.splitlines() if title in line]


@contextlib.contextmanager
def after_epochs(run: RunFolder, act: Callable[[], None]) -> Iterator[None]:
    """Do something to a run that is under way."""

    def wait_and_act() -> None:
        until(lambda: len(run.history()) >= 3)
        act()

    thread = threading.Thread(target=wait_and_act)
    thread.start()
    yield
    thread.join()


def contents(run: RunFolder) -> dict[str, Any]:
    """Every file of a run, without what is of the hour and the machine."""
    # A kill may leave a half-written file, whose name begins with a dot.
    found: dict[str, Any] = {path.name: path.read_bytes() for path in run.folder.glob("[!.]*")}
    timings = ("seconds", "images_per_second")
    found["metrics.jsonl"] = [
        {key: value for key, value in record.items() if key not in timings}
        for record in run.history()
    ]
    found["recipe.json"] = {k: v for k, v in run.description().items() if k != "environment"}
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The run of RECIPE, left alone in this process."""
    recipe, run = opened(tmp_path_factory.mktemp("alone"), RECIPE)
    run_one(recipe, data(), run, Processes(torch.device("cpu")), lambda _: None)
    return contents(run)


@pytest.mark.slow
def test_a_comparison_comes_out_as_it_does_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i, (image, label) in enumerate(zip(data().train.images, data().train.labels, strict=True)):
        folder = tmp_path / "pictures" / "abc"[int(label)]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{i}.png")
    command = ["compare", str(tmp_path / "pictures"), "--epochs", "2", "--batch-size", "16"]
    command += ["--seeds", "1", "--arms", "harsh", "soft", "--device", "cpu"]
    said = []
    for on in ("here", "ray"):
        main([*command, "--run", str(tmp_path / on), "--on", on])
        said.append(capsys.readouterr())
    for arm in ("harsh", "soft"):
        here, there = (
            contents(RunFolder(tmp_path / on / "runs" / f"{arm}-seed-0")) for on in ("here", "ray")
        )
        assert here == there
    # The table, the sentences, and the path of the report; then a line for each trained model.
    assert said[0].out == said[1].out.replace(str(tmp_path / "ray"), str(tmp_path / "here"))
    assert said[1].err.count(": trained, epoch 2") == 2


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_survives_its_worker(
    number: signal.Signals,
    alone: dict[str, Any],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    recipe, run = opened(tmp_path, RECIPE)
    before = []

    def strike() -> None:
        (worker,) = workers(recipe)
        before.extend(run.history())
        os.kill(worker, number)

    with cluster(), after_epochs(run, strike):
        performed((recipe, run))
    assert contents(run) == alone
    # With their times: what a checkpoint held, as of all epochs but the last, is not done again.
    kept = before[:-1]
    assert kept
    assert run.history()[: len(kept)] == kept
    said = capfd.readouterr()
    assert "the task will be retried" in said.err
    assert not said.out


@pytest.mark.slow  # Ray waits long before it gives a worker up
@pytest.mark.usefixtures("joined")
def test_a_run_that_loses_every_worker(tmp_path: Path) -> None:
    recipe, run = opened(tmp_path, LONG)
    with (
        pytest.raises(SoftaugError, match=r"standard seed \d+: not done in 1 attempt"),
        after_epochs(run, lambda: os.kill(workers(recipe)[0], signal.SIGKILL)),
    ):
        performed((recipe, run), limits=Limits(retries=0))


@pytest.mark.slow
@pytest.mark.usefixtures("joined")
def test_ctrl_c_leaves_a_checkpoint_to_go_on_from(
    alone: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And what the library has to say in a task is heard: here, of a broken checkpoint."""
    often = Limits(poll_seconds=0.05)  # the run takes seconds
    recipe, run = opened(tmp_path, RECIPE)
    other = opened(tmp_path, LONG)
    with (
        pytest.raises(InterruptedRunError, match="stopped after 0 of 2 runs") as interrupted,
        after_epochs(run, lambda: os.kill(os.getpid(), signal.SIGINT)),
    ):
        performed((recipe, run), other, limits=often)
    assert interrupted.value.exit_code == 130
    assert not workers(LONG)
    run.checkpoint_files[0].write_bytes(b"broken")
    performed((recipe, run), limits=often)
    assert contents(run) == alone
    (message,) = caplog.messages
    assert message.startswith(f"{recipe.arm} seed {recipe.seed}: ")
    assert "no checkpoint of softaug; going on from the one before" in message


@pytest.mark.slow
@pytest.mark.usefixtures("joined")
def test_an_error_names_its_run_and_stops_the_others(tmp_path: Path) -> None:
    good = opened(tmp_path, LONG)
    diverging = opened(tmp_path, replace(RECIPE, lr=1e30))
    foreign = opened(tmp_path, replace(RECIPE, arm="harsh"))
    foreign[1].save_checkpoint({"at": {"nowhere": 0}})
    unseen = RECIPE, RunFolder(tmp_path / "elsewhere")
    for pairs, message in {
        (foreign,): r"harsh seed \d+: TypeError: .* unexpected keyword argument 'nowhere'",
        (unseen,): r"soft seed \d+: .*elsewhere: not seen from .* that all machines",
        (good, diverging): r"soft seed \d+: .*the loss is nan .* lower --lr",
    }.items():
        with pytest.raises(SoftaugError, match=f"^{message}"):
            performed(*pairs)
    assert not good[1].finished
    assert not workers(LONG)


def test_what_was_finished_must_be_seen_here(tmp_path: Path) -> None:
    with pytest.raises(SoftaugError, match=r"elsewhere: finished by a task, and not seen here"):
        await_files([RunFolder(tmp_path / "elsewhere")], Limits(file_seconds=0))


@pytest.mark.usefixtures("joined")
def test_what_a_task_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    for device in ("auto", "cuda"):
        assert task_resources(device) == {"num_cpus": 1, "num_gpus": 1}
    for threads, cpus in ((1, 1), (2, 2), (64, 2)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert task_resources("cpu") == {"num_cpus": cpus, "num_gpus": 0}


@pytest.mark.usefixtures("joined")
def test_data_lie_in_memory_once() -> None:
    reference = put(data())
    first, second = ray.get(reference), ray.get(reference)
    assert first.train.images.data_ptr() == second.train.images.data_ptr()
    assert torch.equal(first.train.images, data().train.images)
    assert torch.equal(first.test.labels, data().test.labels)
    assert first.classes == data().classes


def refused(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[object, str]:
    with pytest.raises(SystemExit) as exit_:
        main(["compare", "demo", "--on", "ray", *options])
    return exit_.value.code, capsys.readouterr().err


def test_without_a_cluster(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    # It looks at the processes of the machine as well, where others may have begun one.
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", functools.cache(set))
    code, said = refused(capsys)
    assert code == 1
    assert "no Ray cluster" in said
    assert "`ray start --head`" in said


def test_without_ray(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "softaug_lab.experiments.ray")
    code, said = refused(capsys)
    assert code == 2
    assert "pip install 'softaug[ray]'" in said


@pytest.mark.parametrize(
    ("options", "processes"), [((), "2"), (("--shard",), "1"), (("--dry-run",), "1")]
)
def test_what_does_not_go_together(
    options: tuple[str, ...],
    processes: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WORLD_SIZE", processes)
    code, said = refused(capsys, *options)
    assert code == 2
    assert "leave out torchrun, --shard and --dry-run" in said


def test_minutes_of_this_machine_say_nothing_of_a_cluster(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, said = refused(capsys, "--minutes", "5")
    assert code == 2
    assert "--minutes measures this machine; with --on ray set --epochs instead" in said
