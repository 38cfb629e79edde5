"""A comparison's runs as tasks of a Ray cluster that is there already, each in its own process.

A run draws on its recipe and data alone, so it comes out as it would here: bitwise on a CPU of the
same kind, where a task has as many threads. Run folders must lie where every machine sees
them; checkpoints, metrics and figures stay there, and nothing of them passes through Ray.
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
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from softaug_lab.basics.errors import SoftaugError, UsageError
from softaug_lab.basics.processes import Processes, choose_device
from softaug_lab.data import Data
from softaug_lab.experiments.run_one import perform
from softaug_lab.recipes import Recipe
from softaug_lab.runs import RunFolder
from softaug_lab.training import InterruptedRunError, Progress, build_feed, caught_signals

try:
    # Its default is to try an address where nothing answers for a quarter of an hour.
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")
    import ray
    from ray.exceptions import RayError, RayTaskError
    from ray.util import deregister_serializer, register_serializer
except ImportError as error:
    raise UsageError("--on ray needs Ray; pip install 'softaug[ray]' brings it") from error

RETRIES = 3  # of a run whose worker was lost; each goes on from the last checkpoint
POLL_SECONDS = 1
STOP_SECONDS = 60  # for the step and the checkpoint of what is cancelled
PATIENCE_SECONDS = 90  # longer than NFS remembers that a file was not there
log = logging.getLogger(__name__)


@contextlib.contextmanager
def cluster() -> Iterator[None]:
    """Join the cluster of RAY_ADDRESS, or the one that runs on this machine, and leave it after.

    Begins none: what it may use of a machine is for its owner to say. Raises SoftaugError where
    none is found.
    """
    try:
        try:
            ray.init("auto", log_to_driver=False, logging_level=logging.ERROR)
        except ConnectionError as error:
            raise SoftaugError(
                f"no Ray cluster at {os.environ.get('RAY_ADDRESS') or 'this machine'}; begin one "
                "with `ray start --head`, or name one in RAY_ADDRESS"
            ) from error
        # Ray tells of lost workers on the output, which is for results.
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        ray.shutdown()  # of what was begun of a session, too


def perform_all(
    pairs: Sequence[tuple[Recipe, RunFolder]],
    data: Data,
    device: str,
    watch: Callable[[Recipe, Progress], None],
) -> None:
    """Perform every run that is not finished as a task of the cluster joined, in this order.

    device: by its name; `auto` takes a GPU for each task where the cluster has any, else as many
    CPUs as torch has threads here. watch: told of each epoch.

    The first error cancels the other runs, as one would stop them here; those under way leave a
    checkpoint. Raises SoftaugError that names the arm and the seed of what failed, or that was lost
    too often, and InterruptedRunError on Ctrl-C and SIGTERM.
    """
    resources = _resources(device)
    shared = _put(data)
    pending = {
        _perform.options(name=_name(recipe), max_retries=RETRIES, **resources).remote(
            recipe, shared, run.folder.resolve(), device, resources["num_cpus"]
        ): (recipe, run)
        for recipe, run in pairs
        if not run.finished
    }
    epochs = dict.fromkeys((run.folder for _, run in pending.values()), 0)
    with caught_signals() as caught:
        try:
            while pending:
                done, _ = ray.wait(list(pending), timeout=POLL_SECONDS)
                for recipe, run in pending.values():
                    epochs[run.folder] = _tell(recipe, run, data, epochs[run.folder], watch)
                for reference in done:
                    recipe, run = pending.pop(reference)
                    for message in _outcome(reference, recipe):
                        log.warning("%s: %s", _name(recipe), message)
                if caught:
                    finished = sum(run.finished for _, run in pairs)
                    raise InterruptedRunError(
                        f"stopped after {finished} of {len(pairs)} runs, those under way "
                        "with a checkpoint",
                        caught[0],
                    )
        finally:
            _cancel(list(pending))
    _await_files([run for _, run in pairs])


@ray.remote
def _perform(recipe: Recipe, data: Data, folder: Path, device: str, threads: int) -> list[str]:
    """The task: one run, in a worker's main thread. Returns what the library logged."""
    run = RunFolder(folder)
    # Now rather than after hours of work that nobody would find.
    if not (folder / "recipe.json").exists() or run.recipe() != recipe:
        raise SoftaugError(
            f"{folder}: not seen from {platform.node()}; --run must name a folder on a file system "
            "that all machines of the cluster share"
        )
    torch.set_num_threads(threads)
    with _heard() as messages:
        try:
            perform(recipe, data, run, Processes(choose_device(device)), lambda _: None)
        except InterruptedRunError as error:
            # Ray cancels by SIGINT. SIGTERM is for the worker: it goes, and another goes on.
            if error.signal_number == signal.SIGTERM:
                raise SystemExit from error
    return messages


@contextlib.contextmanager
def _heard() -> Iterator[list[str]]:
    """A list of the warnings that the library logs meanwhile."""
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("softaug_lab")
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)


def _resources(device: str) -> dict[str, int]:
    """What a task takes of a machine: a GPU, or as many CPUs as torch has threads here."""
    gpus = ray.cluster_resources().get("GPU", 0)
    if device.startswith("cuda") or (device == "auto" and gpus):
        if not gpus:
            log.warning("the cluster has no GPU; waiting for one that may join")
        return {"num_cpus": 1, "num_gpus": 1}
    largest = max(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
    threads = torch.get_num_threads()
    # A head without CPUs has machines join on demand, of a size that is not known yet.
    return {"num_cpus": min(threads, largest or threads), "num_gpus": 0}


def _put(data: Data) -> "ray.ObjectRef[Data]":
    """The data in the cluster's memory, once for each machine, however many tasks read them."""
    # Ray copies tensors into every task, arrays it does not.
    register_serializer(Tensor, serializer=Tensor.numpy, deserializer=_tensor)
    try:
        return ray.put(data)
    finally:
        deregister_serializer(Tensor)


def _tensor(array: np.ndarray) -> Tensor:
    """A tensor over an array's own memory, which is shared and not to be written to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def _tell(
    recipe: Recipe,
    run: RunFolder,
    data: Data,
    known: int,
    watch: Callable[[Recipe, Progress], None],
) -> int:
    """Tell the watcher of epochs after the `known`; how many there are now."""
    try:
        history = run.history()
    except OSError:  # NFS, of a file that is replaced while it is read; there is a next time
        return known
    if len(history) > known:
        last = history[-1]
        steps = build_feed(recipe, data, Processes(torch.device("cpu"))).steps
        done, loss, pace = last["epoch"], last["loss"], last["images_per_second"]
        watch(recipe, Progress(done * steps, recipe.epochs * steps, done, loss, pace))
    return len(history)


def _outcome(reference: "ray.ObjectRef[list[str]]", recipe: Recipe) -> list[str]:
    """What a task that ended returned, or its error with the arm and the seed."""
    try:
        return ray.get(reference)
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, SoftaugError):
            raise type(cause)(f"{_name(recipe)}: {cause}") from error
        text = f"{type(cause).__name__}: {' '.join(str(cause).split())}"
        raise SoftaugError(f"{_name(recipe)}: {text}") from error
    except RayError as error:
        reason, _, _ = str(error).partition("\n")
        raise SoftaugError(
            f"{_name(recipe)}: not done in {1 + RETRIES} attempt(s) ({type(error).__name__}: "
            f"{reason}); the same command goes on with it"
        ) from error


def _name(recipe: Recipe) -> str:
    return f"{recipe.arm} seed {recipe.seed}"


def _cancel(references: list["ray.ObjectRef[list[str]]"]) -> None:
    """Take back what waits, and have what runs write its checkpoint."""
    # From the last, so that none begins where another has just stopped.
    for reference in reversed(references):
        ray.cancel(reference)
    if references:
        ray.wait(references, num_returns=len(references), timeout=STOP_SECONDS)


def _await_files(runs: Sequence[RunFolder]) -> None:
    """Go on when all finished runs are seen here; raises SoftaugError where they never are."""
    patience = time.monotonic() + PATIENCE_SECONDS
    while missing := [run for run in runs if not run.finished]:
        if time.monotonic() > patience:
            raise SoftaugError(
                f"{missing[0].folder}: finished by a task, and not seen here; --run must name a "
                "folder on a file system that all machines of the cluster share"
            )
        time.sleep(POLL_SECONDS)
