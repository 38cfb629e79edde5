"""What the commands that train share: one run, the plan of a dry run, hints after Ctrl-C."""

import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softaug_lab.basics.errors import listed, plural
from softaug_lab.cli.options import DataOptions, RunFolderOptions, RunOptions, load_data
from softaug_lab.cli.terminal import advance, inert, progress_bar, quiet, quoted, say, show, tell
from softaug_lab.cli.weights import begin_with_weights, choose_weights
from softaug_lab.recipes import AUTO, Recipe, read_arm

if TYPE_CHECKING:
    from softaug_lab.basics.processes import Processes
    from softaug_lab.data import Data
    from softaug_lab.runs import RunFolder
    from softaug_lab.training import Progress


def train_one(
    data: str,
    recipe: Recipe,
    read: DataOptions,
    folder: RunFolderOptions,
    running: RunOptions,
    left_open: Sequence[str] = (),
) -> None:
    """Perform one run, write its report, and print its figures.

    left_open: fields of the recipe for which fine-tuning may choose.
    """
    from softaug_lab.basics.processes import started
    from softaug_lab.experiments import run_one
    from softaug_lab.runs import RunFolder, folder_name, open_run
    from softaug_lab.training import resolve

    def path_of(name: str) -> Path:
        return folder.run or Path("runs") / f"{name}-{folder_name(recipe)}"

    with started(running.device, running.shard) as processes:
        quiet(not processes.main)
        loaded, read = load_to_train(data, read, path_of)
        path = path_of(loaded.name)
        recipe = with_weights_at_hand(recipe, "train", data, left_open, loaded, path)
        recipe = prepare(recipe, (recipe.arm,), path, loaded, processes, running)
        recipe = resolve(recipe, loaded)
        if running.dry_run:
            print_plan(recipe, (recipe.arm,), 1, loaded, processes)
            return
        run = RunFolder(path)
        if processes.main:
            run = open_run(
                path, recipe, loaded, source_of(data, read), folder.resume, processes.device
            )
        processes.wait()
        goes_on = folder.resume and _goes_on(run)
        with (
            interruption_hint("--resume goes on with it"),
            progress_bar() as bar,
            events_beside_logs(path, running, processes) as copy_logs,
        ):
            task = bar.add_task(inert(recipe.arm), total=None, figures="")

            def watch(step: "Progress") -> None:
                nonlocal goes_on
                if goes_on:
                    say(f"{path}: goes on after step {step.step - 1} of {step.steps}")
                    goes_on = False
                advance(bar, task, step)
                copy_logs()

            record = run_one(recipe, loaded, run, processes, watch)
        if not processes.main:
            return
    _report(recipe, run, loaded, record.evaluation)


def _report(recipe: Recipe, run: "RunFolder", data: "Data", evaluation: dict[str, Any]) -> None:
    """Write report.html, and print the figures of the run."""
    from softaug_lab.cli.tables import evaluation_table, views_table
    from softaug_lab.experiments import collect
    from softaug_lab.report import write_report

    report = run.folder / "report.html"
    results = collect(f"{recipe.arm} on {data.name}", command_line(), [run], data, [])
    write_report(results, report)
    show(evaluation_table(evaluation))
    if evaluation.get("mix") is not None:
        show(views_table(evaluation))
    for file in filter(Path.exists, run.model_files):  # an ensemble has one for each member
        tell(f"model   {quoted(file)}")
    tell(f"report  {quoted(report)}")


def _goes_on(run: "RunFolder") -> bool:
    """Whether there is something to resume; says where there is not, or nothing is left to do."""
    if not run.started:
        say(f"nothing to go on with in {run.folder}: a new run begins")
    elif run.finished:
        say(f"{run.folder}: this run is finished")
    return run.started


def events_beside_logs(
    folder: Path, running: RunOptions, processes: "Processes"
) -> AbstractContextManager[Callable[[], None]]:
    """Keep TensorBoard's event files of the runs in a folder, where --tensorboard asks for them.

    Yields a function for after each training step; one process of several writes.
    """
    from softaug_lab.runs import event_files

    wanted = running.tensorboard and processes.main
    return event_files(folder) if wanted else nullcontext(lambda: None)


def load_to_train(
    data: str, read: DataOptions, folder: Callable[[str], Path], share_of_few: float = 0.0
) -> tuple["Data", DataOptions]:
    """Load the data to train on, and set images aside for the temperature where there are enough.

    folder: the run folder, or that of a comparison, by the data's name; where it has runs, the
    share that they held out is taken again. share_of_few: to set aside where there are too few for
    a temperature. Returns the data, and the options with the share.
    """
    from softaug_lab.data import hold_out, share_to_hold_out, summary

    loaded = load_data(data, read)
    share = read.held_out
    if share is None:
        recorded = _recorded_share(folder(loaded.name))
        share = (share_to_hold_out(loaded) or share_of_few) if recorded is None else recorded
        if share:
            said = len(loaded.notes)
            loaded = hold_out(loaded, share, seed=0)
            for note in loaded.notes[said:]:
                say(note)
        else:
            say(_uncalibrated(loaded))
    for line in summary(loaded):
        say(line)
    _say_twice(loaded)
    return loaded, replace(read, held_out=share, size=read.size or loaded.chosen_side)


def with_weights_at_hand(
    recipe: Recipe,
    command: str,
    source: str,
    left_open: Sequence[str],
    data: "Data",
    folder: Path,
) -> Recipe:
    """Let a command begin with weights that it finds, unless its folder has runs without them.

    source: DATA as it was typed. left_open: see `choose_weights`.
    """
    begun = None if (first := _first_run(folder)) is None else first.recipe()
    request = f"{command} {shlex.quote(source)}"
    return choose_weights(recipe, data, request, left_open, begun)


def prepare(
    recipe: Recipe,
    arms: Sequence[str],
    folder: Path,
    data: "Data",
    processes: "Processes",
    running: RunOptions,
) -> Recipe:
    """Set the epochs that `--minutes` allows, and say what a rule chooses for the arms auto.

    A folder that has runs keeps their epochs. Raises UsageError for an unknown model, and where the
    data lack what an arm needs.
    """
    from softaug_lab.experiments import epochs_within, require_trainable
    from softaug_lab.models import require_known

    require_known(recipe.model)
    for arm in arms:
        require_trainable(replace(recipe, arm=arm), data)
    recipe = begin_with_weights(recipe, data)
    if running.minutes is not None:
        begun = _first_run(folder)
        epochs = (
            epochs_within(running.minutes, recipe, arms, data, processes)
            if begun is None
            else begun.recipe().epochs
        )
        say(f"{plural(epochs, 'epoch')} for {running.minutes:g} minutes here")
        recipe = replace(recipe, epochs=epochs)
    by_rule = [chosen for arm in arms if (chosen := replace(recipe, arm=arm)).by_rule]
    say_mirrored(recipe, data)
    for unused in _unused(recipe, arms, by_rule=bool(by_rule)):
        say(f"{unused} changes nothing: the augmentation of {listed(arms, 4)} does not use it")
    if by_rule:
        _announce(by_rule[0], data)  # the rule chooses alike for all of them
    return recipe


def say_mirrored(recipe: Recipe, data: "Data") -> None:
    """Say where arrays, which may be spectrograms, are mirrored as photos are."""
    if recipe.flip and data.arrays:
        say(
            f"{data.name}: arrays (.npy) are mirrored left to right; for sounds add --no-flip, "
            "since a sound played backwards is another one (docs/spectrograms.md)"
        )


def _unused(recipe: Recipe, arms: Sequence[str], *, by_rule: bool) -> list[str]:
    """List the options of augmentation that are set and that none of the arms reads."""
    reads = any(re.search(rf"\b(harsh|{AUTO})\b", read_arm(arm).augment) for arm in arms)
    given = recipe.augment is not None
    unused = {
        "--augment": given and not reads,
        "--sigma": recipe.sigma is not None and (given or not reads),
        "--robust": recipe.robust != Recipe.robust and (given or not by_rule),
    }
    return [name for name, is_unused in unused.items() if is_unused]


def _announce(recipe: Recipe, data: "Data") -> None:
    """Say what a rule chooses and for what."""
    from softaug_lab.training import resolve

    chosen = resolve(recipe, data)
    say(f"{recipe.arm}: {chosen.augment}, k = {recipe.parsed_arm.k or chosen.k:g}")
    if recipe.augment is None:
        say(
            f"chosen for {plural(recipe.epochs, 'epoch')} of {data.train_images:,} images "
            "(docs/budget.md); --sigma, --k, --robust and --augment change it"
        )


def _say_twice(data: "Data") -> None:
    """Say how many test images are training images too."""
    import torch

    from softaug_lab.data import content_keys

    if data.stream is None:
        twice = int(torch.isin(content_keys(data.test.images), data.training_keys).sum())
        if twice:
            n = f"{twice:,} of {len(data.test):,}"
            say(f"{data.name}: {n} test images are training images too, by their pixels")


def _uncalibrated(data: "Data") -> str:
    """Say why no temperature is fitted."""
    return (
        f"{data.name}: {data.train_images:,} training images are too few to hold some out for a "
        "temperature; --held-out SHARE does so all the same"
    )


def _first_run(folder: Path) -> "RunFolder | None":
    """Return the run in this folder, or the first one of the comparison or search in it, if any.

    A run that failed before it had anything to resume is none.
    """
    from softaug_lab.runs import RunFolder

    with suppress(OSError):  # a folder that cannot be read is refused when it is opened
        inner = (
            path for part in ("runs", "trials") for path in folder.glob(f"{part}/*/recipe.json")
        )
        records = (folder / "recipe.json", *sorted(inner))
        return next((run for at in records if (run := RunFolder(at.parent)).started), None)
    return None


def _recorded_share(folder: Path) -> float | None:
    """Return the share that the first run in a folder held out; None for a folder without runs."""
    run = _first_run(folder)
    if run is None:
        return None
    source = run.description()["data"]["source"]
    return float(source.get("read", {}).get("held_out") or 0.0)


def print_plan(
    recipe: Recipe, arms: Sequence[str], seeds: int, data: "Data", processes: "Processes"
) -> None:
    """Measure a few steps and print what the command will take."""
    from softaug_lab.cli.tables import plan_table
    from softaug_lab.experiments import plan

    measured = plan(recipe, arms, seeds, data, processes)
    if processes.main:
        show(plan_table(measured))


@contextmanager
def interruption_hint(hint: str) -> Iterator[None]:
    """Append to the message after Ctrl-C how to continue the run."""
    from softaug_lab.training import InterruptedRunError

    try:
        yield
    except InterruptedRunError as error:
        raise InterruptedRunError(f"{error}; {hint}", error.signal_number) from error


def command_line() -> str:
    """The command as the user typed it, for the report; to run it again, nothing is resumed."""
    return shlex.join(["softaug", *(word for word in sys.argv[1:] if word != "--resume")])


def source_of(data: str, read: DataOptions) -> dict[str, Any]:
    """DATA and its options, as recipe.json records them."""
    return {"data": data, "read": asdict(read)}
