"""softaug advise"""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from rich.table import Table
from rich.text import Text

from softaug_lab.cli.options import IN_DATA, Source
from softaug_lab.cli.terminal import inert, progress_bar, show, tell
from softaug_lab.recipes import FINE_TUNING, Recipe, are_few_photos, read_recipe

if TYPE_CHECKING:
    from softaug_lab.advice import Advice, Choice
    from softaug_lab.data import Inspection


def advise(data: Source, /, *, test: Annotated[str | None, IN_DATA] = None) -> None:
    """Look through images before any training: faults, a recipe, what to expect, and the command.

    Parameters
    ----------
    test
        Data to test on, instead of the test part of DATA.
    """
    from softaug_lab.advice import advise, choose
    from softaug_lab.basics.processes import Processes, choose_device
    from softaug_lab.data import available_memory
    from softaug_lab.experiments import guess_seconds

    found = _look_through(data, test)
    choice, settings = _begin(found, choose(found, available_memory()))
    seconds = guess_seconds(
        Recipe(arm="auto", flip=choice.flip, **settings),
        found.classes,
        (choice.channels, choice.height, choice.width),
        int(found.train.sum()),
        int(found.test.sum()),
        Processes(choose_device("auto")),
    )
    _print(advise(data, test, found, choice, seconds))


def _look_through(data: str, test: str | None) -> "Inspection":
    from softaug_lab.data import inspect

    with progress_bar() as bar:
        task = bar.add_task("images", total=None, figures="")
        return inspect(data, test, lambda done, n: bar.update(task, completed=done, total=n))


def _begin(data: "Inspection", choice: "Choice") -> tuple["Choice", dict[str, Any]]:
    """Choose fine-tuning where `train` will; return the settings of the recipe, too."""
    from softaug_lab.data import number_to_hold_out
    from softaug_lab.models import weights_at_hand

    images = int(data.train.sum())
    images -= number_to_hold_out(images)
    few = are_few_photos(images, choice.side, choice.stream)
    if not few or not (found := weights_at_hand()):
        return choice, {"epochs": choice.epochs, "augment": choice.augment}
    settings = read_recipe(FINE_TUNING)[0]
    choice = replace(choice, epochs=settings["epochs"], fine_tuned=found.model, augment=None)
    return choice, {**settings, "model": found.model}


def _print(advice: "Advice") -> None:
    """Print the verdict, the faults, the sections and the command."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    rows = [("verdict", advice.verdict)]
    rows += [(f"fault {i}", f"{fault.text}.") for i, fault in enumerate(advice.faults, 1)]
    for heading, text in (*rows, *advice.sections.items()):
        table.add_row(heading, Text(inert(text)))
    show(table)
    tell("")
    tell(advice.command)
