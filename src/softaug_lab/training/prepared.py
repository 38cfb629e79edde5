"""Batches with what the model gets to see of them: inputs and targets, on the device."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from softaug import Drawn
from softaug.devices import to_device
from softaug_lab.basics.processes import Processes
from softaug_lab.training.batches import Batch, MemoryBatches, StreamBatches
from softaug_lab.training.objective import Objective
from softaug_lab.training.pace import BLOCK_BYTES, Pace
from softaug_lab.training.progress import State


@dataclass(frozen=True)
class Prepared:
    """A batch, its labels on the device, with inputs [N,...] and targets [N,...].

    index: of its step in the run.
    """

    batch: Batch
    inputs: Tensor
    targets: Tensor
    index: int


def prepare(
    batches: MemoryBatches | StreamBatches,
    objective: Objective,
    at: State,
    ending: bool,
    pace: Pace,
    processes: Processes,
) -> Iterator[Prepared]:
    """Augment the batches that an epoch has left, a block of them at once, on the device.

    at: epoch and position of the first one. ending: whether the epoch is one of the recipe's
    `end_epochs`. A block costs as many launches as a batch, and gives the same pixels.
    """
    block = 1 if objective.one_by_one else block_of(pace, batches, processes)
    left = batches.epoch(at.epoch, objective.transform(ending), at.position, block)
    first = at.epoch * batches.steps + at.position
    while group := list(islice(left, block)):
        whole = _moved(_joined(group), processes.device)
        inputs, targets = objective.inputs_and_targets(whole, ending)
        sizes = [len(batch.labels) for batch in group]
        parts = zip(
            group,
            whole.labels.split(sizes),
            inputs.split(sizes),
            targets.split(sizes),
            strict=True,
        )
        for index, (batch, labels, some_inputs, some_targets) in enumerate(parts, first):
            both = objective.of_batch(some_inputs, some_targets, index, ending)
            yield Prepared(replace(batch, labels=labels), *both, index)
        first += len(group)


def block_of(pace: Pace, batches: MemoryBatches | StreamBatches, processes: Processes) -> int:
    """Count the batches of a block, as many in all processes: for each, streams exchange sums."""
    share = math.ceil(batches.batch_size / processes.count)
    return max(1, min(pace.block, BLOCK_BYTES // max(1, share * batches.image_bytes)))


def _moved(batch: Batch, device: torch.device) -> Batch:
    """Copy images, labels and maps of objects to a device, unless they are there."""
    return replace(
        batch,
        images=to_device(batch.images, device),
        labels=to_device(batch.labels, device),
        objects=None if batch.objects is None else to_device(batch.objects, device),
    )


def _joined(group: list[Batch]) -> Batch:
    """Several batches as one."""
    first, *others = group
    if not others:
        return first
    return replace(
        first,
        images=torch.cat([batch.images for batch in group]),
        labels=torch.cat([batch.labels for batch in group]),
        drawn=_joined_draws([batch.drawn for batch in group]),
        count=sum(batch.count for batch in group),
        objects=None
        if first.objects is None
        else torch.cat([batch.objects for batch in group if batch.objects is not None]),
    )


def _joined_draws(group: list[Drawn]) -> Drawn:
    def join(values: list[Any]) -> Any:
        return _joined_draws(values) if isinstance(values[0], dict) else torch.cat(values)

    return {name: join([drawn[name] for drawn in group]) for name in group[0]}
