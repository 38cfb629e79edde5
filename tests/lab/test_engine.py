"""One process or two: the same batches, the same losses, and a run that survives its processes."""

import contextlib
import copy
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import two_processes
from fakes import watched
from support import ended, fork, tar
from torch import Tensor

from softaug import mean_one
from softaug_lab.basics.errors import SoftaugError, UsageError
from softaug_lab.basics.processes import Processes, choose_device, started
from softaug_lab.cli.app import main
from softaug_lab.cli.terminal import quiet, say
from softaug_lab.data.load import load
from softaug_lab.data.stream import StreamOptions
from softaug_lab.evaluation.predictions import Predictions
from softaug_lab.experiments.cost import epochs_within
from softaug_lab.models.classifier import load_model
from softaug_lab.recipes.recipe import Recipe
from softaug_lab.runs.folder import RunFolder, open_run
from softaug_lab.training import prepared
from softaug_lab.training.loop import fit
from softaug_lab.training.pace import Pace
from softaug_lab.training.progress import Progress
from softaug_lab.training.signals import InterruptedRunError

TESTS = Path(__file__).parent
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def launch(folder: Path, processes: int, model: str, *options: str) -> subprocess.Popen[bytes]:
    """Begin new processes by torchrun, as users do."""
    folder.mkdir(exist_ok=True)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    script = [str(TESTS / "two_processes.py"), str(folder), model, *options]
    command = [sys.executable, *torchrun, *script]
    return subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE)


def by_torchrun(folder: Path, processes: int, model: str, *options: str) -> list[dict[str, Any]]:
    """What each process kept of a run to its end, in new processes."""
    with launch(folder, processes, model, *options) as running:
        _, errors = running.communicate(timeout=200)
    assert running.returncode == 0, errors.decode()
    return kept(folder, processes)


def by_fork(folder: Path, processes: int, model: str, *options: str) -> list[dict[str, Any]]:
    """What each process kept of a run to its end, in copies of this one; also for test_stream."""
    in_forks(folder, processes, partial(two_processes.main, folder, model, [*options]))
    return kept(folder, processes)


def in_forks(folder: Path, processes: int, act: Callable[[], object]) -> list[str]:
    """Act in copies of this process that know of each other, to the end; what each one said."""
    folder.mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    running = []
    for rank in range(processes):
        environment = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "RANK": str(rank)}
        environment |= {"WORLD_SIZE": str(processes), "LOCAL_RANK": str(rank)}
        said = folder / f"said-{rank}"
        running.append((fork(act, said, environment), said))
    for process, said in running:
        assert ended(process) == 0, said.read_text()
    return [said.read_text() for _, said in running]


def kept(folder: Path, processes: int) -> list[dict[str, Any]]:
    files = [folder / f"{processes}-{rank}.pt" for rank in range(processes)]
    return [torch.load(file, weights_only=True) for file in files]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("one")
    return folder, by_fork(folder, 1, "test_convnext")[0]


@pytest.mark.parametrize(
    ("begin", "options"),
    [
        pytest.param(by_torchrun, (), marks=pytest.mark.slow),
        pytest.param(by_torchrun, ("--shard",), marks=pytest.mark.slow),
        (by_fork, ("--shard",)),
    ],
    ids=["copied", "sharded", "sharded in forks"],
)
def test_two_processes_are_one(
    begin: Callable[..., list[dict[str, Any]]],
    options: tuple[str, ...],
    one: tuple[Path, dict[str, Any]],
    tmp_path: Path,
) -> None:
    """On a network without batch norm: losses, weights and figures to rounding."""
    folder, alone = one
    first, second = begin(tmp_path, 2, "test_convnext", *options)
    assert first["losses"] == second["losses"]
    torch.testing.assert_close(first["losses"], alone["losses"], rtol=1e-5, atol=1e-6)
    weights, expected = (load_model(RunFolder(f / "run").model_file) for f in (tmp_path, folder))
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(weights.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    # Exactly the test images, once each and in their order: 22, which 2 do not divide by batches.
    logits, plain = (Predictions.load(f / "run" / "predictions.npz") for f in (tmp_path, folder))
    assert torch.equal(logits.labels, plain.labels)
    torch.testing.assert_close(logits.logits, plain.logits, rtol=1e-3, atol=1e-4)
    # The same views of them.
    assert logits.mix_logits is not None
    torch.testing.assert_close(logits.mix_logits, plain.mix_logits, rtol=1e-3, atol=1e-4)
    for key, level in plain.levels.items():
        torch.testing.assert_close(logits.levels[key].logits, level.logits, rtol=1e-3, atol=1e-4)
        assert torch.equal(logits.levels[key].fill, level.fill)
    assert first["record"]["evaluation"] == second["record"]["evaluation"]
    for ours, theirs in zip(first["record"]["history"], alone["record"]["history"], strict=True):
        assert ours["train_top1_error"] == theirs["train_top1_error"]


def test_two_processes_measure_the_time_that_they_take_together(tmp_path: Path) -> None:
    """They agree on the epochs to the last one, and one of them prints the plan."""

    def choose() -> None:
        with started("cpu") as processes:
            data = two_processes.data()
            arms, recipe = ["standard"], Recipe(batch_size=20)
            sys.stderr.write(f"{epochs_within(10_000, recipe, arms, data, processes)}\n")

    first, second = in_forks(tmp_path, 2, choose)
    assert int(first) == int(second) > 10_000

    def plan() -> None:
        command = "train demo --train-images 300 --batch-size 50 --dry-run --device cpu"
        with contextlib.redirect_stdout(sys.stderr):
            main(command.split())

    first, second = in_forks(tmp_path, 2, plan)
    assert "images/s in the first steps of 2 processes" in " ".join(first.split())
    assert "images/s" not in second


def test_shards_compute_a_batch_in_equally_many_parts(tmp_path: Path) -> None:
    """Of 15 images one process has 7, which would be 3 parts, and the other one 8, which are 4."""
    recipe = Recipe(model="test_convnext", epochs=1, batch_size=15, accumulate=4, precision="fp32")

    def train() -> None:
        signal.alarm(100)  # ends a process that waits for ever
        with started("cpu", shard=True) as processes:
            run = RunFolder(tmp_path)
            fit(recipe, two_processes.data(), run, processes, lambda _: None)

    in_forks(tmp_path, 2, train)


def test_processes_augment_equally_many_batches_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though one of them has fewer images of a batch: each batch of a stream exchanges sums."""
    for shard in range(4):
        tar(tmp_path / f"train-{shard}.tar", range(shard * 80, shard * 80 + 80), [85])
    tar(tmp_path / "test-0.tar", range(12))
    stream = StreamOptions(readers=4, buffer=24)
    loaded = load(str(tmp_path), size=32, max_unreadable=0.1, stream=stream)
    recipe = Recipe(arm="standard", epochs=1, batch_size=16, precision="fp32")
    open_run(tmp_path / "run", recipe, loaded, {}, resume=False)
    # Of 52 images: 6 shares of 8, or 7 shares if they were counted where one is unreadable.
    monkeypatch.setattr(prepared, "BLOCK_BYTES", 52 * 3 * 32 * 32)

    def train() -> None:
        signal.alarm(100)  # ends a process that waits for ever
        with started("cpu") as processes:
            run = RunFolder(tmp_path / "run")
            fit(recipe, loaded, run, processes, lambda _: None, pace=Pace(lag=8, block=64))

    in_forks(tmp_path / "said", 2, train)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_run_goes_on_sharded_and_whole_again(optimizer: Any, tmp_path: Path) -> None:
    """The optimiser's own kernels, which its state names, are there for whole weights alone."""
    recipe = Recipe(model="test_convnext", epochs=2, batch_size=15, precision="fp32", lr=0.001)
    recipe, data = replace(recipe, optimizer=optimizer), two_processes.data()
    run = open_run(tmp_path / "run", recipe, data, {}, resume=False)

    def train(to_the_end: bool) -> None:
        signal.alarm(100)

        def watch(_: Progress) -> None:
            if not to_the_end:
                os.kill(os.getpid(), signal.SIGTERM)

        with (
            started("cpu", shard=int(os.environ["WORLD_SIZE"]) > 1) as processes,
            contextlib.suppress(InterruptedRunError),
        ):
            fit(recipe, data, RunFolder(run.folder), processes, watch)

    for processes, to_the_end in ((1, False), (2, False), (1, True)):
        assert not run.model_file.exists()
        in_forks(tmp_path / "said", processes, partial(train, to_the_end))
    assert run.model_file.exists()


def test_two_processes_share_the_batches_of_one(
    one: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """Order, draws, targets and weights over the global batch, with batch norm as without."""
    parts = by_fork(tmp_path, 2, "small")
    halves = [part["batches"] for part in parts]
    for first, second, whole in zip(*halves, one[1]["batches"], strict=True):
        assert first["names"] + second["names"] == whole["names"]
        for key in ("images", "targets"):
            joined = torch.cat([first[key], second[key]])
            torch.testing.assert_close(joined, whole[key], rtol=1e-6, atol=1e-7)
        # Weights of mean 1 over the global batch, though not over each half.
        mass = torch.cat([first["targets"], second["targets"]]).sum()
        assert mass.item() == pytest.approx(len(whole["names"]), rel=1e-5)
        assert first["targets"].sum().item() != pytest.approx(len(first["names"]), rel=1e-5)
    # Without labels likewise: views, and weights of mean 1 of either half of the loss.
    halves = [part["pairs"] for part in parts]
    for first, second, whole in zip(*halves, one[1]["pairs"], strict=True):
        assert torch.equal(torch.cat([first["views"], second["views"]]), whole["views"])
        joined = torch.cat([first["weights"], second["weights"]])
        torch.testing.assert_close(joined, whole["weights"])
        torch.testing.assert_close(joined.mean(dim=0), torch.ones(2))
        assert first["weights"].mean().item() != pytest.approx(1, rel=1e-5)


@pytest.mark.slow
def test_two_processes_that_are_preempted_go_on(
    one: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """SIGTERM reaches both; each stops after the same step. One process can take over."""
    history = tmp_path / "run" / "metrics.jsonl"
    with launch(tmp_path, 2, "test_convnext", "--slow") as running:
        while not history.exists() and running.poll() is None:
            time.sleep(0.01)
        running.terminate()
        _, errors = running.communicate(timeout=100)
    assert b"with a checkpoint" in errors
    assert not RunFolder(tmp_path / "run").model_file.exists()
    resumed = by_fork(tmp_path, 1, "test_convnext", "--resume")[0]
    losses = one[1]["losses"]
    assert 1 <= len(resumed["losses"]) < len(losses)
    expected = losses[-len(resumed["losses"]) :]
    torch.testing.assert_close(resumed["losses"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_killed_ten_times_over(tmp_path: Path) -> None:
    """SIGKILL at any moment, a checkpoint being written among them: bitwise the same weights."""
    chance = random.Random(0)
    began: list[int] = []  # the first step of each process
    kills, command = 0, [sys.executable, str(TESTS / "checkpoints_at_every_step.py")]
    while True:
        with subprocess.Popen(
            [*command, str(tmp_path / "cut")], env=ENVIRONMENT, stdout=subprocess.PIPE
        ) as running:
            assert running.stdout is not None
            began.append(int(running.stdout.readline()))
            for _ in range(chance.randint(0, 3)):
                running.stdout.readline()
            if kills < 10 and running.poll() is None:
                time.sleep(chance.uniform(0, 0.02))
                running.kill()
                kills += 1
            else:
                running.stdout.read()
        if running.returncode == 0:
            break
        assert running.returncode == -signal.SIGKILL
    assert kills == 10
    # Work that a checkpoint held is not done again: a kill costs one step at most.
    assert began == sorted(began)
    assert began[-1] > 10
    subprocess.run([*command, str(tmp_path / "whole")], env=ENVIRONMENT, check=True)
    cut, whole = (load_model(tmp_path / name / "model.safetensors") for name in ("cut", "whole"))
    for name, value in whole.state_dict().items():
        assert torch.equal(cut.state_dict()[name], value), name


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [0, 1, 6, 20])
def test_shares_are_a_division(processes: int, n: int) -> None:
    groups = [Processes(torch.device("cpu"), rank, processes) for rank in range(processes)]
    parts = [list(range(n))[processes.share(n)] for processes in groups]
    assert [i for part in parts for i in part] == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_alone_nothing_is_exchanged() -> None:
    processes = Processes(torch.device("cpu"))
    rows = torch.rand(3, 2)
    assert processes.gather(rows) is rows
    assert torch.equal(processes.total(rows), rows)
    assert processes.over_global_batch(mean_one) is mean_one
    assert processes.main


def test_what_is_on_the_host_is_exchanged_without_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """With made-up tensors on CUDA; two equal processes."""
    exchanged: list[tuple[str, str]] = []

    def all_reduce(values: Tensor) -> None:
        exchanged.append(("sum", values.device.type))
        values.mul_(2)

    def all_gather(parts: list[Tensor], mine: Tensor) -> None:
        exchanged.append(("rows", mine.device.type))
        for part in parts:
            part.copy_(mine)

    monkeypatch.setattr(dist, "all_reduce", all_reduce)
    monkeypatch.setattr(dist, "all_gather", all_gather)
    processes = Processes(torch.device("cuda"), rank=1, count=2)
    assert processes.total(torch.tensor([3, 0])).tolist() == [6, 0]
    assert exchanged == [("sum", "cpu")]
    exchanged.clear()
    monkeypatch.setattr(processes.__class__, "_counts", lambda _, mine: [mine, mine])
    weigh = processes.over_global_batch(mean_one)
    with watched() as seen:
        assert weigh(torch.empty(5, device="cuda")).shape == (5,)
        assert processes.summed(torch.empty(3, device="cuda")).device.type == "cuda"
    assert exchanged == [("rows", "cuda"), ("sum", "cuda")]
    assert seen.waits == []


def test_gpus_are_joined_by_two_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    joined: list[str] = []

    def join(backend: str) -> None:
        joined.append(backend)
        raise RuntimeError("no route")

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr("softaug_lab.basics.processes.choose_device", torch.device)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    monkeypatch.setattr(dist, "init_process_group", join)
    for device in ("cuda", "cpu"):
        with (
            pytest.raises(SoftaugError, match=r"\(no route\).* GLOO_SOCKET_IFNAME"),
            started(device),
        ):
            pass
    assert joined == ["cpu:gloo,cuda:nccl", "gloo"]


def test_devices_by_name() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(UsageError, match="device 'cpuu' cannot be used here"):
        choose_device("cpuu")


def test_a_gpu_that_is_named_is_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    with watched():
        assert choose_device("cuda:1") == torch.device("cuda:1")
        assert choose_device("cuda") == torch.device("cuda")
    assert current == [torch.device("cuda:1")]


def test_one_process_has_nothing_to_split_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with (
        pytest.raises(UsageError, match="--shard splits the model over processes"),
        started("cpu", True),
    ):
        pass


def test_a_process_beside_the_first_fails_aloud(capsys: pytest.CaptureFixture[str]) -> None:
    quiet(True)
    try:
        say("heard by nobody")
        with pytest.raises(SystemExit):
            main(["evaluate", "no-such-run"])
        said = capsys.readouterr().err
    finally:
        quiet(False)
    assert "no-such-run" in said
    assert "heard by nobody" not in said


def test_state_goes_back_as_it_was() -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)

    def step(inputs: Tensor) -> None:
        optimizer.zero_grad()
        model(inputs).square().sum().backward()
        optimizer.step()

    processes, inputs = Processes(torch.device("cpu")), torch.rand(4, 3)
    step(inputs)
    state = copy.deepcopy(processes.state(model, optimizer))
    step(inputs)
    after = copy.deepcopy(model.state_dict())
    processes.load(model, optimizer, state)
    step(inputs)
    for name, value in model.state_dict().items():
        assert torch.equal(value, after[name])
