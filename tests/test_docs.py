"""README and docs: their commands are understood, their code runs, made pages are up to date."""

import json
import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_integrations import packages

import softaug
from softaug_lab.cli.app import main
from softaug_lab.cli.commands import HELP, app

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Pages whose code needs more than the names below, and the tests that run it.
ELSEWHERE = {"integrations.md": "test_integrations.py", "serving.md": "lab/test_export.py"}
WHOLE = {"multi-label.md", "spectrograms.md"}  # whose code needs nothing that it does not make
LONG, SHORT = "epochs, number = 5, 4_000", "epochs, number = 1, 200"  # of the quick start


def blocks(page: Path, language: str) -> list[str]:
    """The blocks of a page in this language."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def commands(page: Path) -> list[str]:
    """The lines of a page's shell blocks that call softaug, with what they continue on."""
    lines = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [line[line.index("softaug ") :] for line in lines if re.search(r"(^|\s)softaug ", line)]


FOUND = [(page.name, command) for page in PAGES for command in commands(page)]
WITH_CODE = [page for page in PAGES if blocks(page, "python") and page.name not in ELSEWHERE]


@pytest.mark.parametrize(("page", "command"), FOUND, ids=[f"{p}: {c}"[:70] for p, c in FOUND])
def test_a_command_is_understood(page: str, command: str) -> None:
    del page
    _, *tokens = shlex.split(command, comments=True)
    app.parse_args(tokens, exit_on_error=False, print_error=False)


def test_there_are_commands_to_check() -> None:
    assert len(FOUND) > 40
    assert len({name for name, _ in FOUND}) > 6


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_the_code_of_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In order, beside what a reader has: a batch, a model, a data set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.onnx.export", lambda *_, **__: None)  # it takes ten seconds
    here: dict[str, Any] = {
        "torch": torch,
        "F": F,
        "softaug": softaug,
        "images": torch.rand(8, 3, 32, 32),
        "labels": torch.arange(8),
        "model": torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 100)),
        "dataset": [(torch.rand(3, 32, 32), i) for i in range(8)],
    }
    names = {"__name__": page.stem, **({} if page.name in WHOLE else here)}
    for block in blocks(page, "python"):
        for package in packages(block):
            pytest.importorskip(package)
        exec(compile(block.replace(LONG, SHORT), str(page), "exec"), names)
        assert names["targets"].shape[0] == len(names["images"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_quick_start_ends_with_the_figures_of_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "quick-start.md"
    (program,) = blocks(page, "python")
    assert LONG in program
    exec(compile(program, str(page), "exec"), {"__name__": "loop"})
    assert "softaug evaluate model.onnx demo" in "\n".join(blocks(page, "sh"))
    main(["evaluate", "model.onnx", "demo", "--json", "figures.json"])
    assert json.loads(Path("figures.json").read_text())["top1_error"] < 0.4
    assert "epoch 5: " in capsys.readouterr().out


@pytest.mark.parametrize("page", ELSEWHERE)
def test_code_that_runs_elsewhere_is_read_there(page: str) -> None:
    assert blocks(ROOT / "docs" / page, "python")
    assert f'"{page}"' in (ROOT / "tests" / ELSEWHERE[page]).read_text()


def test_figures_of_the_questions_are_those_of_their_page() -> None:
    faq, budget = ((ROOT / "docs" / name).read_text() for name in ("faq.md", "budget.md"))
    figures = re.findall(r"[\d.]+ ± [\d.]+", faq)
    assert len(figures) > 10
    assert not [figure for figure in figures if figure not in budget]


def test_the_page_of_commands_is_as_the_script_writes_it() -> None:
    """Else: python docs/make_commands.py."""
    page = (ROOT / "docs" / "commands.md").read_text()
    assert page == runpy.run_path(str(ROOT / "docs" / "make_commands.py"))["page"]()
    for name in HELP:
        assert f"\n## softaug {name}\n" in page
    assert "--left-open" not in page  # options that are hidden
    train = page.partition("## softaug train")[2].partition("\n## ")[0]
    assert "`--end-epochs INT`" in train
    assert "`--blur" not in train
