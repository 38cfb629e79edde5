"""Write docs/commands.md: all commands and options, as `--help` shows them.

    .venv/bin/python docs/make_commands.py

The text is that of cyclopts' Markdown formatter, so it comes from the commands themselves.
"""

import io
import re
from pathlib import Path
from typing import Any

from cyclopts import App
from cyclopts.help import HelpPanel
from cyclopts.help.formatters import MarkdownFormatter
from rich.console import Console, ConsoleOptions

from softaug_lab.cli.commands import HELP
from softaug_lab.cli.help import Help

PAGE = Path(__file__).parent / "commands.md"
WIDE = 10_000  # characters, so that no line is broken
HEAD = """\
# Commands

Every command with its options, as `softaug COMMAND --help` shows them. After
`softaug --install-completion` bash, zsh and fish complete them; `--debug`, with any command, shows
the traceback of an error.
"""


class Section(MarkdownFormatter):
    """cyclopts' Markdown of one command, with the examples and panels that `--help` shows.

    head: the usage and the description, whose first line is `summary`.
    """

    def __init__(self, command: Help) -> None:
        super().__init__()
        self.command, self.head, self.summary = command, "", ""

    def __call__(
        self, console: Console | None, options: ConsoleOptions | None, panel: HelpPanel
    ) -> None:
        for one in self.command.shown(panel):
            super().__call__(console, options, one)

    def render_description(
        self, console: Console | None, options: ConsoleOptions | None, description: Any
    ) -> None:
        usage = self.get_output()
        self.reset()
        super().render_description(console, options, description)
        lines = [line.strip() for line in self.get_output().strip().splitlines()]
        self.summary, text = lines[0], "\n".join(lines)
        examples = "\n".join(self.command.examples)
        self.head = f"{usage.strip()}\n\n{text}\n\n```sh\n{examples}\n```"
        self.reset()

    def text(self) -> str:
        """Return the section without its title."""
        panels = re.sub(r"^## (.*)$", r"**\1**", self.get_output(), flags=re.MULTILINE)
        panels = re.sub(r"\n {4,}", " ", panels)  # a description on one line
        return f"{self.head}\n\n{panels.strip()}"


def page() -> str:
    """The text of the page."""
    sections = {name: _section(name, command) for name, command in HELP.items()}
    rows = [f"| [{name}](#softaug-{name}) | {one.summary} |" for name, one in sections.items()]
    table = "\n".join(["| command | what it does |", "| --- | --- |", *rows])
    parts = [f"## softaug {name}\n\n{one.text()}" for name, one in sections.items()]
    text = "\n\n".join([HEAD.strip(), table, *parts])
    return re.sub(r"\n{3,}", "\n\n", text) + "\n"


def _section(name: str, command: Help) -> Section:
    section = Section(command)
    app = App(name="softaug")
    app.command(f"softaug_lab.cli.{name}:{name}", help_formatter=section)
    app.help_print([name], console=Console(file=io.StringIO(), width=WIDE))
    return section


if __name__ == "__main__":
    PAGE.write_text(page())
