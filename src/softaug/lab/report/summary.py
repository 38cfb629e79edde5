"""What the figures of a comparison support, and what they don't, in sentences."""

from typing import Any

Results = dict[str, Any]

METRIC_NAMES = {
    "top1_error": "top-1 error",
    "occluded_error": "error with 40 % hidden",
    "ece": "ECE",
    "nll": "NLL",
}


def sentences(results: Results) -> list[str]:
    """Two to five sentences from the numbers alone, never more than they bear."""
    seeds = len(results["seeds"])
    found = [
        *_soft_against_standard(results),
        *_soft_against_harsh(results),
        *_smoothing(results),
    ]
    if not results["comparisons"]:
        return _one_model(results) if len(results["arms"]) == 1 else [_caution(seeds)]
    return [*found, _caution(seeds)]


def mean_of(results: Results, arm: str, metric: str) -> float:
    """A figure of an arm, the mean over its seeds."""
    values = [figure(run["evaluation"], metric) for run in results["runs"] if run["arm"] == arm]
    return float(sum(values) / len(values))


def figure(evaluation: dict[str, Any], metric: str) -> float:
    """One figure of an evaluation; `occluded_error` is the top-1 error with 40 % hidden."""
    if metric.startswith("occluded_error"):
        share = {"occluded_error": 0.4, "occluded_error_80": 0.8}[metric]
        return float(next(o["top1_error"] for o in evaluation["occlusion"] if o["share"] == share))
    return float(evaluation[metric])


def _soft_against_standard(results: Results) -> list[str]:
    arm = _soft_arm(results)
    pairs = _pairs(results, arm, "standard")
    if not pairs:
        return []
    better = [_change(pairs[m]) for m in METRIC_NAMES if pairs[m]["difference"] < 0]
    worse = [_change(pairs[m]) for m in METRIC_NAMES if pairs[m]["difference"] > 0]
    text = f"Against the standard crop, {arm} is "
    text += " and ".join(
        part
        for part in (
            f"better in {_list(better)}" if better else "",
            f"worse in {_list(worse)}" if worse else "",
        )
        if part
    )
    return [(text if better or worse else text + "the same in every figure") + "."]


def _soft_against_harsh(results: Results) -> list[str]:
    arm = _soft_arm(results)
    _, at, sigma = arm.partition("@")
    harsh = f"harsh{at}{sigma}"
    pairs = _pairs(results, arm, harsh)
    standard = _pairs(results, arm, "standard")
    if not pairs:
        return []
    text = ""
    if standard:
        gain = mean_of(results, "standard", "occluded_error") - mean_of(
            results, harsh, "occluded_error"
        )
        text = (
            f"The harsh crop alone, with hard labels, already takes {100 * gain:.1f} points off "
            "the error under occlusion; what softening adds"
            if gain > 0
            else "The harsh crop alone, with hard labels, takes nothing off the error under "
            "occlusion; what softening adds"
        )
    changes = _list([_change(pairs[m]) for m in METRIC_NAMES])
    return [f"{text or 'What softening adds'} over that same crop is {changes}."]


def _smoothing(results: Results) -> list[str]:
    arm = _soft_arm(results)
    pairs = _pairs(results, arm, "standard-smoothed")
    worse = [_change(pairs[m]) for m in METRIC_NAMES if pairs and pairs[m]["difference"] > 0]
    if not worse:
        return []
    return [f"Plain label smoothing on the standard crop beats {arm} by {_list(worse)}."]


def _caution(seeds: int) -> str:
    if seeds == 1:
        return (
            "One seed each: another seed can turn differences of this size around, so nothing here "
            "is claimed to be larger than chance."
        )
    return (
        f"{seeds} seeds: a difference is called larger than chance only where a paired t over "
        "seeds and a paired bootstrap over test images both say so after Holm's correction; the "
        "table of differences marks which are."
    )


def _one_model(results: Results) -> list[str]:
    run = results["runs"][0]
    evaluation = run["evaluation"]
    gap, floor = evaluation["calibration_gap"], evaluation["ece_floor"]
    if evaluation["ece"] <= 1.5 * floor:
        calibration = (
            "which at this number of images cannot be told from the "
            f"{100 * floor:.1f} % that a perfectly calibrated model would measure"
        )
    else:
        calibration = f"and is {'over' if gap > 0 else 'under'}-confident by {abs(100 * gap):.1f}"
        calibration += " points on average"
    return [
        f"The model is wrong on {100 * evaluation['top1_error']:.1f} % of "
        f"{evaluation['images']:,} test images, and on "
        f"{100 * figure(evaluation, 'occluded_error'):.1f} % with 40 % of each image hidden.",
        f"Its expected calibration error is {100 * evaluation['ece']:.1f} %, {calibration}.",
        "One model from one seed: use `softaug compare` to tell what the augmentation adds.",
    ]


def _soft_arm(results: Results) -> str:
    names = [arm["name"] for arm in results["arms"]]
    softs = [name for name in names if name.startswith("soft")]
    return "soft" if "soft" in softs or not softs else softs[0]


def _pairs(results: Results, arm: str, against: str) -> dict[str, dict[str, Any]]:
    return {
        record["metric"]: record
        for record in results["comparisons"]
        if record["arm"] == arm and record["against"] == against
    }


def _change(record: dict[str, Any]) -> str:
    """A difference in words, marked where it may be chance."""
    value = record["difference"]
    amount = f"{value:+.3f}" if record["metric"] == "nll" else f"{100 * value:+.1f} points"
    amount = amount.replace("-", "\N{MINUS SIGN}")
    chance = "" if record["larger_than_chance"] or record["seed_interval"] is None else ", unproven"
    return f"{METRIC_NAMES[record['metric']]} ({amount}{chance})"


def _list(items: list[str]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]
