"""Model card of an exported model: README.md with its data, recipe, figures, use and limits."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from softaug_lab.evaluation import Evaluation
from softaug_lab.metrics import BY_KEY, FILL_GROUPS, HEADLINE_PERCENT, KINDS, recorded
from softaug_lab.models import ModelCard
from softaug_lab.recipes import Recipe

FIGURES = (
    "top1_error", "top5_error", "nll", "brier", "ece", "ece_floor", "smooth_ece",
    "calibration_gap", "aurc",
)  # fmt: skip
MOST_CLASSES = 100  # that are listed
PAPER = "https://arxiv.org/abs/2211.04625"
USE = """\
Input: float32 [N, {channels}, {height}, {width}], pixels in [0, 1]{normalise}. An image of another
size is scaled to cover {width} x {height} px (bilinear, with antialiasing) and cropped at its
centre. Output: logits [N, {k}] in the order of the classes above{temperature}.
`python serve.py IMAGE ...` is this program; `read_image.py` reads the files for it as in training:
"""
TESTED = """\
On {images:,} test images. AURC: area under the risk-coverage curve; ECE: expected calibration
error, whose noise floor is what a perfectly calibrated model would measure on so many images.
"""
VIEWS = """\
Each test image with a share of its area *cut off* (moved out of the frame) or *hidden* (under a
rectangle). The missing part is filled as in training (*usual*: black, the mean colour, noise, other
images) or as in no training (*unseen*). Figures are those of the exported logits.
"""


def model_card(
    card: ModelCard,
    evaluation: Evaluation,
    description: Mapping[str, Any],
    recipe: Recipe,
    normalises: bool,
    code: str,
) -> str:
    """Write the model card as Markdown.

    description: the content of the run's recipe.json. normalises: as in `describe`. code: the
    serving example.
    """
    data = description["data"]
    parts = [
        f"# {_code(card.model)} on {_code(data['name'])}",
        f"An image classifier trained with [softaug]({PAPER}) (soft augmentation), version "
        f"{description['environment']['versions'].get('softaug', 'unknown')}.",
        "## Data",
        _data(card, data),
        "## Recipe",
        _recipe(recipe),
        "## Figures",
        TESTED.format(images=evaluation.images) + "\n" + _figures(evaluation),
        *_views(evaluation),
        "## Use",
        _use(card, normalises) + f"\n```python\n{code}```",
        "## Limits",
        _limits(card, evaluation),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _data(card: ModelCard, data: Mapping[str, Any]) -> str:
    colour = "grey" if card.channels == 1 else "RGB"
    names = [_code(name) for name in card.classes[:MOST_CLASSES]]
    more = len(card.classes) - len(names)
    return (
        f"{_code(data['name'])}: {data['train_images']:,} training and {data['test_images']:,} "
        f"test images, {card.width} x {card.height} px {colour}.\n\n"
        f"{len(card.classes)} classes: {', '.join(names)}"
        + (f", and {more:,} more" if more else "")
    )


def _recipe(recipe: Recipe) -> str:
    """The settings that were made, with what the arm stands for."""
    fields = {name: value for name, value in asdict(recipe).items() if value is not None}
    if recipe.weights is not None and not recipe.weights.startswith("hf-hub:"):
        fields["weights"] = Path(recipe.weights).name  # the folders of this machine are private
    return f"{recipe.parsed_arm.about}:\n\n```yaml\n{yaml.safe_dump(fields, sort_keys=False)}```"


def _figures(evaluation: Evaluation) -> str:
    figures = evaluation.as_dict()
    columns = {"figure": figures}
    if figures["scaled"] is not None:
        scaled = {**figures["scaled"], **{k: figures[k] for k in ("top1_error", "top5_error")}}
        temperature = figures["temperature"]
        columns = {"before the temperature": figures, f"exported (T = {temperature:.4g})": scaled}
    rows = []
    for key in FIGURES:
        values = [recorded(column, key) for column in columns.values()]
        if None not in values:
            metric = BY_KEY[key]
            unit = {"percent": " %", "points": ", points"}.get(metric.unit, "")
            cells = [
                f"{100 * v:.2f}" if metric.percent else f"{v:.4f}" for v in map(_number, values)
            ]
            rows.append([f"{metric.name}{unit}", *cells])
    return _table(["", *columns], rows)


def _views(evaluation: Evaluation) -> Iterator[str]:
    """The curves over the share that is lost; nothing for a run evaluated without views."""
    if evaluation.mix is None:
        return
    yield "### When part of the image is missing"
    names = ("error %", "NLL", "ECE %")
    heads = ["", *(f"{group}: {name}" for group in FILL_GROUPS for name in names)]
    levels = evaluation.as_dict()
    rows = [
        _level_row(kind, [levels[kind][group][i] for group in FILL_GROUPS])
        for kind in KINDS
        for i in range(len(levels[kind][FILL_GROUPS[0]]))
    ]
    mix = evaluation.mix
    yield VIEWS + "\n" + _table(heads, rows)
    yield (
        "Over the mix of whole, cut-off and hidden images (unseen fills): error "
        f"{100 * mix.top1_error:.2f} %, NLL {mix.nll:.3f}, ECE {100 * mix.ece:.2f} % (noise floor "
        f"{100 * mix.ece_floor:.2f} %)."
    )


def _level_row(kind: str, groups: Sequence[Mapping[str, Any]]) -> list[str]:
    cells = [f"{groups[0]['actual_share']:.1%} {kind.replace('_', ' ')}"]
    for level in groups:
        error, nll, ece = (level[key] for key in ("top1_error", "nll", "ece"))
        cells += [f"{100 * error:.2f}", f"{nll:.3f}", f"{100 * ece:.2f}"]
    return cells


def _use(card: ModelCard, normalises: bool) -> str:
    return USE.format(
        channels=card.channels,
        height=card.height,
        width=card.width,
        k=len(card.classes),
        normalise="" if normalises else ", minus the mean, divided by std (config.json)",
        temperature=", already divided by the temperature" if card.temperature != 1 else "",
    )


def _limits(card: ModelCard, evaluation: Evaluation) -> str:
    error = 100 * evaluation.top1_error
    lines = [
        f"It names one of its {len(card.classes)} classes for every image, also for one of no "
        "class.",
        f"It was trained and tested at {card.width} x {card.height} px on data of one source; on "
        f"images of other sources expect more than {error:.1f} % errors.",
    ]
    if evaluation.temperature is None:
        lines.append("No temperature was fitted: the confidences are those of training.")
    else:
        lines.append(
            "The temperature was fitted on whole held-out training images: on other data, and on "
            "images with missing parts, the confidences may be off by more than the ECE above."
        )
    hidden = recorded(evaluation.as_dict(), "hidden_error")
    if hidden is not None:
        lines.append(
            f"With {HEADLINE_PERCENT} of the image hidden its error is "
            f"{100 * _number(hidden):.1f} % instead of {error:.1f} %; the views are synthetic, and "
            "real occlusion may be worse."
        )
    lines.append("The figures are of one training run; another seed gives others.")
    lines.append("Differences between groups of people or places were not measured.")
    return "\n".join(f"- {line}" for line in lines)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---", *(["---:"] * (len(heads) - 1))], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _code(text: str) -> str:
    """Show a name as code; control characters are escaped, and a backtick cannot end it."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return f"`{shown.replace('`', chr(39))}`"


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return float(value)
