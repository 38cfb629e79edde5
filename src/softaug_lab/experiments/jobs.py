"""Run a comparison in several processes of this machine, each run in one of its own.

A run depends on its recipe and data alone, so its results are those of runs one after another: bit
for bit on a CPU with as many threads for each.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
from torch.multiprocessing import get_context

from softaug_lab.basics.errors import SoftaugError, UsageError
from softaug_lab.basics.machine import cores
from softaug_lab.basics.processes import Processes, choose_device
from softaug_lab.data import Data
from softaug_lab.experiments.apart import logged_warnings, name_of, report_epochs, stopped
from softaug_lab.experiments.run_one import is_outdated, run_one
from softaug_lab.recipes import Recipe
from softaug_lab.runs import RunFolder
from softaug_lab.training import Progress, caught_signals

POLL_SECONDS = 0.5
STOP_SECONDS = 60  # for runs to finish their step and write a checkpoint, before they are killed


@dataclass
class _Job:
    """A run in a process, which sends what it had to say when it is over.

    place: below the number of runs at a time; those that train together differ in it.
    """

    recipe: Recipe
    run: RunFolder
    place: int
    process: Any
    results: Connection
    epochs: int = 0

    @property
    def over(self) -> bool:
        """Whether the process has something to say, for which it may wait to be heard, or ended."""
        return self.results.poll() or not self.process.is_alive()


def run_jobs(
    pairs: Sequence[tuple[Recipe, RunFolder]],
    data: Data,
    device: str,
    jobs: int,
    watch: Callable[[Recipe, Progress], None],
    warn: Callable[[str], None],
) -> None:
    """Run every unfinished run, `jobs` at a time, in this order.

    device: by its name; of several GPUs each run takes one that no other run has, while there is
    one. On a CPU the threads are divided among the runs. watch: called after each epoch; warn:
    with the warnings of each run.

    The first error stops the other runs, which write a checkpoint. Raises SoftaugError, naming arm
    and seed, for a run that failed, InterruptedRunError on Ctrl-C and SIGTERM.
    """
    waiting = [(recipe, run) for recipe, run in pairs if not run.finished or is_outdated(run)]
    running: list[_Job] = []
    jobs = min(jobs, len(waiting))
    with caught_signals() as caught:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    place = min(set(range(jobs)) - {job.place for job in running})
                    running.append(_begin(*waiting.pop(0), place, data, device, jobs))
                ends = [end for job in running for end in (job.results, job.process.sentinel)]
                wait(ends, POLL_SECONDS)
                if caught:
                    raise stopped(pairs, caught[0])
                for job in running:
                    job.epochs = report_epochs(job.recipe, job.run, data, job.epochs, watch)
                for job in [job for job in running if job.over]:
                    running.remove(job)
                    _finish(job, warn)
        finally:
            _stop(running)


def device_of(device: str, place: int) -> str:
    """Choose the device of a run by its place: of several GPUs one that no other run has."""
    chosen = choose_device(device)
    if chosen.type == "cuda" and chosen.index is None and torch.cuda.device_count() > 1:
        return f"cuda:{place % torch.cuda.device_count()}"
    return str(chosen)


def side_by_side(device: torch.device, jobs: int) -> int:
    """Count how many of so many runs at a time do not wait for each other.

    That is one on each GPU, and on a CPU as many as its cores allow.
    """
    if device.type == "cpu":
        return max(1, min(jobs, cores() // threads_of(jobs)))
    one = device.type != "cuda" or device.index is not None
    return 1 if one else min(jobs, torch.cuda.device_count())


@contextlib.contextmanager
def threads_of_one(jobs: int) -> Iterator[None]:
    """Take as many threads within as each of so many runs at a time has."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads_of(jobs))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def threads_of(jobs: int) -> int:
    """Divide the threads of this process among so many runs."""
    return max(1, torch.get_num_threads() // jobs)


def _begin(recipe: Recipe, run: RunFolder, place: int, data: Data, device: str, jobs: int) -> _Job:
    # A forked process can use neither CUDA nor OpenMP. Tensors are in memory that all share.
    context = get_context("spawn")
    results, there = context.Pipe(duplex=False)
    arguments = (recipe, run, data, device_of(device, place), threads_of(jobs), there)
    process = context.Process(target=_perform, args=arguments, daemon=True)
    process.start()
    there.close()  # so that the end of the process is the end of the pipe
    return _Job(recipe, run, place, process, results)


def _perform(
    recipe: Recipe, run: RunFolder, data: Data, device: str, threads: int, results: Connection
) -> None:
    """Perform one run in a process of its own; send its error, or None, and its warnings."""
    # Ctrl-C reaches all processes of a terminal; the first one decides, and sends SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    error: tuple[type[SoftaugError], str] | None = None
    with logged_warnings() as messages:
        try:
            run_one(recipe, data, run, Processes(choose_device(device)), lambda _: None)
        except SoftaugError as caught:
            kind = UsageError if isinstance(caught, UsageError) else SoftaugError
            error = kind, str(caught)
        except Exception as caught:  # as from a task on Ray: one line, and no traceback
            error = SoftaugError, f"{type(caught).__name__}: {' '.join(str(caught).split())}"
    with contextlib.suppress(OSError):  # the first process was killed: nobody hears
        results.send((error, messages))


def _end_with_parent() -> None:
    """End this process as `_stop` does once its parent has ended, which SIGKILL does unheard."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def _finish(job: _Job, warn: Callable[[str], None]) -> None:
    """Tell a finished run's warnings; raise its error, with the arm and the seed."""
    name = name_of(job.recipe)
    try:
        error, messages = job.results.recv()
    except EOFError:
        job.process.join()
        ending = _ending(job.process.exitcode)
        text = f"its process ended with {ending}; the same command goes on with it"
        error, messages = (SoftaugError, text), []
    job.process.join()
    for message in messages:
        warn(f"{name}: {message}")
    if error is not None:
        kind, text = error
        raise kind(f"{name}: {text}")


def _ending(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def _stop(running: Sequence[_Job]) -> None:
    """Let runs finish their step and write a checkpoint; kill those that take too long."""
    for job in running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(job.process.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    for job in running:
        job.process.join(max(0.0, deadline - time.monotonic()))
        if job.process.is_alive():
            job.process.kill()
