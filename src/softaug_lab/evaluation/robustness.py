"""A model under corruptions: its figures at each severity, and the mean corruption error.

Hendrycks & Dietterich 2019, arXiv 1903.12261, section 4.2. The results are plain dicts, for JSON.
n samples, c channels, h w pixels."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from softaug_lab.basics.errors import SoftaugError, UsageError
from softaug_lab.basics.processes import Processes
from softaug_lab.corruptions import (
    BENCHMARKS,
    COMMON,
    EXTRA,
    GROUPS,
    SEVERITIES,
    Source,
    benchmark,
    computed,
    names_for,
)
from softaug_lab.data import ImageSet
from softaug_lab.evaluation.predictions import predict_logits
from softaug_lab.metrics import proper as metrics

FIGURES = ("top1_error", "nll", "ece")


def evaluate_corruptions(
    model: nn.Module,
    test: ImageSet,
    processes: Processes | None = None,
    *,
    seed: int = 0,
    bins: int = 15,
    batch_size: int = 500,
    baseline: Mapping[str, Any] | None = None,
    watch: Callable[[str, int], None] = lambda *_: None,
) -> dict[str, Any]:
    """Figures of the model on the test images under every corruption that they can have.

    The corrupted images depend on the test images and `seed` alone: all models see the same.
    baseline: another model's result of this function, to normalise by. watch: is told of each name
    and severity that is done. engine: its processes share the work and have the whole result.
    """

    channels, height, width = test.images.shape[1:]
    names = names_for(channels)
    result = evaluate_sets(
        model,
        computed(test, seed),
        names,
        processes,
        bins=bins,
        batch_size=batch_size,
        baseline=baseline,
        watch=watch,
    )
    constants = BENCHMARKS[benchmark(height, width)]
    return {"source": "made", "constants": constants, "seed": seed, **result}


def evaluate_sets(
    model: nn.Module,
    source: Source,
    names: Sequence[str],
    processes: Processes | None = None,
    *,
    bins: int = 15,
    batch_size: int = 500,
    baseline: Mapping[str, Any] | None = None,
    watch: Callable[[str, int], None] = lambda *_: None,
) -> dict[str, Any]:
    """The same for corrupted images from anywhere; raises SoftaugError for logits not finite."""
    processes = processes or Processes(torch.device("cpu"))
    corruptions: dict[str, list[dict[str, Any]]] = {}
    images = 0
    for name in names:
        corruptions[name] = []
        for severity in SEVERITIES:
            corrupted = source(name, severity)
            images = len(corrupted.labels)
            own = range(images)[processes.share(images)]
            logits = [
                predict_logits(model, corrupted.images(slice(i, min(i + batch_size, own.stop))))
                for i in range(own.start, own.stop, batch_size)
            ]
            all_logits = processes.gather(torch.cat(logits))
            corruptions[name].append(
                {"severity": severity, **_figures(all_logits, corrupted.labels, bins, name)}
            )
            watch(name, severity)
    return {
        "images": images,
        "ece_bins": bins,
        "corruptions": corruptions,
        **summarise_corruptions(corruptions, baseline),
    }


def summarise_corruptions(
    corruptions: Mapping[str, Sequence[Mapping[str, Any]]],
    baseline: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Means of the figures, and the mean corruption error, None where a common corruption lacks.

    groups: of noise, blur, weather, digital and extra, over what there is of each. mean: over the
    15 common corruptions, its top1_error the unnormalised mean corruption error. normalised: the
    mean over them of the error summed over severities by that of the baseline, 1 for the baseline's
    own; the paper's is AlexNet. Raises UsageError for a baseline that has other corruptions.
    """
    by_name = {name: _mean(levels) for name, levels in corruptions.items()}
    groups = {
        group: _mean([by_name[name] for name in names if name in by_name])
        for group, names in {**GROUPS, "extra": EXTRA}.items()
        if any(name in by_name for name in names)
    }
    whole = all(name in by_name for name in COMMON)
    normalised = None
    if baseline is not None and whole:
        theirs = baseline.get("corruptions") or {}
        if lacking := [name for name in COMMON if name not in theirs]:
            raise UsageError(f"the baseline was not measured under {', '.join(lacking)}")
        ratios = []
        for name in COMMON:
            error = _mean(theirs[name])["top1_error"]
            if error == 0:
                raise UsageError(f"the baseline makes no error under {name} to normalise by")
            ratios.append(by_name[name]["top1_error"] / error)
        normalised = sum(ratios) / len(ratios)
    return {
        "groups": groups,
        "mean": _mean([by_name[name] for name in COMMON]) if whole else None,
        "normalised": normalised,
    }


def _figures(logits: Tensor, labels: Tensor, bins: int, name: str) -> dict[str, float]:
    labels = labels.cpu()
    if bad := int((~logits.isfinite()).any(dim=1).sum()):
        raise SoftaugError(
            f"the model's logits are not finite for {bad} of {len(logits)} images under {name}"
        )
    diagram = metrics.reliability(*metrics.top_confidence(logits, labels), bins)
    return {
        "top1_error": metrics.top_k_error(logits, labels),
        "nll": metrics.nll(logits, labels),
        "ece": metrics.ece(diagram),
    }


def _mean(entries: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return {key: sum(entry[key] for entry in entries) / len(entries) for key in FIGURES}
