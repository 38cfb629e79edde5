"""What the figures of a comparison support, and what they don't, in sentences.

A difference is arm minus rival, lower is better. With several seeds "better" and "worse" are said
plainly only where the record calls the difference larger than chance.
"""

import math
from typing import Any

from softaug_lab.report.prepare import (
    arm_names,
    evaluations_of,
    figure,
    mean_and_sd,
    number,
    seed_count,
)

Results = dict[str, Any]
Pairs = dict[str, dict[str, Any]]  # metric -> record of the comparison

METRIC_NAMES = {
    "top1_error": "top-1 error",
    "occluded_error": "error with 40 % hidden",
    "occluded_black": "error with 40 % hidden in black",
    "ece": "ECE",
    "nll": "NLL",
}
HIDDEN_IN = {
    "occluded_error": "mean colour, which no arm has met,",
    "occluded_black": "black, the fill of the crops,",
}
MINUS = "\N{MINUS SIGN}"


def sentences(results: Results) -> list[str]:
    """A few statements from the numbers alone, never more than they bear."""
    seeds = seed_count(results)
    if not results["comparisons"]:
        if len(arm_names(results)) == 1:
            return [*_of_a_probe(results), *_one_model(results)]
        untested = "No soft arm stands here beside a rival, so no difference was tested."
        return [*_of_a_probe(results), untested]
    arm = told_arm(results)
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


def told_arm(results: Results) -> str:
    """The arm that the sentences are about: soft, or the first that was set against rivals."""
    arms = _judged(results)
    return "soft" if "soft" in arms else arms[0]


def signed(metric: str, value: float) -> str:
    """A difference with its sign: NLL as it is, the others in points of percent."""
    text = f"{value:+.3f}" if metric == "nll" else f"{100 * value:+.1f} points"
    return text.replace("-", MINUS)


def _of_a_probe(results: Results) -> list[str]:
    """What the errors are of where models were trained without labels."""
    found = {arm: evaluations_of(results, arm) for arm in arm_names(results)}
    every = [evaluation for evaluations in found.values() for evaluation in evaluations]
    before = mean_and_sd([figure(e, "untrained_error") for e in every])[0]
    if math.isnan(before):
        return []
    after = {arm: mean_and_sd([figure(e, "top1_error") for e in found[arm]])[0] for arm in found}
    worse = [f"{arm} ({100 * error:.1f} %)" for arm, error in after.items() if error >= before]
    return [
        "All figures are those of a linear probe on the frozen features of models that were "
        f"trained without labels; on the backbone before training it errs on {100 * before:.1f} %."
        + (f" At this budget it errs no less after: {_list(worse)}." if worse else "")
    ]


def _without_any(results: Results, arm: str) -> list[str]:
    """Where no augmentation at all errs less, which puts all else into proportion."""
    none, own = (
        mean_and_sd([figure(e, "top1_error") for e in evaluations_of(results, name)])[0]
        for name in ("none", arm)
    )
    if not none < own:
        return []
    return [
        f"Without any augmentation the model errs less than {arm} at this budget: "
        f"{100 * none:.1f} % for {100 * own:.1f} %."
    ]


def _against_standard(results: Results, arm: str, seeds: int) -> list[str]:
    pairs = _pairs(results, arm, _standard(arm))
    return [f"Against the standard crop, {_standing(pairs, arm, seeds)}"] if pairs else []


def _against_harsh(results: Results, arm: str, seeds: int) -> list[str]:
    """Whose the gain under occlusion is, and what softening adds over the same crop."""
    pairs = _pairs(results, arm, _of_same_crop("harsh", arm))
    if not pairs:
        return []
    return [
        *(
            sentence
            for metric in HIDDEN_IN
            for sentence in _share_of_the_crop(results, arm, seeds, metric)
        ),
        f"Against the same harsh crop with {_hard(arm)}, {_standing(pairs, arm, seeds)} "
        + _what_softening_adds(results, pairs, seeds),
    ]


def _what_softening_adds(results: Results, pairs: Pairs, seeds: int) -> str:
    """Whether softening is shown to add accuracy and calibration over the crop alone."""
    shown = {
        "accuracy": _shown(pairs.get("top1_error"), seeds),
        "calibration": _shown(pairs.get("ece"), seeds, _floor(results, pairs.get("ece"))),
    }
    have = [name for name in shown if shown[name]]
    lack = [name for name in shown if not shown[name]]
    if seeds < 2:
        points = f"to softening adding {_list(have)} over the crop" if have else ""
        away = f"not to {'its' if have else 'softening'} adding {_list(lack)}" if lack else ""
        away += " over the crop" if lack and not have else ""
        return f"It points {', '.join(part for part in (points, away) if part)}."
    parts = [f"hat softening adds {_list(have)} over the crop is shown"] if have else []
    if lack:
        over = "" if have else " over the crop"
        parts.append(f"hat {'it' if have else 'softening'} adds {_list(lack)}{over} is not shown")
    return "T" + "; t".join(parts) + "."


def _share_of_the_crop(results: Results, arm: str, seeds: int, metric: str) -> list[str]:
    """How much of the gain under one occlusion the crop with hard labels already has."""
    standard = _pairs(results, arm, _standard(arm)).get(metric)
    harsh = _pairs(results, arm, _of_same_crop("harsh", arm)).get(metric)
    if standard is None or harsh is None:
        return []
    total = -standard["difference"]
    crop = total + harsh["difference"]  # standard minus harsh
    hidden = f"With 40 % hidden in {HIDDEN_IN[metric]}"
    if total <= 0:
        alone = f", while the harsh crop with {_hard(arm)} is, by {100 * crop:.1f} points"
        return [f"{hidden} {arm} is no better than the standard crop{alone if crop > 0 else ''}."]
    gain = f"{100 * total:.1f} points"
    if crop >= total:
        text = f"{hidden} the gain comes from the harsh crop, not from softening: {_hard(arm)} on "
        text += f"it take {100 * crop:.1f} points off the error of the standard crop, {arm} {gain}."
    elif crop <= 0:
        text = f"{hidden} the gain does not come from the harsh crop alone: {_hard(arm)} on it "
        text += f"take nothing off the error of the standard crop, {arm} {gain}."
    else:
        most = "most" if crop >= total / 2 else "less than half"
        text = f"{hidden} {most} of the gain comes from the harsh crop itself: {_hard(arm)} on it "
        text += f"already take {100 * crop:.1f} of the {gain} off the error of the standard crop."
    chance = seeds > 1 and not standard["larger_than_chance"]
    return [text + (" The gain itself may be chance." if chance else "")]


def _controls(results: Results, arm: str, seeds: int) -> list[str]:
    """Where simpler softening does better, and whether the visibility is shown to matter."""
    said = []
    smoothed = _pairs(results, arm, "standard-smoothed")
    worse = [record for record in smoothed.values() if record["difference"] > 0]
    if worse:
        said.append(
            f"Plain label smoothing on the standard crop beats {arm} in {_named(worse, seeds)}."
        )
    constant = _pairs(results, arm, _of_same_crop("harsh-constant", arm))
    worse = [record for record in constant.values() if record["difference"] > 0]
    if worse:
        said.append(
            f"One constant confidence for every image on the same crop beats {arm} in "
            f"{_named(worse, seeds)}."
        )
    proven = [r for r in constant.values() if r["larger_than_chance"] and r["difference"] < 0]
    if constant and seeds > 1 and not proven:
        said.append(
            "That the confidence follows the visibility of each image is not shown to matter: "
            f"{arm} is nowhere better than its own mean confidence for all by more than chance."
        )
    return [" ".join(said)] if said else []


def _noise_floor(results: Results, arm: str) -> list[str]:
    """The differences in ECE that are smaller than what a calibrated model would measure."""
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
        f"The {verb} {rivals} {'are' if len(small) > 1 else 'is'} within the noise floor, the "
        f"{100 * max(floor for *_, floor in small):.1f} % that a perfectly calibrated model would "
        "measure on so few images."
    ]


def _other_arms(results: Results, arm: str) -> list[str]:
    others = [other for other in _judged(results) if other != arm]
    if not others:
        return []
    return [f"How {_list(others)} did stands in the table of differences alone."]


def _caution(seeds: int) -> str:
    if seeds < 2:
        return (
            "With one seed no claim about chance can be made: another seed can turn differences of "
            "this size around."
        )
    return (
        f"{seeds} seeds. A difference is called larger than chance only where a paired t over "
        "seeds and a paired bootstrap over test images both say so after Holm's correction; it "
        "holds for this data, this model and this budget."
    )


def _one_model(results: Results) -> list[str]:
    evaluations = evaluations_of(results, arm_names(results)[0])
    if not evaluations:
        return ["The model has not been evaluated."]

    def mean(name: str) -> float:
        return mean_and_sd([figure(evaluation, name) for evaluation in evaluations])[0]

    error, hidden, ece = mean("top1_error"), mean("occluded_error"), mean("ece")
    floor, gap = mean("ece_floor"), mean("calibration_gap")
    said = []
    if math.isfinite(error):
        images = number(evaluations[0].get("images"))
        of = f"{images:,.0f} test images" if math.isfinite(images) else "the test images"
        text = f"The model is wrong on {100 * error:.1f} % of {of}"
        if math.isfinite(hidden):
            text += f", and on {100 * hidden:.1f} % with 40 % of each image hidden"
        said.append(text + ".")
    if math.isfinite(ece):
        text = f"Its expected calibration error is {100 * ece:.1f} %"
        if ece <= 1.5 * floor:
            text += f", hardly more than the {100 * floor:.1f} % that a perfectly calibrated model "
            text += "would measure on so many images"
        elif math.isfinite(gap):
            side = "over" if gap > 0 else "under"
            text += f"; it is {side}-confident by {abs(100 * gap):.1f} points on average"
        said.append(text + ".")
    seeds = "one seed" if len(evaluations) == 1 else f"{len(evaluations)} seeds"
    said.append(
        f"One augmentation, {seeds}: what the augmentation adds takes a comparison, which "
        "softaug compare makes."
    )
    return said


def _standing(pairs: Pairs, arm: str, seeds: int) -> str:
    """Where an arm is better and where worse, beyond chance where seeds can tell."""
    records = list(pairs.values())
    if seeds < 2:
        return f"{arm} is {_sides(records)} in this one run."
    sure = [record for record in records if record["larger_than_chance"]]
    unsure = [record for record in records if not record["larger_than_chance"]]
    if not sure:
        return f"no difference of {arm} is larger than chance: {_tellable(unsure, seeds)}."
    text = f"{arm} is {_sides(sure)}, by more than chance."
    return text + (f" What may be chance: {_tellable(unsure, seeds)}." if unsure else "")


def _sides(records: list[dict[str, Any]]) -> str:
    sides = {
        "better in": [r for r in records if r["difference"] < 0],
        "worse in": [r for r in records if r["difference"] > 0],
        "the same in": [r for r in records if r["difference"] == 0],
    }
    return _list([f"{side} {_named(found, 1)}" for side, found in sides.items() if found])


def _named(records: list[dict[str, Any]], seeds: int) -> str:
    """Figures with their differences; with several seeds, marked where they may be chance."""
    return _list(
        [
            f"{METRIC_NAMES[r['metric']]} ({signed(r['metric'], r['difference'])}"
            + (")" if seeds < 2 or r["larger_than_chance"] else ", may be chance)")
            for r in records
        ]
    )


def _tellable(records: list[dict[str, Any]], seeds: int) -> str:
    """Figures with their differences and the seeds that would tell them from chance.

    The record's number is that of the test over seeds: where it is no more than the seeds there
    are, it was the test over images that refused, and it is not repeated.
    """
    parts = []
    for record in records:
        needed = record.get("seeds_needed") or 0
        text = f"{METRIC_NAMES[record['metric']]} {signed(record['metric'], record['difference'])}"
        parts.append(text + (f" (about {needed} seeds would tell)" if needed > seeds else ""))
    return _list(parts)


def _shown(record: dict[str, Any] | None, seeds: int, floor: float = 0.0) -> bool:
    """Whether a gain is shown; a gain in ECE must also exceed its noise floor."""
    if record is None or record["difference"] >= 0:
        return False
    if record["metric"] == "ece" and abs(record["difference"]) < floor:
        return False
    return seeds < 2 or bool(record["larger_than_chance"])


def _floor(results: Results, record: dict[str, Any] | None) -> float:
    """The larger of the two arms' noise floors of ECE, 0 where none is known."""
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


def _of_same_crop(name: str, arm: str) -> str:
    """The control of that name for a soft arm: of its own sigma where the arm has one."""
    _, at, sigma = arm.partition("@")
    own = "simsiam-" if without_labels(arm) else ""
    return f"{own}{name}{at}{sigma}"


def _standard(arm: str) -> str:
    return "simsiam" if without_labels(arm) else "standard"


def _hard(arm: str) -> str:
    """What the soft arm's harsh control has in place of softening."""
    return "equal weights" if without_labels(arm) else "hard labels"


def without_labels(arm: str) -> bool:
    """Whether an arm of that name was pre-trained, and its figures are a probe's."""
    return arm.startswith("simsiam")


def _pairs(results: Results, arm: str, against: str) -> Pairs:
    """Finite differences between two arms, in the order of METRIC_NAMES."""
    found = {
        record["metric"]: record
        for record in results["comparisons"]
        if record["arm"] == arm
        and record["against"] == against
        and math.isfinite(number(record["difference"]))
    }
    return {metric: found[metric] for metric in METRIC_NAMES if metric in found}


def _list(items: list[str]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]
