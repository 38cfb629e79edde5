"""Run a comparison on an existing Ray cluster, each run as a task in a process of its own.

A run depends on its recipe and data alone, so its results are those of a local run: bit for bit on
a CPU of the same kind with as many threads. Run folders must be on a file system that all machines
share; checkpoints, histories and results are written there and do not pass through Ray.
"""

import contextlib
import logging
import os
import platform
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from softaug_lab.basics.errors import SoftaugError, UsageError
from softaug_lab.basics.processes import Processes, choose_device
from softaug_lab.data import Data
from softaug_lab.experiments.apart import logged_warnings, name_of, report_epochs, stopped
from softaug_lab.experiments.run_one import run_one
from softaug_lab.recipes import Recipe
from softaug_lab.runs import RunFolder
from softaug_lab.training import InterruptedRunError, Progress, caught_signals

try:
    # By default Ray retries an address without an answer for a quarter of an hour.
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")
    import ray
    from ray.exceptions import RayError, RayTaskError
    from ray.util import deregister_serializer, register_serializer
except ImportError as error:
    raise UsageError("--on ray needs Ray; pip install 'softaug[ray]' brings it") from error

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """How often and how long to wait for tasks.

    retries: of a run whose worker was lost; each resumes from the last checkpoint. stop_seconds:
    for cancelled runs to finish their step and checkpoint. file_seconds: for finished files to
    appear here, longer than NFS caches that a file does not exist.
    """

    retries: int = 3
    poll_seconds: float = 1
    stop_seconds: float = 60
    file_seconds: float = 90


@contextlib.contextmanager
def cluster() -> Iterator[None]:
    """Connect to the cluster at RAY_ADDRESS, or the one on this machine, and disconnect at exit.

    Starts no cluster, since only the owner of a machine can say what Ray may use of it. Raises
    SoftaugError where none is found.
    """
    try:
        try:
            ray.init("auto", log_to_driver=False, logging_level=logging.ERROR)
        except ConnectionError as error:
            raise SoftaugError(
                f"no Ray cluster at {os.environ.get('RAY_ADDRESS') or 'this machine'}; begin one "
                "with `ray start --head`, or name one in RAY_ADDRESS"
            ) from error
        # Ray reports lost workers on stdout, which is for results.
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        ray.shutdown()  # also of a connection that failed halfway


def run_all(
    pairs: Sequence[tuple[Recipe, RunFolder]],
    data: Data,
    device: str,
    watch: Callable[[Recipe, Progress], None],
    limits: Limits = Limits(),
) -> None:
    """Run every unfinished run as a task of the connected cluster, submitted in this order.

    device: by its name; `auto` takes a GPU for each task if the cluster has any, else as many
    CPUs as torch has threads here. watch: called after each epoch.

    The first error cancels the other runs; those in progress write a checkpoint. Raises
    SoftaugError, naming arm and seed, for a run that failed or lost its worker too often, and
    InterruptedRunError on Ctrl-C and SIGTERM.
    """
    resources = task_resources(device)
    shared = put(data)
    pending = {
        _run_task.options(name=name_of(recipe), max_retries=limits.retries, **resources).remote(
            recipe, shared, run.folder.resolve(), device, resources["num_cpus"]
        ): (recipe, run)
        for recipe, run in pairs
        if not run.finished
    }
    epochs = dict.fromkeys((run.folder for _, run in pending.values()), 0)
    with caught_signals() as caught:
        try:
            while pending:
                done, _ = ray.wait(list(pending), timeout=limits.poll_seconds)
                for recipe, run in pending.values():
                    epochs[run.folder] = report_epochs(recipe, run, data, epochs[run.folder], watch)
                for reference in done:
                    recipe, _ = pending.pop(reference)
                    _finish(reference, recipe, limits)
                if caught:
                    raise stopped(pairs, caught[0])
        finally:
            _cancel(list(pending), limits)
    await_files([run for _, run in pairs], limits)


@ray.remote  # type: ignore[untyped-decorator]  # ray is not followed: see pyproject.toml
def _run_task(recipe: Recipe, data: Data, folder: Path, device: str, threads: int) -> list[str]:
    """Run one recipe in a worker's main thread; returns the warnings that were logged."""
    run = RunFolder(folder)
    # Checked before hours of work whose results would be lost.
    if not (folder / "recipe.json").exists() or run.recipe() != recipe:
        raise SoftaugError(
            f"{folder}: not seen from {platform.node()}; --run must name a folder on a file system "
            "that all machines of the cluster share"
        )
    torch.set_num_threads(threads)
    with logged_warnings() as messages:
        try:
            run_one(recipe, data, run, Processes(choose_device(device)), lambda _: None)
        except InterruptedRunError as error:
            # Ray cancels a task by SIGINT. SIGTERM ends the worker, and another one resumes.
            if error.signal_number == signal.SIGTERM:
                raise SystemExit from error
    return messages


def task_resources(device: str) -> dict[str, int]:
    """Return the resources of a task: a GPU, or as many CPUs as torch has threads here."""
    gpus = ray.cluster_resources().get("GPU", 0)
    if device.startswith("cuda") or (device == "auto" and gpus):
        if not gpus:
            log.warning("the cluster has no GPU; waiting for one that may join")
        return {"num_cpus": 1, "num_gpus": 1}
    largest = max(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
    threads = torch.get_num_threads()
    # Without CPUs in the cluster, machines of unknown size join on demand.
    return {"num_cpus": min(threads, largest or threads), "num_gpus": 0}


def put(data: Data) -> "ray.ObjectRef[Data]":
    """Put the data into the cluster's memory, once for each machine whatever its tasks."""
    # Ray copies tensors into every task, but shares NumPy arrays.
    register_serializer(Tensor, serializer=Tensor.numpy, deserializer=_tensor)
    try:
        return ray.put(data)
    finally:
        deregister_serializer(Tensor)


def _tensor(array: np.ndarray) -> Tensor:
    """Make a tensor on an array's memory, which tasks share and must not write to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def _finish(reference: "ray.ObjectRef[list[str]]", recipe: Recipe, limits: Limits) -> None:
    """Log a finished task's warnings, or raise its error, with the arm and the seed."""
    try:
        for message in ray.get(reference):
            log.warning("%s: %s", name_of(recipe), message)
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, SoftaugError):
            raise type(cause)(f"{name_of(recipe)}: {cause}") from error
        text = f"{type(cause).__name__}: {' '.join(str(cause).split())}"
        raise SoftaugError(f"{name_of(recipe)}: {text}") from error
    except RayError as error:
        reason, _, _ = str(error).partition("\n")
        raise SoftaugError(
            f"{name_of(recipe)}: not done in {1 + limits.retries} attempt(s) "
            f"({type(error).__name__}: {reason}); the same command goes on with it"
        ) from error


def _cancel(references: list["ray.ObjectRef[list[str]]"], limits: Limits) -> None:
    """Cancel waiting tasks, and let running ones write their checkpoint."""
    # From the last, so that no waiting task starts in place of a cancelled one.
    for reference in reversed(references):
        ray.cancel(reference)
    if references:
        ray.wait(references, num_returns=len(references), timeout=limits.stop_seconds)


def await_files(runs: Sequence[RunFolder], limits: Limits) -> None:
    """Wait until the files of all runs appear here; raises SoftaugError if they do not."""
    deadline = time.monotonic() + limits.file_seconds
    while missing := [run for run in runs if not run.finished]:
        if time.monotonic() > deadline:
            raise SoftaugError(
                f"{missing[0].folder}: finished by a task, and not seen here; --run must name a "
                "folder on a file system that all machines of the cluster share"
            )
        time.sleep(limits.poll_seconds)
