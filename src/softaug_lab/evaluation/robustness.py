"""Robustness to corruptions: metrics at each severity, and the mean corruption error.

Hendrycks & Dietterich 2019, arXiv 1903.12261, section 4.2. The results are plain dicts for JSON.
n samples, k classes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from softaug_lab.basics.errors import SoftaugError, UsageError
from softaug_lab.basics.processes import Processes
from softaug_lab.corruptions import (
    BENCHMARKS,
    COMMON,
    EXTRA,
    GROUPS,
    SEVERITIES,
    CorruptedSet,
    Source,
    benchmark,
    computed,
    names_for,
)
from softaug_lab.data import ImageSet
from softaug_lab.metrics import BINS, basic_metrics
from softaug_lab.models import predict_batches

KEYS = ("top1_error", "nll", "ece")  # of `basic_metrics`
Progress = Callable[[str, int], None]  # is called with each name and severity that is done


def evaluate_corruptions(
    models: Sequence[nn.Module],
    test: ImageSet,
    processes: Processes | None = None,
    *,
    seed: int = 0,
    bins: int = BINS,
    batch_size: int = 500,
    baseline: Mapping[str, Any] | None = None,
    watch: Progress = lambda *_: None,
) -> list[dict[str, Any]]:
    """Measure each model on the test images under every corruption that fits their channels.

    The corrupted images depend only on the test images and `seed`, and are made once for all
    models: to make them takes much longer than a small model takes to see them.

    processes: share the work, and all receive the whole result. baseline: the result of this
    function for another model, to normalise by. watch: called with each name and severity that
    is done.
    """
    channels, height, width = test.images.shape[1:]
    # Other devices lack the double precision of some corruptions.
    device = processes.device if processes and processes.device.type == "cuda" else "cpu"
    results = evaluate_sets(
        models,
        computed(test, seed, device=device),
        names_for(channels),
        processes,
        bins=bins,
        batch_size=batch_size,
        baseline=baseline,
        watch=watch,
    )
    constants = BENCHMARKS[benchmark(height, width)]
    made = {"source": "made", "constants": constants, "seed": seed}
    return [made | result for result in results]


def evaluate_sets(
    models: Sequence[nn.Module],
    source: Source,
    names: Sequence[str],
    processes: Processes | None = None,
    *,
    bins: int = BINS,
    batch_size: int = 500,
    baseline: Mapping[str, Any] | None = None,
    watch: Progress = lambda *_: None,
) -> list[dict[str, Any]]:
    """Measure each model on corrupted images from any source, by name and severity.

    processes, baseline: as in `evaluate_corruptions`. Raises SoftaugError for logits that are not
    finite.
    """
    processes = processes or Processes(torch.device("cpu"))
    measured: list[dict[str, list[dict[str, Any]]]] = [{n: [] for n in names} for _ in models]
    images = 0
    for name in names:
        for severity in SEVERITIES:
            corrupted = source(name, severity)
            images = len(corrupted.labels)
            predicted = _predict_set(models, corrupted, processes, batch_size)
            for corruptions, logits in zip(measured, predicted, strict=True):
                metrics = _level_metrics(logits, corrupted.labels, bins, name)
                corruptions[name].append({"severity": severity, **metrics})
            watch(name, severity)
    return [
        {
            "images": images,
            "ece_bins": bins,
            "corruptions": corruptions,
            **summarise_corruptions(corruptions, baseline),
        }
        for corruptions in measured
    ]


def summarise_corruptions(
    corruptions: Mapping[str, Sequence[Mapping[str, Any]]],
    baseline: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Average the metrics over corruptions; the result has the keys groups, mean and normalised.

    groups: means over the corruptions present of noise, blur, weather, digital and extra. mean:
    over the 15 common corruptions; its top1_error is the unnormalised mean corruption error.
    normalised: the mean over the common corruptions of the error summed over severities, divided
    by that of the baseline; 1 for the baseline itself (the paper's baseline is AlexNet). mean and
    normalised are None where a common corruption is missing. Raises UsageError for a baseline that
    was not measured under all of them.
    """
    by_name = {name: _mean(levels) for name, levels in corruptions.items()}
    groups = {
        group: _mean([by_name[name] for name in names if name in by_name])
        for group, names in {**GROUPS, "extra": EXTRA}.items()
        if any(name in by_name for name in names)
    }
    if any(name not in by_name for name in COMMON):
        return {"groups": groups, "mean": None, "normalised": None}
    return {
        "groups": groups,
        "mean": _mean([by_name[name] for name in COMMON]),
        "normalised": None if baseline is None else _normalised_error(by_name, baseline),
    }


def _normalised_error(
    by_name: Mapping[str, Mapping[str, float]], baseline: Mapping[str, Any]
) -> float:
    """Mean over the common corruptions of the error divided by that of the baseline."""
    reference = baseline.get("corruptions") or {}
    if missing := [name for name in COMMON if name not in reference]:
        raise UsageError(f"the baseline was not measured under {', '.join(missing)}")
    ratios = []
    for name in COMMON:
        error = _mean(reference[name])["top1_error"]
        if error == 0:
            raise UsageError(f"the baseline makes no error under {name} to normalise by")
        ratios.append(by_name[name]["top1_error"] / error)
    return sum(ratios) / len(ratios)


def _predict_set(
    models: Sequence[nn.Module], corrupted: CorruptedSet, processes: Processes, batch_size: int
) -> list[Float[Tensor, "n k"]]:
    """Predict corrupted images, which are made or read a batch at a time, by each model."""
    count = len(corrupted.labels)
    mine = range(count)[processes.share(count)]
    batches = (
        corrupted.images(slice(i, min(i + batch_size, mine.stop)))
        for i in range(mine.start, mine.stop, batch_size)
    )
    return [processes.gather(logits) for logits in predict_batches(models, batches)]


def _level_metrics(
    logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"], bins: int, name: str
) -> dict[str, float]:
    if bad := int((~logits.isfinite()).any(dim=1).sum()):
        raise SoftaugError(
            f"the model's logits are not finite for {bad} of {len(logits)} images under {name}"
        )
    return basic_metrics(logits, labels.cpu(), bins)


def _mean(entries: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return {key: sum(entry[key] for entry in entries) / len(entries) for key in KEYS}
