"""Further measurements of finished runs: corrupted images, out-of-distribution images."""

from collections.abc import Callable
from dataclasses import asdict

import torch
from torch import Tensor

from softaug_lab.basics.processes import Processes
from softaug_lab.basics.storage import read_json, write_json
from softaug_lab.data import Data
from softaug_lab.evaluation import Ensemble, Predictions, evaluate_corruptions, predict_logits
from softaug_lab.metrics import detect
from softaug_lab.models import load_model
from softaug_lab.runs import RunFolder


def measure_corruptions(
    run: RunFolder,
    data: Data,
    processes: Processes,
    watch: Callable[[str, int], None] = lambda *_: None,
) -> None:
    """Evaluate a finished run on corrupted test images, once."""
    measured = run.corruptions_file.exists()
    processes.wait()  # until all processes have looked, since one is about to write
    if measured:
        return
    models = [load_model(file).to(processes.device) for file in run.model_files if file.exists()]
    model = models[0] if len(models) == 1 else Ensemble(models)
    results = evaluate_corruptions(model, data.test, processes, watch=watch)
    if processes.main:
        write_json(run.corruptions_file, results)
    processes.wait()


def measure_ood(run: RunFolder, other: Tensor, name: str, processes: Processes) -> None:
    """Measure how well a finished run separates other images, uint8 [N,C,H,W], from test images.

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
        write_json(run.ood_file, images | results)
    processes.wait()
