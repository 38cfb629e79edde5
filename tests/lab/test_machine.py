"""Other work on the machine decides how threads wait, before torch is there; memory is kept."""

import os
import platform
import resource
import subprocess
import sys
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest
from support import folder

from softaug_lab.basics import machine
from softaug_lab.cli.app import main

QUIET = "cpu  9 9\ncpu0 100 0 50 800 20 1 1 0 0 0\ncpu1 100 0 50 900 20 1 1 0 0 0\nintr 4\n"
BUSY = "cpu  9 9\ncpu0 110 8 52 800 20 1 1 0 0 0\ncpu1 100 0 50 919 21 1 1 0 0 0\nintr 4\n"


@pytest.fixture
def stat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of two cores; torch is not imported yet, and no variable is set."""
    file = tmp_path / "stat"
    file.write_text(QUIET)
    monkeypatch.setattr(machine, "STAT", file)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.delitem(sys.modules, "torch")
    for name in machine.THREAD_VARIABLES:
        monkeypatch.setenv(name, "")  # so that it is removed again
        monkeypatch.delenv(name)
    return file


def test_busy_cores_are_those_of_others_and_not_idle(
    stat: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("softaug_lab.basics.machine.time.sleep", lambda _: stat.write_text(BUSY))
    assert machine.busy_cores(0.2) == (1.0, 2)  # the first core worked 20 of 20 ticks
    stat.write_text(QUIET)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1})
    assert machine.busy_cores(0.2) == (0.0, 1)
    stat.unlink()
    assert machine.busy_cores(0.2) is None


def test_threads_sleep_beside_other_work_alone(stat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softaug_lab.basics.machine.time.sleep", lambda _: None)
    assert machine.wait_without_spinning() is None
    assert "OMP_WAIT_POLICY" not in os.environ
    monkeypatch.setattr("softaug_lab.basics.machine.time.sleep", lambda _: stat.write_text(BUSY))
    said = machine.wait_without_spinning()
    assert said is not None
    assert said.startswith("other work keeps 1.0 of 2 cores busy")
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


@pytest.mark.parametrize("name", machine.THREAD_VARIABLES)
def test_variables_of_the_user_stand(
    name: str, stat: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("softaug_lab.basics.machine.time.sleep", lambda _: stat.write_text(BUSY))
    monkeypatch.setenv(name, "3")
    assert machine.wait_without_spinning() is None
    assert os.environ[name] == "3"


def test_it_is_decided_before_torch_is_imported() -> None:
    program = """
import os
from softaug_lab.basics import machine
machine.busy_cores = lambda seconds: (1.5, 2)
from softaug_lab.cli import main
try:
    main(["train", "nowhere"])
except SystemExit:
    print(os.environ["OMP_WAIT_POLICY"])
"""
    environment = {k: v for k, v in os.environ.items() if k not in machine.THREAD_VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )
    assert "softaug: other work keeps 1.5 of 2" in done.stderr
    assert done.stdout == "PASSIVE\n"


def test_commands_and_runs_keep_freed_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs too, since those of `--jobs` and of Ray are in processes that no command began."""
    called: list[str] = []
    for place in ("cli.app", "experiments.run_one"):
        module = import_module(f"softaug_lab.{place}")  # the package names a function like it
        monkeypatch.setattr(module, "keep_freed_memory", partial(called.append, place))
    folder(tmp_path / "train", range(12))
    folder(tmp_path / "test", range(12, 15))
    main(["train", str(tmp_path), "--epochs", "1", "--run", str(tmp_path / "run")])
    assert called == ["cli.app", "experiments.run_one"]


@pytest.mark.skipif("glibc" not in platform.libc_ver(), reason="the C library is not glibc")
@pytest.mark.parametrize(("setting", "kept"), [({}, True), ({"MALLOC_ARENA_MAX": "4"}, False)])
def test_freed_memory_is_kept_unless_the_user_configures_malloc(
    setting: dict[str, str], kept: bool
) -> None:
    program = """
import resource
from softaug_lab.basics.machine import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def rounds(n):
    before = faults()
    for _ in range(n):
        blocks = [bytearray(2**23) for _ in range(3)]
        del blocks
    return faults() - before

keep_freed_memory()
rounds(3)
print(rounds(20))
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=environment | setting,
    )
    pages = 20 * 3 * 2**23 // resource.getpagesize()  # if each block is new
    assert int(done.stdout) < pages / 100 if kept else int(done.stdout) > pages / 2
