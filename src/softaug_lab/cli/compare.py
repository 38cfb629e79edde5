"""softaug compare"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from softaug_lab.basics.errors import SoftaugError, UsageError, listed
from softaug_lab.cli.evaluation_inputs import other_images
from softaug_lab.cli.options import (
    COMPARING,
    CORRUPTED,
    OTHER_DATA,
    READ,
    RUNNING,
    CompareOptions,
    Comparing,
    DataOptions,
    LeftOpen,
    ReadOptions,
    RecipeFile,
    RecipeOptions,
    Running,
    RunOptions,
    Source,
)
from softaug_lab.cli.terminal import (
    advance,
    console,
    inert,
    progress_bar,
    quiet,
    quoted,
    say,
    show,
    tell,
)
from softaug_lab.cli.training import (
    command_line,
    events_beside_logs,
    interruption_hint,
    load_to_train,
    prepare,
    print_plan,
    source_of,
    with_weights_at_hand,
)
from softaug_lab.recipes import DEFAULT_ARMS, SUPERVISED, Recipe, panels

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID
    from torch import Tensor

    from softaug_lab.basics.processes import Processes
    from softaug_lab.data import Data
    from softaug_lab.runs import RunFolder
    from softaug_lab.training import Progress as StepProgress

    Runs = list[tuple[Recipe, RunFolder]]


def compare(
    data: Source,
    /,
    *,
    arms: Annotated[
        tuple[str, ...], Parameter(consume_multiple=True, group=panels.AUGMENTATION)
    ] = DEFAULT_ARMS,
    recipe: RecipeOptions = None,
    read: ReadOptions = READ,
    comparing: Comparing = COMPARING,
    corruptions: Annotated[
        bool, Parameter(negative="", help=CORRUPTED, group=panels.MEASURES)
    ] = False,
    ood: Annotated[str | None, Parameter(help=OTHER_DATA, group=panels.MEASURES)] = None,
    _file: RecipeFile = None,
    running: Running = RUNNING,
    _left_open: LeftOpen = (),
) -> None:
    """Compare arms: same budget, data order and initial weights; several seeds; one report.

    An arm is an augmentation with its targets and loss. Finished runs in the folder are kept: the
    same command continues after a crash; to add arms or seeds, name the earlier ones too. The arms
    simsiam... are trained without labels and compared with each other, by a linear probe.

    Parameters
    ----------
    arms
        Arms from the list below; NAME(FIELD=VALUE, ...) changes fields of an arm, NAME@SIGMA or
        NAME@EXPRESSION replaces its augmentation; `all` is every arm that learns from labels.
    """
    from softaug_lab.basics.processes import started
    from softaug_lab.experiments import open_runs

    _refuse_beside_jobs(comparing, running)
    recipe, on_ray = recipe or Recipe(), comparing.on == "ray"
    arms = _checked(arms, recipe, comparing)
    with (
        _cluster(running) if on_ray else nullcontext(),
        started("cpu" if on_ray else running.device, running.shard) as processes,
        interruption_hint("the same command goes on with it"),
        progress_bar() as bar,
    ):
        quiet(not processes.main)
        loaded, read = load_to_train(data, read, comparing.folder)
        folder = comparing.folder(loaded.name)
        recipe = with_weights_at_hand(recipe, "compare", data, _left_open, loaded, folder)
        recipe = prepare(recipe, arms, folder, loaded, processes, running)
        if running.dry_run:
            print_plan(recipe, arms, comparing.seeds, loaded, processes)
            return
        measures = _measures(loaded, read, corruptions, ood)
        seeds, source = _seeds(recipe, comparing), source_of(data, read)
        pairs = open_runs(recipe, arms, seeds, loaded, folder, source, processes)
        with events_beside_logs(folder, running, processes) as copy_logs:
            watch = _Watch(bar, copy_logs)
            processes = _perform(pairs, loaded, processes, comparing, running.device, watch)
        measures.measure(pairs, loaded, processes, bar)
        if not processes.main:
            return
    _report(pairs, arms, loaded, folder)


def _checked(arms: Sequence[str], recipe: Recipe, comparing: CompareOptions) -> tuple[str, ...]:
    """Expand `all`; raises UsageError for wrong arms, arms that cannot be compared, and none."""
    from softaug_lab.experiments import require_comparable

    for option, count in (("--seeds", comparing.seeds), ("--jobs", comparing.jobs)):
        if count < 1:
            raise UsageError(f"{option} must be at least 1, got {count}")
    if not arms:
        raise UsageError("--arms names no arm; expected at least one, such as --arms standard auto")
    expanded = tuple(name for arm in arms for name in (SUPERVISED if arm == "all" else [arm]))
    for arm in expanded:
        replace(recipe, arm=arm)  # a recipe checks its arm
    require_comparable(expanded)
    return expanded


def _refuse_beside_jobs(comparing: CompareOptions, running: RunOptions) -> None:
    from softaug_lab.basics.processes import processes_begun

    if comparing.jobs < 2:
        return
    if running.shard or processes_begun() > 1 or comparing.on == "ray":
        raise UsageError(
            "--jobs gives each run a process of its own on this machine; leave out torchrun, "
            "--shard and --on ray"
        )
    if running.minutes is not None:
        raise UsageError("--minutes measures one run alone; with --jobs set --epochs instead")


def _seeds(recipe: Recipe, comparing: CompareOptions) -> range:
    return range(recipe.seed, recipe.seed + comparing.seeds)


@dataclass(frozen=True)
class _Watch:
    """Shows the progress of each run as a task of the bar; then calls `after`."""

    bar: "Progress"
    after: Callable[[], None]
    tasks: "dict[tuple[str, int], TaskID]" = field(default_factory=dict)

    def __call__(self, recipe: Recipe, step: "StepProgress") -> None:
        key = (recipe.arm, recipe.seed)
        if key not in self.tasks:
            self.tasks[key] = self.bar.add_task(_name(recipe), total=None, figures="")
        advance(self.bar, self.tasks[key], step)
        self.after()


@dataclass(frozen=True)
class _Measures:
    """What to measure of finished runs beyond their evaluation.

    other: uint8 images [N,C,H,W] of other data, named `ood`.
    """

    corruptions: bool
    ood: str | None
    other: "Tensor | None"

    def measure(self, runs: "Runs", data: "Data", processes: "Processes", bar: "Progress") -> None:
        from softaug_lab.experiments import measure_corruptions, measure_ood

        if self.corruptions:
            task = bar.add_task("corruptions", total=None, figures="")
            show_progress = partial(_show_corruption, bar, task)
            measure_corruptions([run for _, run in runs], data, processes, show_progress)
        if self.ood is not None and self.other is not None:
            for _, run in runs:
                measure_ood(run, data.test.images, self.other, self.ood, processes)


def _show_corruption(bar: "Progress", task: "TaskID", name: str, severity: int) -> None:
    bar.update(task, figures=f"{name} {severity}", advance=1)


def _measures(data: "Data", read: DataOptions, corruptions: bool, ood: str | None) -> _Measures:
    """Load what the measures need; before any training, since images may be too small for it."""
    from softaug_lab.corruptions import require_size

    if corruptions:
        require_size(data.test.images)
    other = None if ood is None else other_images(ood, data.test, read)
    return _Measures(corruptions, ood, other)


def _perform(
    runs: "Runs",
    data: "Data",
    processes: "Processes",
    comparing: CompareOptions,
    device: str,
    watch: _Watch,
) -> "Processes":
    """Train where the options say; return the process that measures the finished runs here."""
    from softaug_lab.experiments import run_jobs, run_one

    _say_left_out(runs)
    if comparing.on == "ray":
        return _perform_on_ray(runs, data, device, watch)
    if comparing.jobs > 1:
        run_jobs(runs, data, device, comparing.jobs, watch, say)
        return processes
    for recipe, run in runs:
        run_one(recipe, data, run, processes, partial(watch, recipe))
    return processes


def _perform_on_ray(runs: "Runs", data: "Data", device: str, watch: _Watch) -> "Processes":
    from softaug_lab.basics.processes import Processes, choose_device
    from softaug_lab.experiments.ray import run_all

    run_all(runs, data, device, watch)
    return Processes(choose_device(device))


def _cluster(running: RunOptions) -> AbstractContextManager[None]:
    from softaug_lab.experiments.ray import cluster

    _refuse_beside_ray(running)
    return cluster()


def _refuse_beside_ray(running: RunOptions) -> None:
    from softaug_lab.basics.processes import processes_begun

    if running.shard or running.dry_run or processes_begun() > 1:
        raise UsageError(
            "--on ray gives each run a process of its own on the cluster; leave out torchrun, "
            "--shard and --dry-run"
        )
    if running.minutes is not None:
        raise UsageError("--minutes measures this machine; with --on ray set --epochs instead")


def _say_left_out(runs: "Runs") -> None:
    """Name the arms of finished runs beside these, which the report will not have."""
    from softaug_lab.runs import RunFolder

    arms, folder = {recipe.arm for recipe, _ in runs}, runs[0][1].folder.parent
    others: set[str] = set()
    for path in folder.glob("*/recipe.json"):
        with suppress(SoftaugError):  # of another version, or by hand
            run = RunFolder(path.parent)
            others |= {run.recipe().arm} - arms if run.finished else set()
    if others:
        say(
            f"{folder.parent} also holds finished runs of {listed(sorted(others), 4)}; "
            "name them in --arms to keep them in the report"
        )


def _report(pairs: "Runs", arms: Sequence[str], data: "Data", folder: Path) -> None:
    """Write results.json and report.html, and print the table and what it supports."""
    from softaug_lab.basics.storage import held, write_json
    from softaug_lab.cli.tables import arms_table
    from softaug_lab.experiments import collect, compare_runs
    from softaug_lab.report import answer, sentences, write_report
    from softaug_lab.runs import RunFolder

    runs = [run for _, run in pairs]
    compared = arms[0] if len(arms) == 1 else f"{len(arms)} arms"
    title = f"{compared} on {data.name}"
    results = collect(title, command_line(), runs, data, compare_runs(runs, arms))
    with held(folder, patience=60):  # another comparison may add to the same folder
        RunFolder(folder).remove_leftovers()
        write_json(folder / "results.json", results)
        write_report(results, folder / "report.html")
    show(arms_table(results))
    for sentence in (*answer(results), *sentences(results)):
        console.print(inert(sentence), markup=False, highlight=False)
    tell(f"report  {quoted(folder / 'report.html')}")


def _name(recipe: Recipe) -> str:
    return inert(f"{recipe.arm} seed {recipe.seed}")
