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
from softaug_lab.training.faults import Faults
from softaug_lab.training.objective import Objective, build_objective
from softaug_lab.training.pace import Pace, pace_of
from softaug_lab.training.prepared import prepare
from softaug_lab.training.progress import Progress, State
from softaug_lab.training.reports import Reports
from softaug_lab.training.schedule import Schedule
from softaug_lab.training.signals import caught_signals, interruption
from softaug_lab.training.step import Step, broken
from softaug_lab.training.update import Update
from softaug_lab.training.validation import Validation


def fit(
    recipe: Recipe,
    data: Data,
    run: RunFolder,
    processes: Processes,
    watch: Callable[[Progress], None],
    *,
    objective: Objective | None = None,
    make_step: type[Step] = Step,
    pace: Pace | None = None,
) -> None:
    """Train a recipe's model in a run folder, from its last checkpoint if there is one.

    watch: called after each step. objective, pace: in place of the arm's and the device's. Raises
    InterruptedRunError after Ctrl-C and SIGTERM, SoftaugError for a loss that is not finite.
    """
    objective = objective or build_objective(recipe, data, processes)
    pace = pace or pace_of(processes.device)
    step = make_step(recipe, objective, processes)
    optimizer = objective.optimizer(step.model)
    batches = build_batches(recipe, data, processes)
    schedule = Schedule(recipe, objective.lr, batches.steps)
    checkpoints = Checkpoints(run, objective, step, optimizer, pace)
    at, history = checkpoints.resume()
    update = Update(step.model, optimizer, recipe.skip_nonfinite, at.skipped)
    validation = Validation(recipe, data, processes, step.dtype)
    reports = Reports(at, Faults(data, run, schedule), watch, pace.lag)
    with caught_signals() as caught, torch.random.fork_rng(devices=[]):
        for epoch in range(at.epoch, recipe.epochs):
            ending = epoch >= recipe.epochs - recipe.end_epochs
            for prepared in prepare(batches, objective, at, ending, pace, processes):
                schedule.set_rates(optimizer, prepared.index)
                update.begin()
                outputs, loss = step.gradients(prepared)
                sums = step.sums(
                    outputs, loss, prepared.batch, stop=bool(caught), due=checkpoints.due
                )
                taken = update(broken(sums))
                objective.after_step(outputs, prepared.batch, taken)
                reports.add(prepared, sums)
                if reports.stop or reports.due:
                    reports.catch_up()
                    checkpoints.save(at, history)
                if reports.stop:
                    raise interruption(run.folder, at.step(schedule), schedule.steps, caught)
            reports.catch_up()
            history.append(_epoch_log(at, step, schedule, optimizer, ending, validation))
            at.next_epoch()
            objective.next_epoch()
            # After the last epoch no step follows with whose sums a signal could travel.
            reports.stop |= processes.largest(bool(caught)) > 0
            if pace.every_epoch or reports.stop or at.epoch == recipe.epochs:
                checkpoints.save(at, history)
            if reports.stop:
                raise interruption(run.folder, at.step(schedule), schedule.steps, caught)
    objective.finish(batches)
    weights = checkpoints.weights()
    if processes.main:
        objective.save(weights, run)
    processes.wait()


def _epoch_log(
    at: State,
    step: Step,
    schedule: Schedule,
    optimizer: torch.optim.Optimizer,
    ending: bool,
    validation: Validation,
) -> dict[str, Any]:
    """Make the epoch's line of metrics.jsonl."""
    loss, *means = at.means()
    return {
        "epoch": at.epoch + 1,
        "loss": loss,
        **step.objective.epoch_log(means),
        **validation.figures(step.model),
        "lr": optimizer.param_groups[0]["lr"],
        "end_phase": ending,
        "unreadable_images": at.unreadable,
        "skipped_steps": at.skipped,
        "images_per_second": at.images_per_second(schedule),
        "seconds": at.seconds,
    }
