"""The commands in README and docs: each is one that softaug understands."""

import re
import shlex
from pathlib import Path

import pytest

from softaug_lab.cli.commands import app

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(page: Path) -> list[str]:
    """The lines of a page's shell blocks that call softaug, with what they continue on."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line[line.index("softaug ") :] for line in lines if re.search(r"(^|\s)softaug ", line)]


FOUND = [(page.name, command) for page in PAGES for command in commands(page)]


@pytest.mark.parametrize(("page", "command"), FOUND, ids=[f"{p}: {c}"[:70] for p, c in FOUND])
def test_a_command_is_understood(page: str, command: str) -> None:
    del page
    _, *tokens = shlex.split(command, comments=True)
    app.parse_args(tokens, exit_on_error=False, print_error=False)


def test_there_are_commands_to_check() -> None:
    assert len(FOUND) > 40
    assert len({name for name, _ in FOUND}) > 6
