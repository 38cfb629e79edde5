"""A command killed at any of its file operations, and what the same command makes of the rest."""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support import folder as image_folder

from softaug_lab.cli.app import main
from softaug_lab.metrics import calibration, classwise
from softaug_lab.models import load_model
from softaug_lab.report import page

OPERATIONS = ("open", "os.chmod", "os.rename", "os.remove", "os.rmdir", "os.mkdir")
SMALL = ("--epochs", "2", "--batch-size", "8", "--precision", "fp32")
COMMANDS = {
    "train": ("train", *SMALL),
    "held out": ("train", *SMALL, "--held-out", "0.3"),
    "pretrain": ("pretrain", *SMALL),
    "compare": ("compare", *SMALL, "--seeds", "1", "--arms", "standard", "soft"),
}
TIMED = ("seconds", "images_per_second", "machine", "created", "command")


def writes(event: str, arguments: tuple[Any, ...], folder: Path) -> bool:
    """Whether an audited event changes a file in the folder."""
    if event not in OPERATIONS or not isinstance(arguments[0], (str, os.PathLike)):
        return False
    if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
        return False
    return str(arguments[0]).startswith(str(folder))


def run_until(command: list[str], folder: Path, stop_at: int | None) -> int:
    """Run a command in a process of its own that dies just before its file operation `stop_at`.

    Returns how many operations it did; raises AssertionError where it ended for another reason.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        count = 0

        def die(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal count
            if writes(event, arguments, folder):
                if count == stop_at:
                    os._exit(9)
                count += 1

        code = 1
        try:
            sys.addaudithook(die)
            main(command)
            code = 0
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
        finally:
            os.write(write, str(count).encode())
            os._exit(code)
    os.close(write)
    with os.fdopen(read) as counted:
        said = counted.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == (0 if stop_at is None else 9), f"exit {code} at operation {stop_at}"
    return int(said or 0)


def killed_after(command: list[str], seconds: float) -> bool:
    """Run a command in a process of its own and kill it; returns False where it ended before."""
    child = os.fork()
    if child == 0:
        try:
            main(command)
        finally:
            os._exit(0)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def figures(value: Any) -> Any:
    """What a record says, without the times and the place of its run."""
    if isinstance(value, dict):
        return {name: figures(one) for name, one in value.items() if name not in TIMED}
    return [figures(one) for one in value] if isinstance(value, list) else value


def outcome(folder: Path) -> dict[str, Any]:
    """Weights, histories and figures of all runs in a folder, by file."""
    found: dict[str, Any] = {}
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = str(file.relative_to(folder))
        if file.suffix == ".safetensors":
            weights = load_model(file).state_dict()
            found[name] = {key: value.tolist() for key, value in weights.items()}
        elif file.name in ("evaluation.json", "results.json"):
            found[name] = figures(json.loads(file.read_text()))
        elif file.name == "metrics.jsonl":
            found[name] = [figures(json.loads(line)) for line in file.read_text().splitlines()]
        else:
            found[name] = None
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data")
    image_folder(path / "train", range(24))
    image_folder(path / "test", range(24, 30))
    return path


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out most of the time of a small run, which touches no file."""
    monkeypatch.setattr(page, "_page", lambda _: "a page")
    for module, name in ((calibration, "interval"), (classwise, "classwise_ece_interval")):
        monkeypatch.setattr(module, name, lambda *_: (0.0, 1.0))


def check(name: str, data: Path, folder: Path, every: int) -> int:
    """Kill at each `every`-th file operation and go on; returns how many kills there were."""
    verb, *options = COMMANDS[name]

    def command(run: Path, *more: str) -> list[str]:
        return [verb, str(data), *options, "--run", str(run), *more]

    main(command(folder / "first"))  # so that the forked processes import nothing
    whole = folder / "whole"
    operations = run_until(command(whole), whole, None)
    wanted = outcome(whole)
    again = () if verb == "compare" else ("--resume",)
    kills = range(0, operations, every)
    for stop_at in kills:
        cut = folder / f"cut-{stop_at}"
        run_until(command(cut), cut, stop_at)
        run_until(command(cut, *again), cut, None)
        assert outcome(cut) == wanted, f"killed before operation {stop_at} of {operations}"
    return len(kills)


def test_a_run_killed_at_some_file_operations_goes_on(data: Path, tmp_path: Path) -> None:
    assert check("held out", data, tmp_path, every=18) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_run_killed_at_every_file_operation_goes_on(
    name: str, data: Path, tmp_path: Path
) -> None:
    assert check(name, data, tmp_path, every=1) >= 30


@pytest.mark.slow
def test_a_hundred_kills_at_random_moments(data: Path, tmp_path: Path) -> None:
    drawn, kills, runs = random.Random(0), 0, 0
    verb, *options = COMMANDS["held out"]
    command = [verb, str(data), *options, "--run"]
    main([*command, str(tmp_path / "first")])
    began = time.monotonic()
    main([*command, str(tmp_path / "whole")])
    took = time.monotonic() - began
    wanted = outcome(tmp_path / "whole")
    while kills < 100:
        cut = tmp_path / f"cut-{runs}"
        while killed_after([*command, str(cut), "--resume"], drawn.uniform(0, 0.7 * took)):
            kills += 1
        run_until([*command, str(cut), "--resume"], cut, None)  # it may have failed, and says so
        assert outcome(cut) == wanted
        runs += 1
