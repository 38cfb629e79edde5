"""A fair comparison: arms by seeds, paired, with honest statistics.

Arms share data order, initial weights, schedule, fill colour, operation order and budget, and
differ in the augmentation alone. Every finished (arm, seed) is kept and never done again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from softaug_lab.basics.errors import UsageError
from softaug_lab.basics.processes import Processes
from softaug_lab.basics.storage import read_json
from softaug_lab.data import Data
from softaug_lab.evaluation import Predictions
from softaug_lab.metrics import (
    holm,
    paired_bootstrap,
    paired_bootstrap_ece,
    paired_t,
    sample_nll,
    seeds_needed,
    top_confidence,
)
from softaug_lab.recipes import SELF_SUPERVISED, SIX_ARMS, SUPERVISED, Recipe, read_arm
from softaug_lab.runs import RunFolder, folder_name, open_run

OCCLUDED_SHARE = 0.4  # of the area, for the one figure of robustness in the comparison
OCCLUDED = {"occluded_error": "mean", "occluded_black": "black"}  # by what hides
# What a soft arm is set against wherever it stands beside it: named arms that are no controls.
METHODS = [n for n in SUPERVISED if n not in SIX_ARMS and not n.startswith("soft")]
METRICS = ("top1_error", "nll", "ece", *OCCLUDED)
LEVEL = 0.05  # of a claim that a difference is larger than chance


def require_comparable(arms: Sequence[str]) -> None:
    """Raise UsageError where an arm stands twice, or arms with labels beside arms without."""
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
    """A run for every (arm, seed), new or to go on with, in the order to perform them.

    Seeds go round outside and arms inside, so that a comparison cut short still has whole rounds.
    Raises UsageError where a run was made for another recipe or other data.
    """
    recipes = [replace(recipe, arm=arm, seed=seed) for seed in seeds for arm in arms]
    runs = [RunFolder(folder / "runs" / folder_name(one)) for one in recipes]
    if processes.main:
        for one, run in zip(recipes, runs, strict=True):
            open_run(run.folder, one, data, source, resume=True)
    processes.wait()
    return list(zip(recipes, runs, strict=True))


def compare_runs(runs: Sequence[RunFolder], arms: Sequence[str]) -> list[dict[str, Any]]:
    """Soft arms against their rivals in four figures, lower is better; a record for each.

    Two intervals: a paired t over seeds, and a paired bootstrap over test images conditional on
    these seeds. A difference is larger than chance when both say so after Holm's correction.
    """
    figures = {arm: _figures(runs, arm) for arm in arms}
    pairs = [(arm, against) for arm in arms for against in _rivals(arm, arms)]
    records = [
        _compared(arm, against, metric, figures, questions=len(pairs) * len(METRICS))
        for arm, against in pairs
        for metric in METRICS
    ]
    # Both tests must refuse chance, so the larger of the two p-values is the one of the pair.
    adjusted = holm(
        [None if r["p_seeds"] is None else max(r["p_seeds"], r["p_images"]) for r in records]
    )
    for record, p in zip(records, adjusted, strict=True):
        record["p_adjusted"] = p
        record["larger_than_chance"] = p is not None and p < LEVEL
    return records


def _compared(
    arm: str, against: str, metric: str, figures: dict[str, "_Figures"], questions: int
) -> dict[str, Any]:
    first, second = figures[arm], figures[against]
    differences = first.per_seed[metric] - second.per_seed[metric]
    over_seeds = paired_t(differences)
    if metric == "ece":
        over_images = paired_bootstrap_ece(
            first.confidence, first.correct, second.confidence, second.correct
        )
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
        # At the level that Holm asks of the first of so many questions.
        "seeds_needed": seeds_needed(differences, level=1 - LEVEL / questions),
    }


def _rivals(arm: str, arms: Sequence[str]) -> list[str]:
    """What a soft arm is judged against: the standard, its own crop otherwise softened, and other
    methods."""
    name, at, sigma = arm.partition("@")
    if name.startswith("simsiam-soft"):
        return [rival for rival in ("simsiam", f"simsiam-harsh{at}{sigma}") if rival in arms]
    if not name.startswith("soft"):
        return []
    own = ("standard", "standard-smoothed", f"harsh{at}{sigma}", f"harsh-constant{at}{sigma}")
    others = [one for one in arms if one.partition("@")[0] in METHODS]
    return [rival for rival in (*own, *others) if rival in arms]


@dataclass(frozen=True)
class _Figures:
    """One arm's figures over its seeds, [seeds], and image by image, [seeds, images]."""

    per_seed: dict[str, npt.NDArray[np.float64]]
    per_image: dict[str, npt.NDArray[np.float64]]
    confidence: npt.NDArray[np.float64]
    correct: npt.NDArray[np.bool_]


def _figures(runs: Sequence[RunFolder], arm: str) -> _Figures:
    predictions, evaluations = [], []
    for run in runs:
        if run.recipe().arm == arm:
            predictions.append(Predictions.load(run.predictions_file))
            evaluations.append(read_json(run.evaluation_file))
    plain = [top_confidence(p.logits, p.labels) for p in predictions]
    hidden = {
        name: np.stack(
            [top_confidence(p.at(OCCLUDED_SHARE, fill), p.labels)[1].numpy() for p in predictions]
        )
        for name, fill in OCCLUDED.items()
    }
    correct = np.stack([c.numpy() for _, c in plain])
    per_seed = {name: np.array([e[name] for e in evaluations]) for name in METRICS[:3]}
    per_image = {name: 1.0 - correct for name, correct in hidden.items()}
    return _Figures(
        per_seed | {name: losses.mean(axis=1) for name, losses in per_image.items()},
        per_image
        | {
            "top1_error": 1.0 - correct,
            "nll": np.stack([sample_nll(p.logits, p.labels).numpy() for p in predictions]),
        },
        np.stack([c.numpy() for c, _ in plain]),
        correct,
    )
