"""One run from its recipe to its record: train, evaluate, save; a finished run is not repeated."""

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from softaug_lab.basics.errors import UsageError
from softaug_lab.basics.machine import keep_freed_memory
from softaug_lab.basics.processes import Processes
from softaug_lab.basics.storage import held, read_json
from softaug_lab.data import Data, ImageSet, halves, load
from softaug_lab.evaluation import (
    Evaluation,
    Fills,
    Predictions,
    ProbeErrors,
    evaluate,
    features_of,
    has_views,
    mean_of,
    probe_errors,
    probe_run,
    refuse_stream,
    save_probed,
    summarise,
)
from softaug_lab.models import load_model, save_model
from softaug_lab.recipes import Recipe, member_of
from softaug_lab.runs import RunFolder, open_run
from softaug_lab.training import Progress, fit, stopped_by_signals

log = logging.getLogger(__name__)

CLOTHES = 200  # images of the embedded demo among the fills
BY_CHANCE = 10.0  # NLL that no chance reaches: that of 22,000 classes
MEMBER_SEEDS = 1_000_000  # between the seeds of an ensemble's members: no two ensembles share one
Watch = Callable[[Progress], None]
Train = Callable[[Recipe, Data, RunFolder, Processes, Watch], None]


@dataclass(frozen=True)
class RunRecord:
    """The results of a finished run, as its files hold them.

    history: a record for each epoch. evaluation: the fields of an Evaluation and, without labels,
    those of the probe. corruptions, ood: None where not measured.
    """

    arm: str
    seed: int
    history: list[dict[str, Any]]
    evaluation: dict[str, Any]
    corruptions: dict[str, Any] | None
    ood: dict[str, Any] | None

    @property
    def seconds(self) -> float:
        """The training time."""
        return float(self.history[-1]["seconds"])

    @property
    def images_per_second(self) -> float:
        """The mean training speed."""
        return float(self.history[-1]["images_per_second"])


def run_one(
    recipe: Recipe,
    data: Data,
    run: RunFolder,
    processes: Processes,
    watch: Watch,
    train: Train = fit,
) -> RunRecord:
    """Train and evaluate a recipe in its run folder, and return the record of the run.

    A finished run is only read, a trained one only evaluated, an interrupted one resumed. One that
    an earlier version finished, without views, is evaluated again. watch: called after each
    training step. train: trains instead of `training.fit`. Raises UsageError where another process
    holds the folder.
    """
    if not run.finished or is_outdated(run):
        with held(run.folder) if processes.main else nullcontext():
            _perform(recipe, data, run, processes, watch, train)
    return read_record(run)


def _perform(
    recipe: Recipe,
    data: Data,
    run: RunFolder,
    processes: Processes,
    watch: Watch,
    train: Train,
) -> None:
    """Train what is not trained, and write the evaluation."""
    keep_freed_memory()  # here for the processes of jobs and of Ray, which no command line began
    if recipe.parsed_arm.members > 1:
        evaluation, predictions = _run_members(recipe, data, run, processes, watch, train)
    else:
        if not run.model_file.exists():
            _train(recipe, data, run, processes, watch, train)
        if processes.main:
            log.info(
                "%s: trained; evaluated on %s test images now", run.folder, f"{len(data.test):,}"
            )
        with stopped_by_signals(f"{run.folder}: trained, but stopped in its evaluation"):
            evaluation, predictions = _evaluate(run, data, processes)
    if processes.main:
        predictions.save(run.predictions_file)
        if run.probe_file.exists():
            evaluation = replace(evaluation, probe=ProbeErrors.load(run.probe_file))
        run.remove_checkpoints()  # the model is whole; a finished run is not looked at again
        evaluation.save(run.evaluation_file)
    processes.wait()


def is_outdated(run: RunFolder) -> bool:
    """Whether an earlier version evaluated the run, whose models are still there."""
    if has_views(run.evaluation_file) or not any(file.exists() for file in run.model_files):
        return False
    log.warning("%s: evaluated by an earlier version; its model is evaluated again", run.folder)
    return True


def read_record(run: RunFolder) -> RunRecord:
    """Read the record of a finished run from its files."""
    recipe = run.recipe()
    return RunRecord(
        recipe.arm,
        recipe.seed,
        run.history(),
        read_json(run.evaluation_file),
        read_json(run.corruptions_file) if run.corruptions_file.exists() else None,
        read_json(run.ood_file) if run.ood_file.exists() else None,
    )


def require_trainable(recipe: Recipe, data: Data) -> None:
    """Raise UsageError, before any work, where the data lack what the recipe's arm needs.

    Without labels that is all images in memory; to learn a curve, held-out images.
    """
    if recipe.parsed_arm.self_supervised:
        refuse_stream(data)
    if recipe.parsed_arm.targets == "learned" and data.held_out is None:
        raise UsageError(
            f"arm {recipe.arm!r} learns its curve from held-out images, and there are none; "
            "--held-out 0.05 sets 5 % of the training images aside"
        )


def fills_for(data: Data, test: ImageSet | None = None) -> Fills:
    """Make what fills views of the test images: the embedded clothes too, unless they are the data.

    test: the images to show, where they are not those of the data.
    """
    mean, _ = data.pixel_statistics
    clothes = None if data.name == "demo" else load("demo").test.images[:CLOTHES]
    return Fills((test or data.test).images, mean, clothes)


def _train(
    recipe: Recipe,
    data: Data,
    run: RunFolder,
    processes: Processes,
    watch: Watch,
    train: Train,
) -> None:
    """Write the model of a run: trained on labels, or pre-trained with a linear probe as head."""
    require_trainable(recipe, data)
    if not run.backbone_file.exists():
        train(recipe, data, run, processes, watch)
    if not recipe.parsed_arm.self_supervised:
        return
    probe, untrained = probe_run(run, data, partial(features_of, processes=processes))
    if processes.main:
        probe_errors(probe, untrained, data).save(run.probe_file)
        save_probed(run, probe.head)
    processes.wait()


def _evaluate(run: RunFolder, data: Data, processes: Processes) -> tuple[Evaluation, Predictions]:
    """Evaluate a trained run; with held-out images its model is saved with their temperature."""
    model = load_model(run.model_file).to(processes.device)
    evaluation, predictions = evaluate(
        model,
        data.test,
        fills=fills_for(data),
        processes=processes,
        held_out=_for_temperature(run.recipe(), data),
    )
    if processes.main and evaluation.temperature == 1:
        log.warning(
            "%s: the held-out images determine no temperature, as none is wrong; it is 1",
            run.folder,
        )
    if processes.main and model.card.head == "centroids" and evaluation.metrics.nll > BY_CHANCE:
        log.warning(
            "%s: NLL %.0f, worse than chance; a head of centroids learns slowly, so train for more "
            "epochs (docs/other-heads.md)",
            run.folder,
            evaluation.metrics.nll,
        )
    if processes.main and evaluation.temperature is not None:
        card = replace(model.card, temperature=evaluation.temperature)
        save_model(card, model.state_dict(), run.model_file)
    return evaluation, predictions


def _for_temperature(recipe: Recipe, data: Data) -> ImageSet | None:
    """The held-out images; in an arm that learns its curve, the half that the curve ignores."""
    if data.held_out is None or recipe.parsed_arm.targets != "learned":
        return data.held_out
    return halves(data.held_out)[1]


def _run_members(
    recipe: Recipe,
    data: Data,
    run: RunFolder,
    processes: Processes,
    watch: Watch,
    train: Train,
) -> tuple[Evaluation, Predictions]:
    """Train the members of an ensemble as runs within its folder, and average their predictions.

    The history is the mean of the members' histories, and the training time their sum.
    """
    members = []
    for i in range(recipe.parsed_arm.members):
        member = RunFolder(run.folder / f"member-{i}")
        seed = recipe.seed + i * MEMBER_SEEDS
        member_recipe = replace(recipe, arm=member_of(recipe.arm), seed=seed)
        if processes.main:
            source = run.description()["data"]["source"]
            open_run(member.folder, member_recipe, data, source, True, processes.device)
        processes.wait()
        run_one(member_recipe, data, member, processes, watch, train)
        members.append(member)
    if processes.main:
        run.save_history(_mean_history([member.history() for member in members]))
    predictions = mean_of([Predictions.load(member.predictions_file) for member in members])
    return summarise(predictions), predictions


def _mean_history(histories: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Average histories epoch by epoch; seconds are summed."""
    return [
        {
            name: sum(epoch[name] for epoch in epochs) / (1 if name == "seconds" else len(epochs))
            for name in epochs[0]
            if all(name in epoch for epoch in epochs)  # not in one that an earlier version began
        }
        for epochs in zip(*histories, strict=True)
    ]
