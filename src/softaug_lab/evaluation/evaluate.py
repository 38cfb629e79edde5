"""Evaluate one trained model on one test set: predict, then compute every metric from the logits.

The logits are kept, so that every metric can be recomputed and arms can be compared image by image.
n test images, m held-out images, k classes.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from softaug_lab.basics.processes import Processes
from softaug_lab.data import ImageSet
from softaug_lab.evaluation.fills import Fills
from softaug_lab.evaluation.predictions import (
    LevelLogits,
    Predictions,
    require_finite,
)
from softaug_lab.evaluation.record import Evaluation, Mix, ViewLevel
from softaug_lab.evaluation.views import Views, actual_share, level_views, mixed_views, show
from softaug_lab.metrics import (
    BINS,
    FILL_GROUPS,
    KINDS,
    LOST_SHARES,
    basic_metrics,
    fit_temperature,
    measure,
    mixed_metrics,
    reliability_diagram,
    risk_coverage,
    scale,
    top_confidence,
    top_k_error,
)
from softaug_lab.models import batch_slices, predict_batches, predict_shared

PASSES = 2 + len(KINDS) * len(FILL_GROUPS) * len(LOST_SHARES)  # over the test images, by `evaluate`


def evaluate(
    model: nn.Module,
    test: ImageSet,
    *,
    fills: Fills,
    seed: int = 0,
    bins: int = BINS,
    batch_size: int = 500,
    processes: Processes | None = None,
    held_out: ImageSet | None = None,
    temperature: float | None = None,
) -> tuple[Evaluation, Predictions]:
    """Predict the test images, whole and where they lack a part, and compute all metrics.

    The views depend only on `seed` and on the images' number and size: they are the same for every
    model, batch size and number of processes.

    fills: what the views show beside the image; made of the test images. processes: share the work,
    image by image, and all receive the whole result. held_out: training images that did not train
    the model, to fit the temperature on. temperature: one that was fitted before, where there are
    no held-out images. Raises SoftaugError where logits are not finite.
    """
    processes = processes or Processes(torch.device("cpu"))
    predictions = predict_views(model, test, fills, seed, batch_size, processes)
    if held_out is not None:
        logits = predict_shared(model, held_out.images, processes, batch_size)
        predictions = replace(
            predictions,
            held_out_labels=held_out.labels.cpu(),
            held_out_logits=require_finite(logits, "held-out images"),
        )
    return summarise(predictions, bins, temperature), predictions


def predict_views(
    model: nn.Module,
    test: ImageSet,
    fills: Fills,
    seed: int,
    batch_size: int,
    processes: Processes,
) -> Predictions:
    """Predict the test images whole, at every level of every kind, and once as the mix.

    At each level every image is seen once, with one of its group's fills.
    """
    shape, groups = test.images.shape, fills.groups
    height, width = shape[-2:]

    def predict(views: Views, names: Sequence[str], *key: object) -> Float32[Tensor, "n k"]:
        mine = range(len(test))[processes.share(len(test))]
        # A batch at a time: a test set of photographs need not fit into memory twice.
        slices = (
            slice(mine[rows][0], mine[rows][-1] + 1) for rows in batch_slices(len(mine), batch_size)
        )
        batches = (show(test.images, views, rows, fills, names, *key, seed) for rows in slices)
        (logits,) = predict_batches([model], batches)
        what = "test images " + " ".join(map(str, key))
        return require_finite(processes.gather(logits), what)

    whole = require_finite(predict_shared(model, test.images, processes, batch_size))
    levels = {}
    for kind in KINDS:
        for group, names in groups.items():
            for share in LOST_SHARES:
                views = level_views(kind, share, names, shape, seed, group)
                levels[kind, group, share] = LevelLogits(
                    predict(views, names, kind, share),
                    views.fill,
                    actual_share(kind, share, height, width),
                )
    unseen = groups["unseen"]
    mix = predict(mixed_views(unseen, shape, seed), unseen, "mix")
    return Predictions(test.labels.cpu(), whole, levels, groups, mix)


def summarise(
    predictions: Predictions, bins: int = BINS, temperature: float | None = None
) -> Evaluation:
    """Compute every metric from the kept logits.

    The temperature is fitted on the held-out logits, or else the one given. The figures of views
    are those after it; of whole images there are both. Without one, all are of the plain logits.
    """
    labels, logits = predictions.labels, predictions.logits
    confidence, correct = top_confidence(logits, labels)
    if predictions.held_out_logits is not None and predictions.held_out_labels is not None:
        temperature = fit_temperature(predictions.held_out_logits, predictions.held_out_labels)
    scaled = None if temperature is None else measure(scale(logits, temperature), labels, bins)
    return Evaluation(
        metrics=measure(logits, labels, bins),
        images=len(labels),
        top1_error=top_k_error(logits, labels, k=1),
        top5_error=top_k_error(logits, labels, k=5) if logits.shape[1] > 5 else None,
        ece_bins=bins,
        temperature=temperature,
        scaled=scaled,
        reliability=tuple(reliability_diagram(confidence, correct, bins)),
        risk_coverage=tuple(risk_coverage(confidence, correct)),
        cut_off=_levels_of("cut_off", predictions, bins, temperature),
        hidden=_levels_of("hidden", predictions, bins, temperature),
        mix=_mix(predictions, bins, temperature),
    )


def _levels_of(
    kind: str, predictions: Predictions, bins: int, temperature: float | None
) -> dict[str, tuple[ViewLevel, ...]]:
    """The figures of one kind of view, by the fills' group: a level for each share lost."""
    found: dict[str, list[ViewLevel]] = {}
    for (of, group, share), level in predictions.levels.items():
        if of == kind:
            names = predictions.fills[group]
            figures = _level(share, level, names, predictions.labels, bins, temperature)
            found.setdefault(group, []).append(figures)
    return {group: tuple(levels) for group, levels in found.items()}


def _level(
    share: float,
    level: LevelLogits,
    fills: Sequence[str],
    labels: Tensor,
    bins: int,
    temperature: float | None,
) -> ViewLevel:
    logits = scale(level.logits, temperature or 1.0)
    confidence, correct = top_confidence(logits, labels)
    errors = {
        name: 1 - correct[level.fill == i].double().mean().item()
        for i, name in enumerate(fills)
        if (level.fill == i).any()
    }
    return ViewLevel(
        share=share,
        actual_share=level.actual_share,
        **basic_metrics(logits, labels, bins),
        confidence=confidence.mean().item(),
        worst_error=max(errors.values()),
        fill_errors=errors,
    )


def _mix(predictions: Predictions, bins: int, temperature: float | None) -> Mix | None:
    if predictions.mix_logits is None:
        return None
    logits = scale(predictions.mix_logits, temperature or 1.0)
    figures = mixed_metrics(logits, predictions.labels, bins)
    return Mix(images=len(predictions.labels), **figures)
