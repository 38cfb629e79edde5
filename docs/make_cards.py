"""Write docs/glossary.md and docs/cards/: a page and a picture for each transform and curve.

    .venv/bin/python docs/make_cards.py

cards.yaml holds the hand-written parts of the cards. Signatures and first sentences come from the
code; pictures and tables come from running the snippets that the cards show. The glossary comes
from the table of metrics.
"""

import inspect
import io
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
import yaml
from jaxtyping import UInt8
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

import softaug
from softaug_lab.data import load
from softaug_lab.metrics import GLOSSARY, METRICS
from softaug_lab.report import sample_sheet
from softaug_lab.report.drawings import styled
from softaug_lab.report.looks import LOOKS, SPARE_COLOURS

DOCS = Path(__file__).parent
CARDS = DOCS / "cards"
CLASSES = 10  # number of classes of the demo; 1/CLASSES is the chance in pictures
FIVE = 5
SHOWN = 39  # number of the demo's test image in the pictures, an ankle boot
VISIBILITIES = (0.0, 0.25, 0.5, 0.75, 1.0)
TRAINING = """\
images, targets = augment(images, labels)
loss = F.cross_entropy(model(images / 255), targets)  # of uint8 images
"""


@dataclass(frozen=True, kw_only=True)
class Card:
    """The hand-written parts of a card; cards.yaml explains each field."""

    name: str
    title: str
    kind: str
    of: list[str]
    kept: str
    use: str
    functions: str
    picture: str
    values: list[list[str]]
    helps: list[str]
    hurts: list[str]
    sources: list[str]
    command: list[str] | None = None
    no_command: str = ""
    exponent: float = 2
    label: str = ""

    @property
    def classes(self) -> list[Any]:
        return [attrgetter(name)(softaug) for name in self.of]

    @property
    def sentence(self) -> str:
        """The first paragraph of the docstring of the first class."""
        return " ".join(inspect.getdoc(self.classes[0]).split("\n\n")[0].split())  # type: ignore[union-attr]


def cards() -> list[Card]:
    """All cards, in the order of cards.yaml."""
    return [Card(name=name, **fields) for name, fields in _written()["cards"].items()]


def pages() -> dict[str, str]:
    """The text of each card by the name of its file."""
    sources = _written()["sources"]
    texts = {f"{card.name}.md": _page(card, sources) for card in cards()}
    return {**texts, "index.md": _index(cards())}


def _written() -> dict[str, Any]:
    written: dict[str, Any] = yaml.safe_load((DOCS / "cards.yaml").read_text())
    return written


def _page(card: Card, sources: dict[str, str]) -> str:
    signatures = "\n".join(
        f"{name.rpartition('.')[2]}{_signature(of)}"
        for name, of in zip(card.of, card.classes, strict=True)
    )
    settings = "strengths" if card.kind == "transform" else "settings"
    parts = [
        f"# {card.title}",
        _sentence(card),
        f"```text\n{signatures}\n```",
        f"**{'What is kept' if card.kind == 'transform' else 'Formula'}.** {card.kept.strip()}",
        f"![{card.title} at five {settings}]({card.name}.png)",
        card.picture.strip(),
    ]
    if card.kind == "curve":
        parts.append(_curve_table(card))
    parts += [
        "## Use",
        "As a class, in the training loop:",
        f"```python\n{card.use}{TRAINING}```",
        f"As functions; this made the {'picture' if card.kind == 'transform' else 'figure'}:",
        f"```python\n{card.functions}{_reading(card)}```",
        *_command(card),
        "## Suggested values",
        _table(["setting", "value", "source"], card.values),
        "## When it helps",
        _bullets(card.helps),
        "## When it hurts",
        _bullets(card.hurts),
    ]
    if card.sources:
        parts += ["## Sources", _bullets([sources[key] for key in card.sources])]
    return "\n\n".join(parts) + "\n"


def _sentence(card: Card) -> str:
    """The first sentence as printed on the page; a formula gets an introduction."""
    if card.sentence.startswith("confidence ="):
        return f"A curve from visibility v to confidence p: {card.sentence}"
    return card.sentence


def _signature(of: Any) -> str:
    """Parameters with their types and defaults, one per line where they are long."""
    signature = inspect.signature(of).replace(return_annotation=inspect.Signature.empty)
    shown = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in shown:
            shown.append("*")
        note = inspect.formatannotation(parameter.annotation).replace("collections.abc.", "")
        note = note.replace("torch.Tensor", "Tensor").replace("typing.", "")
        default = parameter.default
        named = getattr(default, "rule", None)  # a rule of confidences, whose repr has an address
        value = f"{type(default).__name__}({named.__name__}, ...)" if named else repr(default)
        ending = "" if default is inspect.Parameter.empty else f" = {value}"
        shown.append(f"{parameter.name}: {note}{ending}")
    line = f"({', '.join(shown)})"
    return line if len(line) <= 75 else "(\n" + "".join(f"    {one},\n" for one in shown) + ")"


def _reading(card: Card) -> str:
    """The lines that compute v and p from the result of a snippet."""
    if card.kind == "curve":
        lines = [
            "v = torch.linspace(0, 1, 101)",
            "p = {n: curve(v) for n, curve in curves.items()}",
        ]
        return "\n".join(lines) + "\n"
    curve = f"softaug.PowerCurve(k={card.exponent:g}, chance=1 / {CLASSES})"
    return f"v = softaug.visibility(seen)\np = {curve}(v)\n"


def _command(card: Card) -> list[str]:
    if card.command is None:
        return [f"On the command line: {card.no_command}"]
    lines = "".join(f"softaug {line}\n" for line in card.command)
    return ["On the command line:", f"```sh\n{lines}```"]


def _curve_table(card: Card) -> str:
    curves = run(card, _images())["curves"]
    v = torch.tensor(VISIBILITIES)
    rows = [[name, *(f"{p:.3f}" for p in curve(v).tolist())] for name, curve in curves.items()]
    return _table(["p at", *(f"v = {value:g}" for value in VISIBILITIES)], rows)


def _index(all_cards: list[Card]) -> str:
    parts = [
        "# Cards",
        "One page for each transform and curve: what it does, how it looks at five strengths, how "
        "to use it, which values to use, when it helps and when it hurts.",
    ]
    for kind in ("transform", "curve"):
        rows = []
        for card in all_cards:
            if card.kind == kind:
                classes = ", ".join(f"`{of}`" for of in card.of)
                rows.append([f"[{card.title}]({card.name}.md)", classes, _sentence(card)])
        parts += [f"## {kind.capitalize()}s", _table(["card", "class", "what it does"], rows)]
    parts += [
        "Pictures show a test image of the demo, Fashion-MNIST (MIT). In them v is the visibility "
        f"and p the confidence with {CLASSES} classes.",
        "This folder is written by `docs/make_cards.py` from `docs/cards.yaml` and the code.",
    ]
    return "\n\n".join(parts) + "\n"


def glossary() -> str:
    """The text of the glossary: the terms, and the table of all metrics."""
    better = {"low": "lower", "high": "higher", "near 0": "nearer to 0", "neither": ""}
    rows = [
        [f"`{one.key}`", one.name, one.meaning, better[one.better], "yes" if one.compared else ""]
        for one in METRICS
    ]
    parts = [
        "# Glossary",
        *(f"## {term}\n\n{text}" for term, text in GLOSSARY.items()),
        "## All metrics",
        "Keys are those of an evaluation in [results.json](results-json.md), where `mix_NAME` is "
        "NAME of its `mix`, `scaled_NAME` that of `scaled`, and `cut_off_error` and `hidden_error` "
        "are levels of its views; `softaug compare` tests differences in the metrics marked in the "
        "last column.",
        _table(["key", "name", "meaning", "better", "compared"], rows),
    ]
    return "\n\n".join(parts) + "\n"


def _table(head: list[str], rows: list[list[str]]) -> str:
    cells = [[str(cell).replace("|", r"\|") for cell in row] for row in [head, *rows]]
    cells.insert(1, ["---"] * len(head))
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def _bullets(items: list[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def run(card: Card, images: UInt8[Tensor, "n c h w"]) -> dict[str, Any]:
    """Run the snippet with chosen parameters, and return its names."""
    names: dict[str, Any] = {"torch": torch, "softaug": softaug, "images": images}
    exec(card.functions + _reading(card), names)
    return names


def _images() -> UInt8[Tensor, "5 1 h w"]:
    return load("demo").test.images[SHOWN].expand(FIVE, -1, -1, -1)


def draw(card: Card) -> bytes:
    """The picture of a card as PNG."""
    names = run(card, _images())
    return _png(_sheet(card, names) if card.kind == "transform" else _plot(names))


def _sheet(card: Card, names: dict[str, Any]) -> Figure:
    """Five images with their chosen parameters, v and p."""
    values = {name: v.tolist() if isinstance(v, Tensor) else v for name, v in names.items()}
    chosen = {n: v for n, v in values.items() if isinstance(v, list) and len(v) == FIVE}
    captions = [
        card.label.format(**{name: value[i] for name, value in chosen.items()})
        + f"\nv {values['v'][i]:.2f}  p {values['p'][i]:.2f}"
        for i in range(FIVE)
    ]
    return sample_sheet(names["shown"], captions, columns=FIVE)


@styled
def _plot(names: dict[str, Any]) -> Figure:
    """Confidence against visibility, one line for each setting."""
    figure = Figure(figsize=(5.6, 2.7), dpi=140, layout="constrained", facecolor="white")
    axis = figure.subplots()
    colours = [LOOKS["soft"].colour, LOOKS["standard"].colour, *SPARE_COLOURS]
    dashes = [(), (5, 2), (2, 1.5), (7, 2, 1.5, 2), (1, 2)]
    for (name, p), colour, dash in zip(names["p"].items(), colours, dashes, strict=False):
        style = (0, dash) if dash else "-"
        axis.plot(names["v"], p, color=colour, linestyle=style, linewidth=1.8, label=name)
    axis.set(xlim=(0, 1), ylim=(0, 1.03), xlabel="visibility v", ylabel="confidence p")
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return figure


def _png(figure: Figure) -> bytes:
    """Encode in few colours, without date or version, so that pictures are small and repeatable."""
    drawn, small = io.BytesIO(), io.BytesIO()
    # Tight: otherwise a sheet of one row cuts off the lower part of its captions.
    figure.savefig(drawn, format="png", bbox_inches="tight", pad_inches=0.06)
    with Image.open(drawn) as image:
        image.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(
            small, format="PNG", optimize=True
        )
    return small.getvalue()


def main() -> None:
    (DOCS / "glossary.md").write_text(glossary())
    CARDS.mkdir(exist_ok=True)
    for name, text in pages().items():
        (CARDS / name).write_text(text)
    for card in cards():
        (CARDS / f"{card.name}.png").write_bytes(draw(card))
    written = sorted(CARDS.iterdir())
    size = sum(path.stat().st_size for path in written)
    print(f"{CARDS.name}: {len(written)} files, {size / 1000:,.0f} kB")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
