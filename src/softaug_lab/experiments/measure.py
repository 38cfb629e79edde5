"""Further measurements of finished runs: corrupted images, out-of-distribution images."""

from collections.abc import Callable, Sequence
from dataclasses import asdict

import torch
from torch import Tensor

from softaug_lab.basics.processes import Processes
from softaug_lab.basics.storage import read_json, write_json
from softaug_lab.data import Data
from softaug_lab.evaluation import Ensemble, Predictions, evaluate_corruptions, load_run
from softaug_lab.metrics import detect, detect_by
from softaug_lab.models import load_model, own_score, predict_logits
from softaug_lab.runs import RunFolder

AT_ONCE = 8  # models in memory; a kill loses the measurements of so many


def measure_corruptions(
    runs: Sequence[RunFolder],
    data: Data,
    processes: Processes,
    watch: Callable[[str, int], None] = lambda *_: None,
) -> None:
    """Evaluate finished runs on corrupted test images, those that are not measured yet.

    The images are made once for AT_ONCE runs, whose results are then written.
    """
    left = [run for run in runs if not run.corruptions_file.exists()]
    processes.wait()  # until all processes have looked, since one is about to write
    for first in range(0, len(left), AT_ONCE):
        group = left[first : first + AT_ONCE]
        models = [load_run(run).to(processes.device) for run in group]
        results = evaluate_corruptions(models, data.test, processes, watch=watch)
        if processes.main:
            for run, result in zip(group, results, strict=True):
                write_json(run.corruptions_file, result)
        processes.wait()


def measure_ood(
    run: RunFolder, test: Tensor, other: Tensor, name: str, processes: Processes
) -> None:
    """Measure how well a finished run separates other images from test images, uint8 [N,C,H,W].

    Once for the same images under the same name.
    """
    images = {"data": name, "images": len(other), "checksum": int(other.sum())}
    measured = run.ood_file.exists() and images.items() <= read_json(run.ood_file).items()
    processes.wait()  # until all processes have looked, since one is about to write
    if measured:
        return
    if processes.main:
        files = [file for file in run.model_files if file.exists()]
        members = [RunFolder(file.parent).predictions_file for file in files]
        known = torch.stack([Predictions.load(file).logits for file in members])
        models = [load_model(file).to(processes.device) for file in files]
        scores = detect(known, torch.stack([predict_logits(model, other) for model in models]))
        results = {score: asdict(result) for score, result in scores.items()}
        if (ours := own_score(Ensemble(models), test)) is not None:
            theirs = own_score(Ensemble(models), other)
            assert theirs is not None
            results["own"] = asdict(detect_by(ours, theirs))
        write_json(run.ood_file, images | results)
    processes.wait()
