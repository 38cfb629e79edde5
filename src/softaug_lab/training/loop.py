"""The training loop: one plain loop for any objective, in one process or many.

All random numbers are keyed: the order and the augmentation of an epoch come from generators keyed
by (seed, epoch). Sample i in epoch e is therefore augmented alike for any batch size and any number
of processes, arms share order and flips, and a resumed run continues exactly where it stopped.
"""

from collections.abc import Callable
from typing import Any

import torch

from softaug_lab.basics.processes import Processes
from softaug_lab.data import Data
from softaug_lab.recipes import Recipe
from softaug_lab.runs import RunFolder
from softaug_lab.training.batches import build_batches
from softaug_lab.training.checkpoints import Checkpoints
from softaug_lab.training.faults import Faults, clone_buffers, restore_buffers
from softaug_lab.training.objective import Objective, build_objective
from softaug_lab.training.progress import Progress, State, Stopwatch
from softaug_lab.training.schedule import Schedule, set_learning_rate
from softaug_lab.training.signals import caught_signals, interruption
from softaug_lab.training.step import Step


def fit(
    recipe: Recipe,
    data: Data,
    run: RunFolder,
    processes: Processes,
    watch: Callable[[Progress], None],
    *,
    objective: Objective | None = None,
    make_step: type[Step] = Step,
    checkpoint_seconds: float = 300,
) -> None:
    """Train a recipe's model in a run folder, from its last checkpoint if there is one.

    Writes the model of the last epoch. watch: called after each step. objective: in place of the
    one of the recipe's arm. checkpoint_seconds: between checkpoints within an epoch.
    Raises InterruptedRunError on Ctrl-C and SIGTERM, after writing a checkpoint, and SoftaugError
    when the loss or its gradient is not finite or memory runs out.
    """
    objective = objective or build_objective(recipe, data, processes)
    step = make_step(recipe, objective, processes)
    optimizer = objective.optimizer(step.model)
    batches = build_batches(recipe, data, processes)
    schedule = Schedule(recipe, objective.lr, batches.steps)
    faults = Faults(data, run, schedule)
    checkpoints = Checkpoints(run, objective, step, optimizer, checkpoint_seconds)
    at, history = checkpoints.resume()
    stopwatch = Stopwatch()
    with caught_signals() as caught, torch.random.fork_rng(devices=[]):
        for epoch in range(at.epoch, recipe.epochs):
            ending = epoch >= recipe.epochs - recipe.end_epochs
            for batch in batches.epoch(epoch, objective.transform(ending), at.position):
                number = at.step(schedule)
                at.unreadable = faults.count_unreadable(at.unreadable, batch)
                set_learning_rate(optimizer, schedule.learning_rate(number))
                buffers = clone_buffers(step.model) if recipe.skip_nonfinite else []
                optimizer.zero_grad()
                outputs, loss = step.gradients(batch, number, ending)
                sums = step.sums(outputs, loss, batch, stop=bool(caught), due=checkpoints.due)
                if sums.finite:
                    optimizer.step()
                    objective.after_step(outputs, batch)
                else:
                    faults.skip_or_stop(number, at.skipped + 1, sums.mean_loss, batch)
                    restore_buffers(step.model, buffers)
                at.advance(sums, stopwatch.lap())
                watch(at.progress(schedule, sums.mean_loss))
                if sums.stop or sums.due:
                    checkpoints.save(at)
                if sums.stop:
                    raise interruption(run.folder, number + 1, schedule.steps, caught)
            history.append(_epoch_log(at, objective, schedule, optimizer, ending))
            at.next_epoch()
            objective.next_epoch()
            if processes.main:
                run.save_history(history)
            checkpoints.save(at)
    weights = checkpoints.weights()
    if processes.main:
        objective.save(weights, run)
    processes.wait()


def _epoch_log(
    at: State,
    objective: Objective,
    schedule: Schedule,
    optimizer: torch.optim.Optimizer,
    ending: bool,
) -> dict[str, Any]:
    """Make the epoch's line of metrics.jsonl."""
    loss, *means = at.means()
    return {
        "epoch": at.epoch + 1,
        "loss": loss,
        **objective.epoch_log(means),
        "lr": optimizer.param_groups[0]["lr"],
        "end_phase": ending,
        "unreadable_images": at.unreadable,
        "skipped_steps": at.skipped,
        "images_per_second": at.images_per_second(schedule),
        "seconds": at.seconds,
    }
