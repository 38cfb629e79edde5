"""Training: one plain loop, top to bottom, for one process or many and for any objective.

All that is random is keyed: the order and the augmentation of an epoch come from generators keyed
by (seed, epoch), so that sample i in epoch e is augmented alike whatever the batch size and the
number of processes, arms share order and flips, and a resumed run goes on exactly where it stopped.
"""

import logging
import math
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from softaug import SoftAugment, per_sample
from softaug_lab.basics.errors import SoftaugError
from softaug_lab.basics.processes import Processes
from softaug_lab.basics.seeds import key
from softaug_lab.data import Data
from softaug_lab.models import Classifier, ModelCard, build, save_model
from softaug_lab.recipes import Recipe
from softaug_lab.runs import RunFolder
from softaug_lab.training.augmentation import build_arm, build_end_phase
from softaug_lab.training.batches import MemoryFeed, StreamFeed
from softaug_lab.training.faults import (
    count_unreadable,
    is_out_of_memory,
    out_of_memory,
    skip_or_stop,
)
from softaug_lab.training.objective import Objective
from softaug_lab.training.progress import Progress, State
from softaug_lab.training.signals import InterruptedRunError, caught_signals
from softaug_lab.training.step import (
    autocast_dtype,
    backward,
    gradient_norm,
    learning_rate,
    local_parts,
)
from softaug_lab.training.supervised import Supervised

CHECKPOINT_SECONDS = 300  # between checkpoints within an epoch
log = logging.getLogger(__name__)


def train(
    recipe: Recipe,
    data: Data,
    run: RunFolder,
    processes: Processes,
    watch: Callable[[Progress], None],
) -> None:
    """Train a recipe's model on labels in a run folder, going on from its checkpoint if any.

    The model of the last epoch is then in the folder. Raises as `optimise` does.
    """
    _, height, width = data.image_shape
    objective = Supervised(
        recipe,
        processes,
        _over_processes(build_arm(recipe, data.num_classes, height, width), processes),
        build_end_phase(recipe, data.num_classes),
    )
    model = initial_model(recipe, data)
    weights = optimise(objective, model, recipe, data, run, processes, watch)
    if processes.main:
        save_model(model.card, weights, run.model_file)
    processes.wait()


def optimise(
    objective: Objective,
    model: nn.Module,
    recipe: Recipe,
    data: Data,
    run: RunFolder,
    processes: Processes,
    watch: Callable[[Progress], None],
) -> dict[str, Tensor]:
    """Minimise an objective in a run folder, going on from its checkpoint if there is one.

    Returns the weights after the last epoch, whole. Raises InterruptedRunError on Ctrl-C and
    SIGTERM, after the checkpoint is written, and SoftaugError when the loss or its gradient is not
    finite or memory runs out.
    """
    device = processes.device
    model = model.to(device)
    if recipe.compile:
        model.compile()
    wrapped = processes.wrap(model)
    optimizer = objective.optimizer(model)
    gradients = partial(
        backward,
        wrapped,
        processes,
        objective.loss,
        dtype=autocast_dtype(recipe, device),
        parts=recipe.accumulate,
    )
    feed = build_feed(recipe, data, processes)
    steps = recipe.epochs * feed.steps
    history = run.history()

    at, saved_state = State(), run.load_checkpoint()
    if saved_state is not None:
        at = State(**saved_state.pop("at"))
        objective.load(saved_state.pop("objective"))
        processes.load(model, optimizer, saved_state)
        history = history[: at.epoch]

    def checkpoint() -> None:
        if not all(weights.isfinite().all() for weights in local_parts(model.parameters())):
            raise SoftaugError(
                f"{run.folder}: weights are not finite in epoch {at.epoch + 1}; try a "
                f"lower --lr (now {recipe.lr})"
            )
        state = processes.state(model, optimizer)
        if processes.main:
            run.save_checkpoint(state | {"at": vars(at), "objective": objective.state()})

    wrapped.train()
    before = saved = time.perf_counter()
    with caught_signals() as caught, torch.random.fork_rng(devices=[]):
        for epoch in range(at.epoch, recipe.epochs):
            ending = epoch >= recipe.epochs - recipe.end_epochs
            for batch in feed.epoch(epoch, objective.transform(ending), at.position):
                step = epoch * feed.steps + at.position
                count_unreadable(at, batch, data)
                torch.manual_seed(key(recipe.seed, step, "dropout", processes.rank))
                lr = learning_rate(recipe, objective.lr, step, steps, feed.steps)
                for group in optimizer.param_groups:
                    group["lr"] = lr

                inputs, targets = objective.prepare(batch, step, ending)
                statistics = [b.clone() for b in model.buffers()] if recipe.skip_nonfinite else []
                optimizer.zero_grad()
                try:
                    outputs, loss = gradients(inputs, targets, batch.count)
                except (RuntimeError, MemoryError) as error:
                    if not is_out_of_memory(error):
                        raise
                    outputs = None
                # Only here, where the error and the tensors that it holds are gone, is memory free.
                if outputs is None:
                    raise out_of_memory(recipe, processes, partial(gradients, inputs, targets, 1))
                figures = objective.figures(outputs, batch)

                now = time.perf_counter()
                due = processes.main and now - saved > CHECKPOINT_SECONDS
                # One sum over the processes, so that all of them take the same turn below, and one
                # wait for the device.
                own = loss.new_tensor([len(outputs), bool(caught), due])
                mine = torch.cat([loss[None], figures, own, gradient_norm(model)[None]])
                *sums, stop, due, norm = processes.total(mine.double()).tolist()
                at.position += 1
                at.sums = at.sums or [0.0] * len(sums)
                mean_loss = sums[0] / batch.count
                if math.isfinite(mean_loss) and math.isfinite(norm):
                    optimizer.step()
                    objective.taken(outputs, batch)
                    at.sums = [old + new for old, new in zip(at.sums, sums, strict=True)]
                else:
                    at.skipped += 1
                    where = f"at step {step + 1} of {steps} (epoch {epoch + 1})"
                    skip_or_stop(recipe, run, at.skipped, where, mean_loss, batch)
                    for buffer, old in zip(model.buffers(), statistics, strict=True):
                        buffer.copy_(old)

                at.seconds += now - before
                before = now
                watch(Progress(step + 1, steps, epoch + 1, mean_loss, at.pace(recipe, feed.steps)))
                if stop or due:
                    checkpoint()
                    saved = time.perf_counter()
                if stop:
                    raise InterruptedRunError(
                        f"{run.folder}: stopped after step {step + 1} of {steps}, "
                        "with a checkpoint",
                        caught[0] if caught else signal.SIGTERM,
                    )
            pace, lr = at.pace(recipe, feed.steps), optimizer.param_groups[0]["lr"]
            history.append(_epoch_record(at, objective, lr, pace, ending))
            at.epoch, at.position = epoch + 1, 0
            at.sums, at.unreadable = [], 0
            objective.next_epoch()
            if processes.main:
                run.save_history(history)
            checkpoint()
            saved = time.perf_counter()
    weights: dict[str, Tensor] = processes.state(model, optimizer)["model"]
    return weights


def build_feed(recipe: Recipe, data: Data, processes: Processes) -> MemoryFeed | StreamFeed:
    """What gives the batches of a recipe."""
    if data.stream is None:
        return MemoryFeed(data.train, recipe.batch_size, recipe.seed, processes)
    return StreamFeed(data.stream, recipe.batch_size, recipe.seed, processes)


def initial_model(recipe: Recipe, data: Data) -> Classifier:
    """The model with the weights of the recipe's seed, normalised by the training images."""
    channels, height, width = data.image_shape
    card = ModelCard(recipe.model, data.classes, channels, height, width, recipe.pretrained)
    mean, std = data.pixel_statistics
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(recipe.seed, 0, "weights"))
        return build(card, mean, std)


def _over_processes(augment: SoftAugment, processes: Processes) -> SoftAugment:
    """The augmentation with weights that are made from the confidences of the global batch."""
    if augment.weight is None or augment.weight is per_sample:
        return augment
    return replace(augment, weight=processes.over_global_batch(augment.weight))


def _epoch_record(
    at: State, objective: Objective, lr: float, pace: float, ending: bool
) -> dict[str, Any]:
    *sums, count = at.sums
    loss, *means = (one / (count or math.nan) for one in sums)  # 0: every step was left out
    return {
        "epoch": at.epoch + 1,
        "loss": loss,
        **objective.told(means),
        "lr": lr,
        "end_phase": ending,
        "unreadable_images": at.unreadable,
        "skipped_steps": at.skipped,
        "images_per_second": pace,
        "seconds": at.seconds,
    }
