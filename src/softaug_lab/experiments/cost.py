"""Estimate what an experiment will cost, from its first steps: parameters, memory, time.

The steps train the real model on the real data and device, in a temporary folder.
"""

import math
import re
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from softaug_lab.basics.errors import UsageError
from softaug_lab.basics.machine import return_freed_memory
from softaug_lab.basics.processes import Processes
from softaug_lab.data import Data
from softaug_lab.evaluation import PASSES
from softaug_lab.experiments.run_one import require_trainable
from softaug_lab.models import Classifier, predict_logits
from softaug_lab.recipes import Recipe, read_arm
from softaug_lab.runs import RunFolder
from softaug_lab.training import (
    AHEAD,
    InterruptedRunError,
    Progress,
    SimSiam,
    fit,
    initial_model,
    resolve,
    rule_of,
)

WARM_UP = 2  # steps before the timed ones
STEPS, SECONDS = 10, 2.0  # of the timed steps, at least: a short burst of other work fills less
MOST_SECONDS = 10.0


@dataclass(frozen=True)
class Cost:
    """The cost of training a recipe.

    peak: of memory, in bytes above what was in use before; None where it cannot be measured.
    """

    steps: int
    seconds_per_step: float
    peak: int | None

    @property
    def seconds(self) -> float:
        return self.steps * self.seconds_per_step


class _EnoughError(Exception):
    """Enough steps are timed."""


def measure(recipe: Recipe, data: Data, processes: Processes) -> Cost:
    """Train a recipe for a few steps, and time those after the warm-up.

    Several processes train together, end at the same step, and return the time of the slowest.
    """
    require_trainable(recipe, data)
    ends = [time.perf_counter()]
    steps = 0
    warm_up = WARM_UP + (0 if data.stream is None else AHEAD)  # batches decoded during the first
    device, in_use = processes.device, _reset_peak(processes.device)

    def watch(step: Progress) -> None:
        nonlocal steps
        steps = step.steps
        ends.append(time.perf_counter())
        if step.step == 1:
            # Before it, the pixel statistics may have needed more memory than any step.
            _reset_peak(device)
        timed, spent = len(ends) - 1 - warm_up, ends[-1] - ends[min(warm_up, len(ends) - 1)]
        enough = (timed >= STEPS and spent > SECONDS) or (timed >= 1 and spent > MOST_SECONDS)
        # Several processes end at the same step, whatever their clocks say.
        if not processes.largest(float(not enough)):
            raise _EnoughError

    try:
        with tempfile.TemporaryDirectory() as folder, suppress(_EnoughError):
            fit(recipe, data, RunFolder(Path(folder)), processes, watch)
    except InterruptedRunError as error:
        raise InterruptedRunError("stopped while measuring the pace", error.signal_number) from None
    peak = _peak(device)
    if device.type == "cuda":  # what was measured is gone, and another process may need its memory
        torch.cuda.empty_cache()
    first = min(warm_up, len(ends) - 2)
    return Cost(
        steps,
        processes.largest((ends[-1] - ends[first]) / (len(ends) - 1 - first)),
        None if peak is None or in_use is None else max(0, peak - in_use),
    )


def plan(
    recipe: Recipe, arms: Sequence[str], seeds: int, data: Data, processes: Processes
) -> dict[str, str]:
    """Estimate the cost of a recipe's arms; returns lines of text by their headings."""
    channels, height, width = data.image_shape
    model = initial_model(recipe, data).to(processes.device)
    costs = _costs(recipe, arms, data, processes)
    evaluation, parameters = _evaluation_seconds(model, recipe, data, processes), _count(model)
    self_supervised = read_arm(arms[0]).self_supervised
    trained = SimSiam(model) if self_supervised else model  # SimSiam removes the last layer
    members = {arm: read_arm(arm).members for arm in arms}
    steps, runs = costs[arms[0]].steps // members[arms[0]], len(arms) * seeds
    training = sum(cost.seconds for cost in costs.values())
    total = seeds * (training + sum(members.values()) * evaluation)
    images = sum(part.images.nbytes for part in (data.train, data.test))
    together = f" of {processes.count} processes" if processes.count > 1 else ""
    return {
        "model": f"{recipe.model}, {parameters:,} parameters"
        + (f"; with the heads of pre-training {_count(trained):,}" if self_supervised else ""),
        "data": f"{data.name}: {data.train_images:,} training and {len(data.test):,} test images "
        f"of {channels} x {height} x {width}, {data.num_classes} classes, {_size(images)}",
        "steps": f"{steps:,} of {recipe.batch_size} images, "
        f"{steps // recipe.epochs:,} in each of {recipe.epochs:,} epochs",
        "schedule": _schedule(recipe, " for 256 images" if self_supervised else ""),
        "memory": _memory(recipe, trained, costs[arms[0]].peak, processes),
        **{
            f"time, {arm}": f"{_duration(cost.seconds)}: "
            f"{recipe.batch_size / cost.seconds_per_step:,.0f} images/s in the first steps"
            + together
            for arm, cost in costs.items()
        },
        "evaluation": f"{_duration(evaluation)} for each model",
        "total": f"{_duration(total)} for {runs:,} runs" if runs > 1 else _duration(total),
    }


@dataclass(frozen=True)
class Pace:
    """What runs cost: the seconds of an epoch of the slowest arm, and those of an evaluation."""

    epoch: float
    evaluation: float

    def epochs(self, seconds: float) -> int:
        """Compute how many epochs of a run fit into its time, which its evaluation shortens."""
        return max(0, int((seconds - self.evaluation) / self.epoch))


def epochs_within(
    minutes: float, recipe: Recipe, arms: Sequence[str], data: Data, processes: Processes
) -> int:
    """Compute how many epochs of the slowest arm, with its evaluation, fit into some minutes.

    Raises UsageError where not even one does.
    """
    check_minutes(minutes)
    pace = pace_within(60 * minutes, recipe, arms, data, processes)
    epochs = pace.epochs(60 * minutes)
    if epochs < 1:
        least = (pace.epoch + pace.evaluation) / 60
        raise UsageError(
            f"--minutes must be at least {_rounded_up(least):g} here, the time of one epoch and "
            f"the evaluation, got {minutes:g}"
        )
    return epochs


def check_minutes(minutes: float) -> None:
    """Raise UsageError where minutes are no time."""
    if not 0 < minutes < math.inf:
        raise UsageError(f"--minutes must be finite and above 0, got {minutes:g}")


def pace_within(
    seconds: float, recipe: Recipe, arms: Sequence[str], data: Data, processes: Processes
) -> Pace:
    """Measure the pace of runs of so many seconds, for which the arms auto may add RandAugment."""
    pace = measure_pace(recipe, arms, data, processes)
    epochs = pace.epochs(seconds)
    by_rule = recipe.augment is None and any(replace(recipe, arm=arm).by_rule for arm in arms)
    if not by_rule or epochs <= recipe.end_epochs:
        return pace
    within = replace(recipe, epochs=epochs)
    if rule_of(within, data).policy == rule_of(recipe, data).policy:
        return pace
    return max(pace, measure_pace(within, arms, data, processes), key=lambda pace: pace.epoch)


def measure_pace(recipe: Recipe, arms: Sequence[str], data: Data, processes: Processes) -> Pace:
    """Measure the pace of a recipe's arms, with the epochs that it has."""
    model = initial_model(recipe, data).to(processes.device)
    evaluation = _evaluation_seconds(model, recipe, data, processes)
    evaluation *= max(read_arm(arm).members for arm in arms)
    costs = _costs(recipe, arms, data, processes).values()
    return Pace(max(cost.seconds for cost in costs) / recipe.epochs, evaluation)


def _rounded_up(value: float) -> float:
    """Round up to two digits that count."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.ceil(value / unit) * unit


def _costs(
    recipe: Recipe, arms: Sequence[str], data: Data, processes: Processes
) -> dict[str, Cost]:
    """Measure every arm; an ensemble takes the steps of all its members."""
    costs = {}
    for arm in arms:
        cost = measure(resolve(replace(recipe, arm=arm), data), data, processes)
        costs[arm] = replace(cost, steps=cost.steps * read_arm(arm).members)
    return costs


def state_bytes(recipe: Recipe, model: nn.Module) -> tuple[int, int, int]:
    """Count the bytes of the weights (with buffers), the gradients and the optimizer's state."""
    trained = [p for p in model.parameters() if p.requires_grad]
    gradients = sum(p.nbytes for p in trained)
    momenta = {"sgd": int(recipe.momentum > 0), "adamw": 2}[recipe.optimizer]
    # AdamW has a step counter for each tensor, in float32.
    counters = 4 * len(trained) if recipe.optimizer == "adamw" else 0
    weights = sum(tensor.nbytes for tensor in model.state_dict().values())
    return weights, gradients, momenta * gradients + counters


def _count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _schedule(recipe: Recipe, per: str) -> str:
    return (
        f"{recipe.optimizer}, lr {recipe.lr:g}{per}, half a cosine to 0; epochs of warm-up: "
        f"{recipe.warmup_epochs:g}, at the end without augmentation: {recipe.end_epochs}"
    )


def _memory(recipe: Recipe, model: nn.Module, peak: int | None, processes: Processes) -> str:
    pieces = processes.count if processes.shard else 1
    parts = [part // pieces for part in state_bytes(recipe, model)]
    names = ("weights", "gradients", "optimizer")
    shown = ", ".join(f"{name} {_size(part)}" for name, part in zip(names, parts, strict=True))
    where = f"on {processes.device}"
    if processes.count > 1:
        where = f"for each of {processes.count} processes, here {where}"
    if peak is None:
        return f"{shown}, activations not measured here; {where}"
    activations = max(0, peak - sum(parts))
    total = _size(sum(parts) + activations)
    return f"{total}: {shown}, activations and workspace {_size(activations)} (measured); {where}"


def _evaluation_seconds(
    model: Classifier, recipe: Recipe, data: Data, processes: Processes
) -> float:
    """Estimate the time of all passes over the test images from one batch, after a warm-up."""
    images = data.test.images[: recipe.batch_size]
    predict_logits(model, images)
    began = time.perf_counter()
    predict_logits(model, images)
    seconds = (time.perf_counter() - began) / len(images) * len(data.test) * PASSES
    return processes.largest(seconds) / processes.count


def _reset_peak(device: torch.device) -> int | None:
    """Reset the peak of memory in use, and return the bytes in use; None where unknown."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    return_freed_memory()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux
        return None
    return _peak(device)


def _peak(device: torch.device) -> int | None:
    """Return the peak of memory in use since the reset, in bytes; None where unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return None
    return 1024 * int(match[1]) if match else None


def _size(number: float) -> str:
    unit = min(3, int(math.log(max(number, 1), 1000)))
    return f"{number / 1000**unit:.3g} {('B', 'kB', 'MB', 'GB')[unit]}"


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"
