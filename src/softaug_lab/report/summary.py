"""Sentences on what the figures of a comparison support, and what they do not.

A difference is arm minus rival, and lower is better. With several seeds a sentence says "better" or
"worse" without reservation only where the record calls the difference larger than chance.
"""

import math
from typing import Any

from softaug_lab.metrics import BY_KEY, COMPARED, HEADLINE_PERCENT
from softaug_lab.recipes import main_arm, role_of
from softaug_lab.report.prepare import (
    arm_names,
    evaluations_of,
    figure,
    mean_and_sd,
    number,
    seed_count,
    without_labels,
)

Results = dict[str, Any]
Pairs = dict[str, dict[str, Any]]  # metric -> record of the comparison

METRIC_NAMES = {metric.key: metric.name for metric in COMPARED}
MISSING = {"cut_off_error": "cut off", "hidden_error": "hidden"}  # by unseen fills
MINUS = "\N{MINUS SIGN}"


def sentences(results: Results) -> list[str]:
    """Write a few sentences from the numbers alone, claiming no more than they support."""
    seeds = seed_count(results)
    if not results["comparisons"]:
        if len(arm_names(results)) == 1:
            return [*_of_a_probe(results), *_one_model(results)]
        untested = "The comparison has no soft arm beside a rival, so no difference was tested."
        return [*_of_a_probe(results), untested]
    arm = judged_arm(results)
    return [
        *_of_a_probe(results),
        *_without_any(results, arm),
        *_against_standard(results, arm, seeds),
        *_against_harsh(results, arm, seeds),
        *_controls(results, arm, seeds),
        *_noise_floor(results, arm),
        *_other_arms(results, arm),
        _caution(seeds),
    ]


def judged_arm(results: Results) -> str:
    """The arm that the sentences are about: soft, or else the first that was set against rivals."""
    arms = _judged(results)
    return main_arm(arms) or arms[0]


def signed(metric: str, value: float) -> str:
    """Format a difference with its sign: NLL as it is, other figures in points of percent."""
    nats = BY_KEY[metric].unit == "nats" if metric in BY_KEY else False
    text = f"{value:+.3f}" if nats else f"{100 * value:+.1f} points"
    return text.replace("-", MINUS)


def _of_a_probe(results: Results) -> list[str]:
    """Say that the figures are those of a probe, where models were trained without labels."""
    found = {arm: evaluations_of(results, arm) for arm in arm_names(results)}
    every = [evaluation for evaluations in found.values() for evaluation in evaluations]
    before = mean_and_sd([figure(e, "untrained_error") for e in every])[0]
    if math.isnan(before):
        return []
    after = {arm: mean_and_sd([figure(e, "top1_error") for e in found[arm]])[0] for arm in found}
    worse = [f"{arm} ({100 * error:.1f} %)" for arm, error in after.items() if error >= before]
    return [
        "All figures are those of a linear probe on the frozen features of models that were "
        "trained without labels; on the backbone before training its top-1 error is "
        f"{100 * before:.1f} %."
        + (f" At this budget training does not lower it for {_list(worse)}." if worse else "")
    ]


def _without_any(results: Results, arm: str) -> list[str]:
    """Say where no augmentation at all has the lower error, which puts the rest in proportion."""
    plain = next((name for name in arm_names(results) if role_of(name) == "plain"), "")
    without, error = (
        mean_and_sd([figure(e, "top1_error") for e in evaluations_of(results, name)])[0]
        for name in (plain, arm)
    )
    if not without < error:
        return []
    return [
        "At this budget the model has a lower top-1 error without any augmentation than with "
        f"{arm}: {100 * without:.1f} % and {100 * error:.1f} %."
    ]


def _against_standard(results: Results, arm: str, seeds: int) -> list[str]:
    pairs = _pairs(results, arm, "standard")
    return [f"Compared with the standard crop, {_standing(pairs, arm, seeds)}"] if pairs else []


def _against_harsh(results: Results, arm: str, seeds: int) -> list[str]:
    """Say where the gain on cut images comes from, and what softening adds over the same crop."""
    pairs = _pairs(results, arm, "harsh")
    if not pairs:
        return []
    return [
        *(
            sentence
            for metric in MISSING
            for sentence in _share_of_the_crop(results, arm, seeds, metric)
        ),
        f"Compared with the same harsh crop with {_hard(arm)}, {_standing(pairs, arm, seeds)} "
        + _what_softening_adds(results, pairs, seeds),
    ]


def _what_softening_adds(results: Results, pairs: Pairs, seeds: int) -> str:
    """Say whether softening is shown to improve accuracy and calibration over the crop alone."""
    shown = {
        "accuracy": _shown(pairs.get("top1_error"), seeds),
        "calibration": _shown(pairs.get("ece"), seeds, _floor(results, pairs.get("ece"))),
    }
    have = [name for name in shown if shown[name]]
    lack = [name for name in shown if not shown[name]]
    verb = "suggest" if seeds < 2 else "show"
    if not have:
        lacked = " or ".join(lack)
        return f"This does not {verb} that softening improves {lacked} over the crop alone."
    text = f"This {verb}s that softening improves {_list(have)} over the crop alone"
    return text + (f", but not that it improves {_list(lack)}." if lack else ".")


def _share_of_the_crop(results: Results, arm: str, seeds: int, metric: str) -> list[str]:
    """Say how much of the gain on one kind of view the crop alone has already."""
    standard = _pairs(results, arm, "standard").get(metric)
    harsh = _pairs(results, arm, "harsh").get(metric)
    if standard is None or harsh is None:
        return []
    total = -standard["difference"]
    crop = total + harsh["difference"]  # standard minus harsh
    text = f"With {HEADLINE_PERCENT} {MISSING[metric]}, by fills that no arm was trained on, "
    text += _whose_gain(arm, f"the harsh crop with {_hard(arm)}", total, crop)
    chance = total > 0 and seeds > 1 and not standard["larger_than_chance"]
    return [text + (" The gain itself may be chance." if chance else "")]


def _whose_gain(arm: str, harsh: str, total: float, crop: float) -> str:
    """Divide a gain over the standard crop, `total`, into that of the harsh crop and the rest."""
    gain, of_crop = f"{100 * total:.1f} points", f"{100 * crop:.1f} points"
    if total <= 0:
        alone = f", while {harsh} is better by {of_crop}" if crop > 0 else ""
        return f"{arm} is no better than the standard crop{alone}."
    if crop >= total:
        return (
            "the gain comes from the harsh crop, not from softening: compared with the standard "
            f"crop, {harsh} lowers the error by {of_crop} and {arm} by {gain}."
        )
    if crop <= 0:
        return (
            "the gain does not come from the harsh crop alone: compared with the standard crop, "
            f"{harsh} does not lower the error and {arm} lowers it by {gain}."
        )
    most = "most" if crop >= total / 2 else "less than half"
    return (
        f"{most} of the gain comes from the harsh crop itself: {harsh} already lowers the error of "
        f"the standard crop by {100 * crop:.1f} of the {gain}."
    )


def _controls(results: Results, arm: str, seeds: int) -> list[str]:
    """Say where simpler softening is better, and whether the visibility is shown to matter."""
    said = []
    smoothed = _pairs(results, arm, "smoothed")
    worse = [record for record in smoothed.values() if record["difference"] > 0]
    if worse:
        said.append(
            f"Plain label smoothing on the standard crop is better than {arm} in "
            f"{_named(worse, seeds)}."
        )
    constant = _pairs(results, arm, "constant")
    worse = [record for record in constant.values() if record["difference"] > 0]
    if worse:
        said.append(
            f"The same crop with one confidence for every image is better than {arm} in "
            f"{_named(worse, seeds)}."
        )
    proven = [r for r in constant.values() if r["larger_than_chance"] and r["difference"] < 0]
    if constant and seeds > 1 and not proven:
        said.append(
            "It is not shown to matter that the confidence follows the visibility of each image: "
            f"in no figure is {arm} better, by more than chance, than the same crop with the mean "
            f"confidence of {arm} for every image."
        )
    return [" ".join(said)] if said else []


def _noise_floor(results: Results, arm: str) -> list[str]:
    """Name the differences in ECE that are smaller than the noise floor."""
    small = []
    for record in results["comparisons"]:
        if record["arm"] != arm or record["metric"] != "ece":
            continue
        difference, floor = number(record["difference"]), _floor(results, record)
        if abs(difference) < floor:
            small.append((record["against"], difference, floor))
    if not small:
        return []
    rivals = _list([f"{against} ({signed('ece', d)})" for against, d, _ in small])
    verb = "differences in ECE from" if len(small) > 1 else "difference in ECE from"
    return [
        f"The {verb} {rivals} {'are' if len(small) > 1 else 'is'} below the noise floor of "
        f"{100 * max(floor for *_, floor in small):.1f} %, the ECE that a perfectly calibrated "
        "model would measure on this number of images."
    ]


def _other_arms(results: Results, arm: str) -> list[str]:
    """Refer to the table for the other arms that were set against rivals."""
    others = [other for other in _judged(results) if other != arm]
    if not others:
        return []
    return [f"For {_list(others)}, see the table of differences."]


def _caution(seeds: int) -> str:
    if seeds < 2:
        return (
            "With one seed no claim about chance can be made: another seed can reverse differences "
            "of this size."
        )
    return (
        f"{seeds} seeds. A difference is called larger than chance only where a paired t-test over "
        "seeds and a paired bootstrap over test images both find it significant after Holm's "
        "correction; it holds for this data, this model and this budget."
    )


def _one_model(results: Results) -> list[str]:
    evaluations = evaluations_of(results, arm_names(results)[0])
    if not evaluations:
        return ["The model has not been evaluated."]

    def mean(name: str) -> float:
        return mean_and_sd([figure(evaluation, name) for evaluation in evaluations])[0]

    error, ece = mean("top1_error"), mean("ece")
    missing = {name: mean(metric) for metric, name in MISSING.items()}
    floor, gap = mean("ece_floor"), mean("calibration_gap")
    said = []
    if math.isfinite(error):
        images = number(evaluations[0].get("images"))
        of = f"{images:,.0f} test images" if math.isfinite(images) else "the test images"
        text = f"The model is wrong on {100 * error:.1f} % of {of}"
        if all(math.isfinite(value) for value in missing.values()):
            parts = [f"{100 * value:.1f} % with it {name}" for name, value in missing.items()]
            text += f"; with {HEADLINE_PERCENT} of each image missing, on {_list(parts)}"
        said.append(text + ".")
    if math.isfinite(ece):
        text = f"Its expected calibration error is {100 * ece:.2f} %"
        if ece <= 1.5 * floor:
            side = "below" if ece <= floor else "hardly more than"
            text += f", {side} the noise floor of {100 * floor:.2f} %, which a perfectly "
            text += "calibrated model would measure on this number of images"
        elif math.isfinite(gap):
            side = "over" if gap > 0 else "under"
            text += f"; it is {side}-confident by {abs(100 * gap):.1f} points on average"
        said.append(text + ".")
    seeds = "one seed" if len(evaluations) == 1 else f"{len(evaluations)} seeds"
    said.append(
        f"This is one augmentation with {seeds}; softaug compare measures what the augmentation "
        "adds."
    )
    return said


def _standing(pairs: Pairs, arm: str, seeds: int) -> str:
    """Say in which figures an arm is better and worse, by more than chance where seeds can tell."""
    records = list(pairs.values())
    if seeds < 2:
        return f"{arm} is {_sides(records)} in this one run."
    sure = [record for record in records if record["larger_than_chance"]]
    unsure = [record for record in records if not record["larger_than_chance"]]
    if not sure:
        return f"no difference of {arm} is larger than chance."
    text = f"{arm} is {_sides(sure)}, by more than chance."
    names = [METRIC_NAMES[record["metric"]] for record in unsure]
    return text + (f" What may be chance: {_list(names)}." if names else "")


def _sides(records: list[dict[str, Any]]) -> str:
    sides = {
        "better in": [r for r in records if r["difference"] < 0],
        "worse in": [r for r in records if r["difference"] > 0],
        "the same in": [r for r in records if r["difference"] == 0],
    }
    return _list([f"{side} {_named(found, 1)}" for side, found in sides.items() if found])


def _named(records: list[dict[str, Any]], seeds: int) -> str:
    """List figures with their differences; with several seeds, mark those that may be chance."""
    return _list(
        [
            f"{METRIC_NAMES[r['metric']]} ({signed(r['metric'], r['difference'])}"
            + (")" if seeds < 2 or r["larger_than_chance"] else ", may be chance)")
            for r in records
        ]
    )


def _shown(record: dict[str, Any] | None, seeds: int, floor: float = 0.0) -> bool:
    """Whether the record shows a gain; a gain in ECE must also exceed its noise floor."""
    if record is None or record["difference"] >= 0:
        return False
    if record["metric"] == "ece" and abs(record["difference"]) < floor:
        return False
    return seeds < 2 or bool(record["larger_than_chance"])


def _floor(results: Results, record: dict[str, Any] | None) -> float:
    """The larger of the two arms' noise floors of ECE, 0 where none was recorded."""
    if record is None:
        return 0.0
    floors = [
        figure(evaluation, "ece_floor")
        for arm in (record["arm"], record["against"])
        for evaluation in evaluations_of(results, arm)
    ]
    return max((floor for floor in floors if math.isfinite(floor)), default=0.0)


def _judged(results: Results) -> list[str]:
    """The arms that were set against rivals."""
    return list(dict.fromkeys(record["arm"] for record in results["comparisons"]))


def _hard(arm: str) -> str:
    """What the harsh control of the arm has instead of softening."""
    return "equal weights" if without_labels(arm) else "hard labels"


def _pairs(results: Results, arm: str, role: str) -> Pairs:
    """Finite differences between an arm and its control of that role, in METRIC_NAMES' order."""
    found = {
        record["metric"]: record
        for record in results["comparisons"]
        if record["arm"] == arm
        and role_of(record["against"]) == role
        and math.isfinite(number(record["difference"]))
    }
    return {metric: found[metric] for metric in METRIC_NAMES if metric in found}


def _list(items: list[str]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]
