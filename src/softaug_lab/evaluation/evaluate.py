"""One trained model on one test set: predictions to keep, and the figures computed from them.

Evaluation = summarise(Predictions): the logits are kept, so that every figure can be recomputed
and arms can be compared image by image. n samples, c channels, h w pixels, k classes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from softaug_lab.basics.processes import Processes
from softaug_lab.data import ImageSet
from softaug_lab.evaluation.occlusion import (
    OCCLUSION_SHARES,
    Fill,
    OcclusionLevel,
    area_under,
    cover,
    draw_noise,
    draw_rectangles,
    hidden_share,
)
from softaug_lab.evaluation.predictions import Predictions, predict_logits, require_finite, slices
from softaug_lab.metrics import Figures, Risk, figures, fit_temperature, risk_coverage, scale
from softaug_lab.metrics import proper as metrics


@dataclass(frozen=True)
class Evaluation(Figures):
    """All figures of one model on one test set; fractions, not percent.

    `scaled` has the same of the logits divided by `temperature`, which was fitted on held-out
    training images. Both None where none were.
    """

    images: int
    top1_error: float
    top5_error: float
    ece_bins: int
    temperature: float | None
    scaled: Figures | None
    reliability: tuple[metrics.Bin, ...]
    risk_coverage: tuple[Risk, ...]
    occlusion: Mapping[str, tuple[OcclusionLevel, ...]]  # by the name of the fill
    occlusion_area: Mapping[str, Mapping[str, float]]  # by fill, then of top1_error and ece

    def as_dict(self) -> dict[str, Any]:
        """The fields as dicts, lists and numbers, ready for JSON."""
        fields: dict[str, Any] = _without_tuples(asdict(self))
        return fields


def evaluate(
    model: nn.Module,
    test: ImageSet,
    *,
    fills: Mapping[str, Fill],
    seed: int = 0,
    bins: int = 15,
    batch_size: int = 500,
    processes: Processes | None = None,
    held_out: ImageSet | None = None,
) -> tuple[Evaluation, Predictions]:
    """Predict the test set, plain and under occlusion, and sum it up.

    The hidden rectangles depend on `seed` and the images' number and size alone: they are the same
    for every model and every fill, and so is the noise. fills: names and colours of what hides.
    processes: they share the work, image by image, and all have the whole result. held_out:
    training images that did not train the model; the temperature is fitted on them, without them
    there is none. Raises
    SoftaugError where the model's logits are not finite.
    """
    processes = processes or Processes(torch.device("cpu"))
    own = processes.share(len(test))
    numbers = torch.arange(len(test))[own]
    generator = torch.Generator().manual_seed(seed)
    plain = require_finite(
        processes.gather(predict_logits(model, test.images[own], batch_size)), share=0.0
    )
    occluded: dict[str, dict[float, Tensor]] = {fill: {} for fill in fills}
    actual_shares = [0.0]
    for share in OCCLUSION_SHARES[1:]:
        rectangles = draw_rectangles(test.images, share, generator)[own]
        for name, fill in fills.items():
            batches = []
            # A batch at a time: a test set of photographs need not fit into memory twice.
            for some in slices(len(rectangles), batch_size):
                images = test.images[own][some]
                covered = cover(
                    images,
                    rectangles[some],
                    draw_noise(images, numbers[some], share, seed) if fill == "noise" else fill,
                )
                batches.append(predict_logits(model, covered, batch_size))
            occluded[name][share] = require_finite(processes.gather(torch.cat(batches)), share)
        actual_shares.append(hidden_share(test.images, share))
    predictions = Predictions(test.labels.cpu(), plain, occluded)
    if held_out is not None:
        own = processes.share(len(held_out))
        logits = processes.gather(predict_logits(model, held_out.images[own], batch_size))
        predictions = replace(
            predictions,
            held_out_labels=held_out.labels.cpu(),
            held_out_logits=require_finite(logits, share=0.0, images="held-out images"),
        )
    return summarise(predictions, actual_shares, bins), predictions


def summarise(
    predictions: Predictions, actual_shares: Sequence[float], bins: int = 15
) -> Evaluation:
    """Every figure from the saved logits alone; scaled ones where there are held-out logits.

    actual_shares: the share of the area hidden in truth, for each of OCCLUSION_SHARES.
    """
    labels, logits = predictions.labels, predictions.logits
    confidence, correct = metrics.top_confidence(logits, labels)
    temperature, scaled = None, None
    if predictions.held_out_logits is not None and predictions.held_out_labels is not None:
        temperature = fit_temperature(predictions.held_out_logits, predictions.held_out_labels)
        scaled = figures(scale(logits, temperature), labels, bins)
    occlusion = {
        fill: tuple(
            _level(predictions, fill, share, actual, bins)
            for share, actual in zip(OCCLUSION_SHARES, actual_shares, strict=True)
        )
        for fill in predictions.occluded_logits
    }
    return Evaluation(
        **vars(figures(logits, labels, bins)),
        images=len(labels),
        top1_error=metrics.top_k_error(logits, labels, k=1),
        top5_error=metrics.top_k_error(logits, labels, k=5),
        ece_bins=bins,
        temperature=temperature,
        scaled=scaled,
        reliability=tuple(metrics.reliability(confidence, correct, bins)),
        risk_coverage=tuple(risk_coverage(confidence, correct)),
        occlusion=occlusion,
        occlusion_area={
            fill: {key: area_under(levels, key) for key in ("top1_error", "ece")}
            for fill, levels in occlusion.items()
        },
    )


def _level(
    predictions: Predictions, fill: str, share: float, actual_share: float, bins: int
) -> OcclusionLevel:
    logits, labels = predictions.at(share, fill), predictions.labels
    diagram = metrics.reliability(*metrics.top_confidence(logits, labels), bins)
    return OcclusionLevel(
        share=share,
        actual_share=actual_share,
        top1_error=metrics.top_k_error(logits, labels),
        nll=metrics.nll(logits, labels),
        ece=metrics.ece(diagram),
    )


def _without_tuples(value: Any) -> Any:
    """The value with a list for each tuple, at any depth, as JSON has none."""
    if isinstance(value, Mapping):
        return {key: _without_tuples(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [_without_tuples(entry) for entry in value]
    return value
