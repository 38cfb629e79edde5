"""How `--help` shows one command: examples first, then its options in panels, and its arms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cyclopts.help import HelpEntry, HelpPanel
from cyclopts.help.formatters import DefaultFormatter

from softaug_lab.recipes import ARMS, panels

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions

PLAIN = DefaultFormatter()


@dataclass(frozen=True, kw_only=True)
class Help:
    """A help formatter of cyclopts for one command.

    Commands share `Recipe`, and each takes a part of it: `hidden` names the options to leave out,
    `texts` and `defaults` replace the description and the default value of an option. `arms` are
    listed with their meaning below the augmentation panel.
    """

    examples: Sequence[str] = ()
    arms: Sequence[str] = ()
    hidden: Sequence[str] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, console: "Console", options: "ConsoleOptions", panel: HelpPanel) -> None:
        """Print one panel, and the arms after that of the augmentation."""
        for shown in self.shown(panel):
            PLAIN(console, options, shown)

    def shown(self, panel: HelpPanel) -> list[HelpPanel]:
        """Return what is shown of one panel, and the arms after that of the augmentation."""
        entries = [self._entry(one) for one in panel.entries if not self._hides(one)]
        shown = [panel.copy(entries=entries)]
        if panel.title == panels.AUGMENTATION.name and self.arms:
            arms = [HelpEntry(positive_names=(a,), description=ARMS[a].about) for a in self.arms]
            shown.append(HelpPanel(format="command", title="Arms", entries=arms))
        return shown

    def render_usage(self, console: "Console", options: "ConsoleOptions", usage: Any) -> None:
        """Print the line of usage."""
        PLAIN.render_usage(console, options, usage)

    def render_description(
        self, console: "Console", options: "ConsoleOptions", description: Any
    ) -> None:
        """Print the description of the command and its examples."""
        PLAIN.render_description(console, options, description)
        for example in self.examples:
            console.print(f"  {example}", markup=False, highlight=False, soft_wrap=True)
        if self.examples:
            console.print()

    def _hides(self, entry: HelpEntry) -> bool:
        return not set(self.hidden).isdisjoint(entry.positive_names)

    def _entry(self, entry: HelpEntry) -> HelpEntry:
        for name in entry.positive_names:
            entry = entry.copy(
                description=self.texts.get(name, entry.description),
                default=str(self.defaults[name]) if name in self.defaults else entry.default,
                # cyclopts adds an option for no value at all to those with many.
                negative_names=tuple(n for n in entry.negative_names if "--empty-" not in n),
            )
        return entry
