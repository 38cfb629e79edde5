"""Cards: their code and commands run, they say what the code says, and none is missing."""

import inspect
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import softaug
from softaug_lab.cli.app import main
from softaug_lab.cli.commands import app
from softaug_lab.recipes.expression import TRANSFORMS, parse

DOCS = Path(__file__).parent.parent / "docs"
MAKER = runpy.run_path(str(DOCS / "make_cards.py"))
CARDS: list[Any] = MAKER["cards"]()
COMMANDS = [command for card in CARDS for command in card.command or []]
NO_CARD = {"Transform"}  # what all transforms are


def blocks(name: str, language: str) -> list[str]:
    text = (DOCS / "cards" / f"{name}.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def expression(command: str) -> str | None:
    words = shlex.split(command)
    return words[words.index("--augment") + 1] if "--augment" in words else None


@pytest.mark.parametrize("name", [card.name for card in CARDS])
def test_the_code_on_a_card_runs(name: str) -> None:
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    names: dict[str, Any] = {
        "torch": torch,
        "F": F,
        "softaug": softaug,
        "images": images,
        "labels": torch.arange(8),
        "model": torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 100)),
    }
    code = blocks(name, "python")
    assert len(code) == 2
    for block in code:
        exec(block, names)
    assert names["images"].dtype == torch.uint8
    assert names["images"].shape == (8, 3, 32, 32)
    assert names["targets"].shape == (8, 100)
    assert names["loss"].isfinite()
    confidences = names["p"].values() if isinstance(names["p"], dict) else [names["p"]]
    assert all(((p >= 0) & (p <= 1)).all() for p in confidences)


def test_cards_are_as_the_command_writes_them() -> None:
    """Else: python docs/make_cards.py."""
    written = {path.name: path.read_text() for path in (DOCS / "cards").glob("*.md")}
    made = MAKER["pages"]()
    assert written.keys() == made.keys()
    for name, text in made.items():
        assert written[name] == text, name


def test_the_glossary_is_as_the_command_writes_it() -> None:
    """Else: python docs/make_cards.py."""
    assert (DOCS / "glossary.md").read_text() == MAKER["glossary"]()


def test_pictures_are_there_and_small() -> None:
    pictures = {path.stem: path for path in (DOCS / "cards").glob("*.png")}
    assert pictures.keys() == {card.name for card in CARDS}
    for path in pictures.values():
        assert path.read_bytes().startswith(b"\x89PNG\r\n"), path
        assert path.stat().st_size < 60_000, path
    assert sum(path.stat().st_size for path in pictures.values()) < 900_000


def test_a_picture_is_the_same_when_drawn_again() -> None:
    for card in (CARDS[0], CARDS[-1]):
        assert MAKER["draw"](card) == MAKER["draw"](card)


def test_every_transform_and_curve_has_a_card() -> None:
    on_cards = {of for card in CARDS for of in card.of}
    expected = set()
    for name in softaug.__all__:
        value = getattr(softaug, name)
        if inspect.isclass(value) and name not in NO_CARD:
            called = list(inspect.signature(value.__call__).parameters)
            is_transform = hasattr(value, "draw") and hasattr(value, "apply")
            if is_transform or called[1:2] == ["visibility"]:
                expected.add(name)
    assert len(expected) > 15
    missing = expected - {name.rpartition(".")[2] for name in on_cards}
    assert not missing, f"add to docs/cards.yaml: {', '.join(sorted(missing))}"


def test_every_name_of_the_package_is_on_the_page_of_names() -> None:
    shown = re.findall(r"(?:auto\w+|py:data):: (?:\w+\.)*(\w+)", (DOCS / "api.md").read_text())
    assert not set(softaug.__all__) - set(shown)


def test_every_transform_of_the_command_line_is_on_a_card() -> None:
    shown = " ".join(expression(command) or "" for command in COMMANDS)
    assert not [name for name in TRANSFORMS if not re.search(rf"\b{name}\(", shown)]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_on_a_card_is_understood(command: str) -> None:
    app.parse_args(shlex.split(command), exit_on_error=False, print_error=False)
    augment = expression(command)
    if augment is not None:
        transform = parse(augment, 28, 28)
        transform.draw(4, 28, 28)


@pytest.mark.parametrize("name", ["erase", "trivialaugment"])
def test_a_preview_on_a_card_runs(name: str, tmp_path: Path) -> None:
    (command,) = (c for card in CARDS if card.name == name for c in card.command[:1])
    assert command.startswith("preview demo")
    main([*shlex.split(command), "--images", "4", "--out", str(tmp_path / "preview.png")])
    assert (tmp_path / "preview.png").stat().st_size > 1000


def test_links_between_pages_lead_somewhere() -> None:
    for page in DOCS.rglob("*.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.slow
def test_the_documentation_builds(tmp_path: Path) -> None:
    pytest.importorskip("furo")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", "-d", str(tmp_path / "d")]
    done = subprocess.run(
        [*command, str(DOCS), str(tmp_path / "html")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    names = (tmp_path / "html" / "api.html").read_text()
    assert all(f"softaug.{name}" in names for name in ("Crop", "PowerCurve", "smooth"))
