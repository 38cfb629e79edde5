"""Evaluate one trained model on one test set: predict, then compute every metric from the logits.

The logits are kept, so that every metric can be recomputed and arms can be compared image by image.
n test images, m held-out images, k classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from softaug_lab.basics.processes import Processes
from softaug_lab.data import ImageSet
from softaug_lab.evaluation.occlusion import (
    Fill,
    OcclusionLevel,
    area_under,
    draw_noise,
    draw_rectangles,
    hidden_share,
    occlude,
)
from softaug_lab.evaluation.predictions import (
    Predictions,
    batch_slices,
    predict_logits,
    predict_shared,
    require_finite,
)
from softaug_lab.evaluation.record import Evaluation
from softaug_lab.metrics import (
    BINS,
    OCCLUSION_SHARES,
    basic_metrics,
    fit_temperature,
    measure,
    reliability_diagram,
    risk_coverage,
    scale,
    top_confidence,
    top_k_error,
)


def evaluate(
    model: nn.Module,
    test: ImageSet,
    *,
    fills: Mapping[str, Fill],
    seed: int = 0,
    bins: int = BINS,
    batch_size: int = 500,
    processes: Processes | None = None,
    held_out: ImageSet | None = None,
) -> tuple[Evaluation, Predictions]:
    """Predict the test set, whole and under occlusion, and compute all metrics.

    The hidden rectangles depend only on `seed` and on the images' number and size: they are the
    same for every model and every fill, and so is the noise.

    fills: names and colours of the rectangles. processes: share the work, image by image, and all
    receive the whole result. held_out: training images that did not train the model, to fit the
    temperature on; without them there is none. Raises SoftaugError where logits are not finite.
    """
    processes = processes or Processes(torch.device("cpu"))
    predictions = predict_occluded(model, test, fills, seed, batch_size, processes)
    if held_out is not None:
        logits = predict_shared(model, held_out.images, processes, batch_size)
        predictions = replace(
            predictions,
            held_out_labels=held_out.labels.cpu(),
            held_out_logits=require_finite(logits, share=0.0, images="held-out images"),
        )
    actual_shares = [hidden_share(test.images, share) for share in OCCLUSION_SHARES]
    return summarise(predictions, actual_shares, bins), predictions


def predict_occluded(
    model: nn.Module,
    test: ImageSet,
    fills: Mapping[str, Fill],
    seed: int,
    batch_size: int,
    processes: Processes,
) -> Predictions:
    """Predict the test images whole and at every level of occlusion, without held-out images."""
    mine = processes.share(len(test))
    images, numbers = test.images[mine], torch.arange(len(test))[mine]
    generator = torch.Generator().manual_seed(seed)
    whole = require_finite(predict_shared(model, test.images, processes, batch_size), share=0.0)
    occluded: dict[str, dict[float, Tensor]] = {fill: {} for fill in fills}
    for share in OCCLUSION_SHARES[1:]:
        rectangles = draw_rectangles(test.images, share, generator)[mine]
        for name, fill in fills.items():
            batches = (
                occlude(
                    images[rows],
                    rectangles[rows],
                    draw_noise(images[rows], numbers[rows], share, seed)
                    if fill == "noise"
                    else fill,
                )
                for rows in batch_slices(len(images), batch_size)
            )
            # A batch at a time: a test set of photographs need not fit into memory twice.
            logits = [predict_logits(model, batch, batch_size) for batch in batches]
            occluded[name][share] = require_finite(processes.gather(torch.cat(logits)), share)
    return Predictions(test.labels.cpu(), whole, occluded)


def summarise(
    predictions: Predictions, actual_shares: Sequence[float], bins: int = BINS
) -> Evaluation:
    """Compute every metric from the kept logits, scaled ones where there are held-out logits.

    actual_shares: the share of the area really hidden at each of OCCLUSION_SHARES; ValueError for
    another number of shares where there are fills.
    """
    labels, logits = predictions.labels, predictions.logits
    confidence, correct = top_confidence(logits, labels)
    temperature, scaled = None, None
    if predictions.held_out_logits is not None and predictions.held_out_labels is not None:
        temperature = fit_temperature(predictions.held_out_logits, predictions.held_out_labels)
        scaled = measure(scale(logits, temperature), labels, bins)
    occlusion = {
        fill: tuple(
            OcclusionLevel(
                share, actual, **basic_metrics(predictions.at(share, fill), labels, bins)
            )
            for share, actual in zip(OCCLUSION_SHARES, actual_shares, strict=True)
        )
        for fill in predictions.occluded_logits
    }
    return Evaluation(
        metrics=measure(logits, labels, bins),
        images=len(labels),
        top1_error=top_k_error(logits, labels, k=1),
        top5_error=top_k_error(logits, labels, k=5),
        ece_bins=bins,
        temperature=temperature,
        scaled=scaled,
        reliability=tuple(reliability_diagram(confidence, correct, bins)),
        risk_coverage=tuple(risk_coverage(confidence, correct)),
        occlusion=occlusion,
        occlusion_area={
            fill: {key: area_under(levels, key) for key in ("top1_error", "ece")}
            for fill, levels in occlusion.items()
        },
    )
