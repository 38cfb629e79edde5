"""One experiment from recipe to figures: train, evaluate, keep; done once, however often asked."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from softaug_lab.basics.processes import Processes
from softaug_lab.basics.storage import read_json, write_json
from softaug_lab.data import Data
from softaug_lab.evaluation import (
    Ensemble,
    Evaluation,
    Fill,
    Predictions,
    evaluate,
    evaluate_corruptions,
    features_of,
    mean_of,
    predict_logits,
    probe_figures,
    probe_run,
    refuse_stream,
    save_probed,
    summarise,
)
from softaug_lab.metrics import detect
from softaug_lab.models import load_model, save_model
from softaug_lab.recipes import Recipe, member_of, read_arm
from softaug_lab.runs import RunFolder, open_run
from softaug_lab.training import Progress, pretrain, train

FAR = 1_000_000  # between the seeds of an ensemble's members, so that no two ensembles share one


def perform(
    recipe: Recipe,
    data: Data,
    run: RunFolder,
    processes: Processes,
    watch: Callable[[Progress], None],
) -> dict[str, Any]:
    """Train and evaluate what is not yet, and return the record of the run.

    A finished run is not touched; a trained one is only evaluated; a begun one goes on.
    """
    if not run.finished:
        if read_arm(recipe.arm).members > 1:
            evaluation, predictions = _perform_members(recipe, data, run, processes, watch)
        else:
            if not run.model_file.exists():
                learn(recipe, data, run, processes, watch)
            model = load_model(run.model_file).to(processes.device)
            fills = occlusion_fills(data)
            evaluation, predictions = evaluate(
                model, data.test, fills=fills, processes=processes, held_out=data.held_out
            )
            if processes.main and evaluation.temperature is not None:
                card = replace(model.card, temperature=evaluation.temperature)
                save_model(card, model.state_dict(), run.model_file)
        if processes.main:
            predictions.save(run.predictions_file)
            probed = read_json(run.probe_file) if run.probe_file.exists() else {}
            write_json(run.evaluation_file, evaluation.as_dict() | probed)
            run.remove_checkpoints()
        processes.wait()
    return record(run)


def fit(
    recipe: Recipe,
    data: Data,
    run: RunFolder,
    processes: Processes,
    watch: Callable[[Progress], None],
) -> None:
    """Take the steps of a recipe: on labels, or without them on data that can be probed after."""
    if read_arm(recipe.arm).self_supervised:
        refuse_stream(data)
        pretrain(recipe, data, run, processes, watch)
    else:
        train(recipe, data, run, processes, watch)


def learn(
    recipe: Recipe,
    data: Data,
    run: RunFolder,
    processes: Processes,
    watch: Callable[[Progress], None],
) -> None:
    """Make the model of a recipe: from labels, or by a probe on what was pre-trained without."""
    if not run.backbone_file.exists():
        fit(recipe, data, run, processes, watch)
    if not read_arm(recipe.arm).self_supervised:
        return
    found, before = probe_run(run, data, partial(features_of, processes=processes))
    if processes.main:
        write_json(run.probe_file, probe_figures(found, before, data))
        save_probed(run, found.head)
    processes.wait()


def _perform_members(
    recipe: Recipe,
    data: Data,
    run: RunFolder,
    processes: Processes,
    watch: Callable[[Progress], None],
) -> tuple[Evaluation, Predictions]:
    """Perform the members of an ensemble as runs of their own within its run, and average them.

    The history is the mean of theirs, and the time their sum.
    """
    members = []
    for i in range(read_arm(recipe.arm).members):
        one = replace(recipe, arm=member_of(recipe.arm), seed=recipe.seed + i * FAR)
        member = RunFolder(run.folder / f"member-{i}")
        if processes.main:
            source = run.description()["data"]["source"]
            open_run(member.folder, one, data, source, resume=True)
        processes.wait()
        perform(one, data, member, processes, watch)
        members.append(member)
    if processes.main:
        run.save_history(_mean_history([member.history() for member in members]))
    predictions = mean_of([Predictions.load(member.predictions_file) for member in members])
    shares = [
        level["actual_share"]
        for level in next(iter(read_json(members[0].evaluation_file)["occlusion"].values()))
    ]
    return summarise(predictions, shares), predictions


def _mean_history(histories: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Epoch by epoch, the mean of each figure; seconds are summed."""
    return [
        {
            name: sum(epoch[name] for epoch in epochs) / (1 if name == "seconds" else len(epochs))
            for name in epochs[0]
        }
        for epochs in zip(*histories, strict=True)
    ]


def measure_corruptions(
    run: RunFolder,
    data: Data,
    processes: Processes,
    watch: Callable[[str, int], None] = lambda *_: None,
) -> None:
    """Evaluate a finished run under corruptions, unless it has been."""
    measured = run.corruptions_file.exists()
    processes.wait()  # until all processes have looked: one is about to write
    if measured:
        return
    models = [load_model(file).to(processes.device) for file in run.model_files if file.exists()]
    model = models[0] if len(models) == 1 else Ensemble(models)
    figures = evaluate_corruptions(model, data.test, processes, watch=watch)
    if processes.main:
        write_json(run.corruptions_file, figures)
    processes.wait()


def measure_ood(run: RunFolder, other: Tensor, name: str, processes: Processes) -> None:
    """Measure how a finished run tells other images, uint8 [N,C,H,W], from the test images.

    Unless it has been, of the same images of that name.
    """
    images = {"data": name, "images": len(other), "checksum": int(other.sum())}
    measured = run.ood_file.exists() and images.items() <= read_json(run.ood_file).items()
    processes.wait()  # until all processes have looked: one is about to write
    if measured:
        return
    if processes.main:
        files = [file for file in run.model_files if file.exists()]
        members = [RunFolder(file.parent).predictions_file for file in files]
        known = torch.stack([Predictions.load(file).logits for file in members])
        models = [load_model(file).to(processes.device) for file in files]
        found = detect(known, torch.stack([predict_logits(model, other) for model in models]))
        figures = {score: asdict(one) for score, one in found.items()}
        write_json(run.ood_file, images | figures)
    processes.wait()


def occlusion_fills(data: Data) -> dict[str, Fill]:
    """What hides a part of the test images: two colours and noise, since it matters which.

    The mean colour of the training images is met by no arm; black is the fill of the crops, so
    that an arm with harsh crops has learned to look past it; noise has the edges and the contrast
    that a plain colour lacks.
    """
    mean, _ = data.pixel_statistics
    return {"mean": mean, "black": (0,), "noise": "noise"}


def record(run: RunFolder) -> dict[str, Any]:
    """What is known of a finished run: arm, seed, speed, history, evaluation, and what else was
    measured of it."""
    recipe, history = run.recipe(), run.history()
    evaluation, further = read_json(run.evaluation_file), {}
    if run.corruptions_file.exists():
        further["corruptions"] = read_json(run.corruptions_file)
        mean = further["corruptions"]["mean"]
        evaluation["corruption_error"] = None if mean is None else mean["top1_error"]
    if run.ood_file.exists():
        further["ood"] = read_json(run.ood_file)
        evaluation["softmax_auroc"] = further["ood"]["softmax"]["auroc"]
        evaluation["energy_auroc"] = further["ood"]["energy"]["auroc"]
    return {
        "arm": recipe.arm,
        "seed": recipe.seed,
        "seconds": history[-1]["seconds"],
        "images_per_second": history[-1]["images_per_second"],
        "history": history,
        "evaluation": evaluation,
        **further,
    }
