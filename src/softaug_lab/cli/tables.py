"""The tables that the command line prints: of one model, of arms, of corruptions, of a plan."""

from typing import Any, cast

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from softaug_lab.cli.terminal import inert
from softaug_lab.corruptions import EXTRA, GROUPS, SEVERITIES
from softaug_lab.metrics import FILL_GROUPS, HEADLINE_PERCENT, KINDS, METRICS, Metric, recorded
from softaug_lab.report import arm_rows, shown_metrics

ARMS_CAPTION = (
    f"error: top-1 error in %; cut off, hidden: the same with {HEADLINE_PERCENT} of each image out "
    "of the frame or under a rectangle, with fills that no arm trains on; mix: whole, cut-off and "
    "hidden images together, after the temperature; floor: the ECE that a calibrated model would "
    "measure; p: mean confidence of the targets in training"
)
MODEL_CAPTION = (
    "on {images:,} test images; interval: 95 %, over images; floor: what a calibrated model would "
    "measure; gap: confidence minus accuracy; AURC: area under the risk-coverage curve"
)
VIEWS_CAPTION = (
    "top-1 error in %, NLL and ECE % where a share of each image is lost{scaled}; usual fills: "
    "black, mean colour, noise, other images; unseen: fills that no arm trains on; worst: of the "
    "fills; mix: a quarter of the images whole, 3/8 cut off and 3/8 hidden by unseen fills"
)
SCALED_CAPTION = "; T: logits divided by a temperature fitted on held-out training images"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f}"


def evaluation_table(figures: dict[str, Any]) -> Table:
    """The figures of one model on whole images and on the mix.

    The right half has the figures after temperature scaling, where they were measured; those of the
    mix are after it too. Records of earlier versions lack some figures, and the table then lacks
    their rows.
    """
    scaled = figures.get("scaled")
    caption = MODEL_CAPTION.format_map(figures) + (SCALED_CAPTION if scaled else "")
    table = Table(caption=caption, caption_justify="left", box=SIMPLE_HEAD)
    table.pad_edge, table.show_edge, table.collapse_padding = False, False, True
    table.add_column(no_wrap=True)
    plain = {**figures, "mix": None} if scaled else figures
    halves = [_evaluation_rows(plain, figures["ece_bins"])]
    titles = ["figure"]
    if scaled:
        with_mix = {**scaled, "mix": figures.get("mix")}
        halves.append(_evaluation_rows(with_mix, figures["ece_bins"]))
        titles.append(f"T = {figures['temperature']:.3g}")
    for title in titles:
        for heading in (title, "interval", "floor"):
            table.add_column(heading, justify="right", no_wrap=True)
    for name in {**halves[0], **halves[-1]}:
        table.add_row(name, *(cell for half in halves for cell in half.get(name, ("", "", ""))))
    return table


def _evaluation_rows(figures: dict[str, Any], bins: int) -> dict[str, tuple[str, str, str]]:
    """Name, figure, interval and floor of each figure that the record has."""
    rows: dict[str, tuple[str, str, str]] = {}
    for metric in METRICS:
        value: Any = recorded(figures, metric.key)
        if metric.row is not None and value is not None:
            ends, floor = (
                cast("Any", recorded(figures, f"{metric.key}_{part}"))
                for part in ("interval", "floor")
            )
            rows[metric.row.format(bins=bins)] = (
                _text(metric, value),
                "\N{EN DASH}".join(_percent(end) for end in ends) if ends else "",
                "" if floor is None else _percent(floor),
            )
    return rows


def _text(metric: Metric, value: float) -> str:
    if metric.percent:
        return f"{100 * value:+.2f}" if metric.unit == "points" else _percent(value)
    return f"{value:.4f}"


def views_table(figures: dict[str, Any]) -> Table:
    """The figures of one model where a share of each image is cut off or hidden, by fills."""
    scaled = "" if figures["temperature"] is None else ", after the temperature"
    caption = VIEWS_CAPTION.format(scaled=scaled)
    table = Table(caption=caption, caption_justify="left", box=SIMPLE_HEAD)
    table.pad_edge, table.show_edge, table.collapse_padding = False, False, True
    table.add_column(no_wrap=True)
    for fills in FILL_GROUPS:
        for heading in (fills, "worst", "NLL", "ECE"):
            table.add_column(heading, justify="right", no_wrap=True)
    for kind in KINDS:
        usual, unseen = (figures[kind].get(group, []) for group in FILL_GROUPS)
        for levels in zip(usual, unseen, strict=True):
            cells = [
                text
                for level in levels
                for text in (
                    _percent(level["top1_error"]),
                    _percent(level["worst_error"]),
                    f"{level['nll']:.3f}",
                    _percent(level["ece"]),
                )
            ]
            lost = f"{levels[0]['actual_share']:.1%} {kind.replace('_', ' ')}"
            table.add_row(lost, *cells)
    return table


def ood_table(figures: dict[str, Any]) -> Table:
    """How well the model tells other data from the test images: AUROC and FPR by each score."""
    caption = (
        f"the test images (positive) against {figures['images']:,} of {inert(figures['data'])}"
    )
    table = Table("", "", show_header=False, caption=escape(caption))
    table.columns[1].justify = "right"
    names = {"softmax": "maximum softmax", "energy": "energy", "own": "the model's own score"}
    for key, score in ((key, name) for key, name in names.items() if key in figures):
        table.add_row(f"AUROC %, {score}", _percent(figures[key]["auroc"]))
        table.add_row(f"FPR % at 95 % TPR, {score}", _percent(figures[key]["fpr95"]))
    return table


def corruption_table(result: dict[str, Any]) -> Table:
    """Errors by severity and mean figures of each corruption, in groups, then the overall means."""
    made = f", made with the constants of {result['constants']}" if "constants" in result else ""
    table = Table(
        title=escape(inert(f"corruptions: {result['source']}")),
        caption=f"top-1 error in % at severities 1 to 5 and on average; NLL and ECE % on average; "
        f"{result['images']:,} images{made}",
        box=SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
        pad_edge=False,
    )
    table.add_column("", no_wrap=True)
    for heading in (*map(str, SEVERITIES), "mean", "NLL", "ECE"):
        table.add_column(heading, justify="right", no_wrap=True)

    def means(mean: dict[str, float]) -> list[str]:
        return [_percent(mean["top1_error"]), f"{mean['nll']:.3f}", _percent(mean["ece"])]

    blank = [""] * len(SEVERITIES)
    for group, names in {**GROUPS, "extra": EXTRA}.items():
        for name in (name for name in names if name in result["corruptions"]):
            levels = result["corruptions"][name]
            errors = [level["top1_error"] for level in levels]
            mean = {
                k: sum(x[k] for x in levels) / len(levels) for k in ("top1_error", "nll", "ece")
            }
            table.add_row(f"  {name}", *(f"{100 * error:.1f}" for error in errors), *means(mean))
        if group in result["groups"]:
            table.add_row(f"[bold]{group}[/]", *blank, *means(result["groups"][group]))
    if result["mean"] is not None:
        table.add_row("[bold]mean corruption error[/]", *blank, *means(result["mean"]))
    if result["normalised"] is not None:
        table.add_row(
            "[bold]relative to baseline %[/]", *blank, _percent(result["normalised"]), "", ""
        )
    return table


def plan_table(plan: dict[str, str]) -> Table:
    """The plan of a dry run, a heading and a text in each row."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(overflow="fold", max_width=28)
    table.add_column()
    for name, text in plan.items():
        table.add_row(escape(inert(name)), escape(inert(text)))
    return table


def arms_table(results: dict[str, Any]) -> Table:
    """One row for each arm: means over its seeds, and their standard deviation below."""
    table = Table(caption=ARMS_CAPTION, caption_justify="left", box=SIMPLE_HEAD)
    table.pad_edge, table.show_edge, table.collapse_padding = False, False, True
    table.add_column("arm", overflow="fold", min_width=10)
    metrics = list(enumerate(shown_metrics(results)))
    shown = {i: metric.short for i, metric in metrics if metric.short is not None}
    for heading in (*shown.values(), "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in arm_rows(results):
        cells = [row["cells"][i] for i in shown]
        texts = [f"{c.text}\n[dim]\u00b1{c.sd}[/]" if c.sd else c.text for c in cells]
        table.add_row(escape(inert(row["name"])), *texts, f"{row['confidence']:.3f}")
    return table
