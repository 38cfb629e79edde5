"""Fair comparisons: soft arms against their rivals over several seeds, with paired statistics.

Arms share data order, initial weights, schedule, flips and budget; they differ in the fields of
`recipes/arms.yaml` alone: augmentation, targets, loss, mixing, last layer. A finished run of
an (arm, seed) is never repeated.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from softaug_lab.basics.errors import SoftaugError, UsageError
from softaug_lab.basics.processes import Processes
from softaug_lab.basics.storage import read_json
from softaug_lab.data import Data
from softaug_lab.evaluation import Predictions, has_views
from softaug_lab.metrics import (
    COMPARED,
    HEADLINE_SHARE,
    VIEW_ERRORS,
    Estimate,
    holm,
    paired_bootstrap,
    paired_bootstrap_aurc,
    paired_bootstrap_ece,
    paired_t,
    recorded,
    sample_nll,
    scale,
    seeds_needed,
    top_confidence,
)
from softaug_lab.recipes import SELF_SUPERVISED, Recipe, read_arm, rivals
from softaug_lab.runs import RunFolder, folder_name, open_run
from softaug_lab.training import resolve

METRICS = tuple(metric.key for metric in COMPARED)
# Those that are no means over images: their bootstraps need confidences and what was right.
BOOTSTRAPS: Mapping[str, Callable[..., Estimate]] = {
    "ece": paired_bootstrap_ece,
    "mix_ece": paired_bootstrap_ece,
    "mix_aurc": paired_bootstrap_aurc,
}
LEVEL = 0.05  # significance level for "larger than chance"


def require_comparable(arms: Sequence[str]) -> None:
    """Raise UsageError for repeated arms and for a mix of supervised and self-supervised arms."""
    if len(set(arms)) < len(arms):
        raise UsageError(f"each arm can stand once in a comparison, got {', '.join(arms)}")
    without = [arm for arm in arms if read_arm(arm).self_supervised]
    if without and len(without) < len(arms):
        raise UsageError(
            f"{', '.join(without)}: trained without labels, the other arms with them; their "
            f"schedules differ, so compare {', '.join(SELF_SUPERVISED)} among themselves"
        )


def open_runs(
    recipe: Recipe,
    arms: Sequence[str],
    seeds: Sequence[int],
    data: Data,
    folder: Path,
    source: dict[str, Any],
    processes: Processes,
) -> list[tuple[Recipe, RunFolder]]:
    """Create or reopen a run folder for every (arm, seed), in the order of training.

    Each seed trains all arms before the next seed begins, so that an interrupted comparison still
    has whole rounds. Raises UsageError for a run of another recipe or other data.
    """
    recipes = [resolve(replace(recipe, arm=arm, seed=seed), data) for seed in seeds for arm in arms]
    runs = [RunFolder(folder / "runs" / folder_name(run_recipe)) for run_recipe in recipes]
    if processes.main:
        for run_recipe, run in zip(recipes, runs, strict=True):
            open_run(run.folder, run_recipe, data, source, True, processes.device)
    processes.wait()
    return list(zip(recipes, runs, strict=True))


def compare_runs(runs: Sequence[RunFolder], arms: Sequence[str]) -> list[dict[str, Any]]:
    """Test each soft arm against its rivals in METRICS (lower is better); one record per question.

    Two intervals: a paired t over seeds, and a paired bootstrap over test images conditional on
    these seeds. A difference is larger than chance when both tests reject chance after Holm's
    correction.
    """
    results = {arm: _load_results(runs, arm) for arm in arms}
    pairs = [(arm, against) for arm in arms for against in rivals(arm, arms)]
    records = [
        _test_difference(arm, against, metric, results, questions=len(pairs) * len(METRICS))
        for arm, against in pairs
        for metric in METRICS
    ]
    # Both tests must reject chance, so a question's p-value is the larger of the two.
    adjusted = holm(
        [None if r["p_seeds"] is None else max(r["p_seeds"], r["p_images"]) for r in records]
    )
    for record, p in zip(records, adjusted, strict=True):
        record["p_adjusted"] = p
        record["larger_than_chance"] = p is not None and p < LEVEL
    return records


def _test_difference(
    arm: str, against: str, metric: str, results: dict[str, "_Results"], questions: int
) -> dict[str, Any]:
    """Compare two arms in one metric; questions: how many tests the whole comparison makes."""
    first, second = results[arm], results[against]
    differences = first.per_seed[metric] - second.per_seed[metric]
    over_seeds = paired_t(differences)
    if metric in BOOTSTRAPS:
        over_images = BOOTSTRAPS[metric](*first.ranked[metric], *second.ranked[metric])
    else:
        over_images = paired_bootstrap(first.per_image[metric], second.per_image[metric])
    return {
        "arm": arm,
        "against": against,
        "metric": metric,
        "difference": float(differences.mean()),
        "seed_interval": None if over_seeds is None else [over_seeds.low, over_seeds.high],
        "image_interval": [over_images.low, over_images.high],
        "p_seeds": None if over_seeds is None else over_seeds.p,
        "p_images": over_images.p,
        # At the level that Holm's correction demands of the smallest p-value.
        "seeds_needed": seeds_needed(differences, level=1 - LEVEL / questions),
    }


Array = npt.NDArray[np.float64]
Ranked = tuple[Array, Array]  # top-1 confidence, and 1 where it is of the true class, else 0


@dataclass(frozen=True)
class _Results:
    """One arm's metrics per seed [seeds] and per test image [seeds, images].

    ranked: what each of BOOTSTRAPS needs.
    """

    per_seed: dict[str, Array]
    per_image: dict[str, Array]
    ranked: dict[str, Ranked]


def _load_results(runs: Sequence[RunFolder], arm: str) -> _Results:
    predictions, evaluations, mixed = [], [], []
    for run in runs:
        if run.recipe().arm == arm:
            found, evaluation = _read(run)
            predictions.append(found)
            evaluations.append(evaluation)
            assert found.mix_logits is not None
            mixed.append((scale(found.mix_logits, evaluation["temperature"] or 1.0), found.labels))
    plain = _ranked([(p.logits, p.labels) for p in predictions])
    mix = _ranked(mixed)
    views = {
        name: _ranked(
            [(p.levels[kind, "unseen", HEADLINE_SHARE].logits, p.labels) for p in predictions]
        )
        for name, kind in VIEW_ERRORS.items()
    }
    return _Results(
        {name: np.array([recorded(e, name) for e in evaluations], float) for name in METRICS},
        {
            "top1_error": 1.0 - plain[1],
            "nll": np.stack([sample_nll(p.logits, p.labels).numpy() for p in predictions]),
            **{name: 1.0 - right for name, (_, right) in views.items()},
            "mix_nll": np.stack([sample_nll(*pair).numpy() for pair in mixed]),
        },
        {"ece": plain, "mix_ece": mix, "mix_aurc": mix},
    )


def _read(run: RunFolder) -> tuple[Predictions, dict[str, Any]]:
    """Read a finished run; raises SoftaugError for one that was never evaluated on views."""
    if not has_views(run.evaluation_file):
        raise SoftaugError(
            f"{run.folder}: evaluated by an earlier version, and its model is gone; remove the "
            "folder to train it again"
        )
    return Predictions.load(run.predictions_file), read_json(run.evaluation_file)


def _ranked(pairs: Sequence[tuple[Tensor, Tensor]]) -> Ranked:
    """Top-1 confidences and hits, both [seeds, images]."""
    found = [top_confidence(logits, labels) for logits, labels in pairs]
    confidence, correct = zip(*found, strict=True)
    return torch.stack(confidence).numpy(), torch.stack(correct).double().numpy()
