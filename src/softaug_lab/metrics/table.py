"""The table of metrics: terminal, report, comparison and documentation take their columns from it.

A new metric is one entry here beside its computation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from softaug_lab.metrics.levels import HEADLINE_PERCENT, HEADLINE_SHARE, VIEW_ERRORS

Unit = Literal["percent", "points", "nats", "score"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One figure of an evaluation, and where and how it is shown.

    key: in the evaluation's JSON. name: in sentences and in tables of differences. unit: all but
    nats and scores are fractions that are shown times 100; points have a sign. better: which
    value is best. column: heading in the report, None where the report has no such column; short:
    heading in the terminal's table of arms, None likewise; row: name in the terminal's table of one
    model, None likewise. compared: whether `compare` tests its differences.
    """

    key: str
    name: str
    meaning: str
    unit: Unit = "percent"
    better: Literal["low", "high", "near 0", "neither"] = "low"
    column: str | None = None
    short: str | None = None
    row: str | None = None
    compared: bool = False

    @property
    def percent(self) -> bool:
        """Whether the figure is shown times 100."""
        return self.unit in ("percent", "points")


UNSEEN = "with a fill that no arm trains on"
MIX = "over the mix of whole, cut-off and hidden images, after the temperature if there is one"
METRICS = (
    Metric(
        key="top1_error",
        name="top-1 error",
        meaning="share of images whose most probable class is wrong",
        column="top-1 error %",
        short="error %",
        row="top-1 error %",
        compared=True,
    ),
    Metric(
        key="top5_error",
        name="top-5 error",
        meaning="share of images whose true class is not among the five most probable",
        column="top-5 error %",
        row="top-5 error %",
    ),
    Metric(
        key="knn_error",
        name="kNN error",
        meaning="error of a nearest-neighbour classifier on the frozen features",
        column="kNN error %",
        short="kNN",
        row="kNN error %",
    ),
    Metric(
        key="untrained_knn_error",
        name="kNN error before training",
        meaning="the kNN error on the features of the backbone before training",
        better="neither",
        row="  the same before training",
    ),
    Metric(
        key="untrained_error",
        name="top-1 error before training",
        meaning="error of a linear probe on the features of the backbone before training",
        better="neither",
        column="top-1 error %, before training",
        row="  top-1, before training",
    ),
    Metric(
        key="corruption_error",
        name="error under corruptions",
        meaning="mean top-1 error under 15 corruptions at 5 severities (ImageNet-C)",
        column="error % under corruptions",
    ),
    Metric(
        key="nll",
        name="NLL",
        meaning="mean negative log-likelihood of the true class",
        unit="nats",
        column="NLL",
        short="NLL",
        row="NLL",
        compared=True,
    ),
    Metric(
        key="brier",
        name="Brier score",
        meaning="mean squared distance between probabilities and one-hot label, 0 to 2",
        unit="score",
        column="Brier",
        row="Brier score",
    ),
    Metric(
        key="brier_reliability",
        name="reliability",
        meaning="part of the Brier score that miscalibration causes",
        unit="score",
        row="  reliability, best at 0",
    ),
    Metric(
        key="brier_resolution",
        name="resolution",
        meaning="part of the Brier score that telling images apart saves",
        unit="score",
        better="high",
        row="  resolution, best high",
    ),
    Metric(
        key="ece",
        name="ECE",
        meaning="expected calibration error of the top-1 confidence, bins of equal width",
        column="ECE %",
        short="ECE %",
        row="ECE %, {bins} equal widths",
        compared=True,
    ),
    Metric(
        key="ece_floor",
        name="ECE noise floor",
        meaning="the ECE that a perfectly calibrated model would measure on so many images",
        better="neither",
        column="ECE noise floor %",
        short="floor",
    ),
    Metric(
        key="ece_mass",
        name="ECE, equal masses",
        meaning="the ECE with equally many predictions in every bin",
        row="ECE %, {bins} equal masses",
    ),
    Metric(
        key="smooth_ece",
        name="smooth ECE",
        meaning="the ECE by a kernel, without bins",
        column="smooth ECE %",
        row="smooth ECE %",
    ),
    Metric(
        key="scaled_ece",
        name="ECE after temperature",
        meaning="the ECE after temperature scaling",
        column="ECE % after temperature",
    ),
    Metric(
        key="classwise_ece",
        name="class-wise ECE",
        meaning="mean over classes of the ECE of that class's probability",
        row="class-wise ECE %",
    ),
    Metric(
        key="calibration_gap",
        name="gap",
        meaning="mean confidence minus accuracy; above 0 is over-confident",
        unit="points",
        better="near 0",
        column="gap, points",
        row="gap, points",
    ),
    Metric(
        key="aurc",
        name="AURC",
        meaning="area under the risk-coverage curve",
        column="AURC %",
        row="AURC %",
    ),
    Metric(
        key="excess_aurc",
        name="excess AURC",
        meaning="the AURC minus that of the best possible order of confidences",
        row="  above the best order's",
    ),
    Metric(
        key="cut_off_error",
        name=f"error with {HEADLINE_PERCENT} cut off",
        meaning=f"top-1 error with {HEADLINE_PERCENT} of each image out of the frame, {UNSEEN}",
        column=f"error % at {HEADLINE_PERCENT} cut off",
        short="cut\noff",
        compared=True,
    ),
    Metric(
        key="hidden_error",
        name=f"error with {HEADLINE_PERCENT} hidden",
        meaning=f"top-1 error with {HEADLINE_PERCENT} of each image under a rectangle, {UNSEEN}",
        column=f"error % at {HEADLINE_PERCENT} hidden",
        short="hidden",
        compared=True,
    ),
    Metric(
        key="mix_aurc",
        name="AURC of the mix",
        meaning=f"the AURC {MIX}",
        column="mix: AURC %",
        short="mix\nAURC",
        row="mix: AURC %",
        compared=True,
    ),
    Metric(
        key="mix_ece",
        name="ECE of the mix",
        meaning=f"the ECE {MIX}",
        column="mix: ECE %",
        short="mix\nECE",
        row="mix: ECE %",
        compared=True,
    ),
    Metric(
        key="mix_ece_floor",
        name="ECE noise floor of the mix",
        meaning="the ECE of the mix that a perfectly calibrated model would measure",
        better="neither",
        column="mix: ECE noise floor %",
    ),
    Metric(
        key="mix_nll",
        name="NLL of the mix",
        meaning=f"the NLL {MIX}",
        unit="nats",
        column="mix: NLL",
        row="mix: NLL",
        compared=True,
    ),
    Metric(
        key="mix_top1_error",
        name="error of the mix",
        meaning=f"top-1 error {MIX}",
        row="mix: top-1 error %",
    ),
    Metric(
        key="softmax_auroc",
        name="AUROC by softmax",
        meaning="how well the maximum softmax tells other data from the test images (`--ood`)",
        better="high",
        column="AUROC % of other data by softmax",
    ),
    Metric(
        key="energy_auroc",
        name="AUROC by energy",
        meaning="how well the energy tells other data from the test images (`--ood`)",
        better="high",
        column="the same by energy",
    ),
    Metric(
        key="own_auroc",
        name="AUROC by the model's own score",
        meaning="how well the score of a head that has one tells other data from the test images "
        "(`--ood`)",
        better="high",
        column="the same by the own score of the arm",
    ),
)
# Differences on whole images, by key, up to which an arm is as good as the best one.
NEAR = {"top1_error": 0.005, "nll": 0.01}
COMPARED = tuple(entry for entry in METRICS if entry.compared)

BY_KEY = {entry.key: entry for entry in METRICS}


def recorded(evaluation: Mapping[str, Any], key: str) -> object:
    """Look up a metric in an evaluation's JSON by its key; None where it was not measured.

    The keys of VIEW_ERRORS stand for a level of views by unseen fills, mix_NAME for the mix's
    NAME, scaled_NAME for NAME after temperature scaling.
    """
    for part in ("mix", "scaled"):
        if key.startswith(f"{part}_"):
            return (evaluation.get(part) or {}).get(key.removeprefix(f"{part}_"))
    if key not in VIEW_ERRORS:
        return evaluation.get(key)
    levels = (evaluation.get(VIEW_ERRORS[key]) or {}).get("unseen") or []
    at_headline = (level for level in levels if level.get("share") == HEADLINE_SHARE)
    return next((level.get("top1_error") for level in at_headline), None)
