"""softaug tune"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from softaug_lab.basics.errors import UsageError, plural
from softaug_lab.cli.options import (
    READ,
    DataOptions,
    Device,
    LeftOpen,
    ReadOptions,
    RecipeFile,
    RecipeOptions,
    Source,
)
from softaug_lab.cli.terminal import advance, console, inert, progress_bar, quoted, say, show, tell
from softaug_lab.cli.training import (
    command_line,
    interruption_hint,
    load_to_train,
    say_mirrored,
    source_of,
    with_weights_at_hand,
)
from softaug_lab.cli.weights import begin_with_weights
from softaug_lab.recipes import WHOLE, Recipe, panels

if TYPE_CHECKING:
    from rich.progress import TaskID

    from softaug_lab.basics.processes import Processes
    from softaug_lab.training import Progress as StepProgress
    from softaug_lab.tuning import Plan, Study

PLAN = "plan.json"
HELD_OUT_OF_FEW = 0.1  # of the training images, to decide on


def tune(
    data: Source,
    /,
    *,
    minutes: Annotated[float, Parameter(group=panels.SCHEDULE)],
    objective: Annotated[
        Literal["mix_nll", "error", "cut_off_error"], Parameter(group=panels.MEASURES)
    ] = "mix_nll",
    recipe: RecipeOptions = None,
    read: ReadOptions = READ,
    _file: RecipeFile = None,
    run: Annotated[Path | None, Parameter(group=panels.RUN)] = None,
    device: Device = "auto",
    jobs: Annotated[int, WHOLE, Parameter(group=panels.MACHINES)] = 1,
    _left_open: LeftOpen = (),
) -> None:
    """Find the strength of the arm auto that suits the data, train with it, and write a report.

    Half of the time goes to short runs around the rule of the arm auto, a quarter as long as the
    last one; a part of the training images scores them. The rule's strength is left only where the
    gain is above its standard error, in short runs and then in runs of full length of both, on
    images that none of them trained on. The same command continues after a crash.

    Parameters
    ----------
    minutes
        Time for all runs, on this machine.
    objective
        What the runs are scored by: mix_nll is the NLL of whole, cut-off and hidden images
        under one confidence, error that on whole images, cut_off_error that on cut-off ones.
    run
        Folder of the search (default: runs/tune-DATA).
    jobs
        Number of runs to train at a time, each in a process of its own; on a CPU they share its
        cores, with several GPUs each takes one that is free.
    """
    from softaug_lab.basics.processes import Processes, choose_device, processes_begun

    if processes_begun() > 1:
        raise UsageError("tune is one process; leave out torchrun")
    if jobs < 1:
        raise UsageError(f"--jobs must be at least 1, got {jobs}")
    recipe = recipe or Recipe(arm="auto")
    for name in ("augment", "sigma"):
        if getattr(recipe, name) is not None:
            raise UsageError(f"tune chooses --{name}, leave it out; got {getattr(recipe, name)}")
    processes = Processes(choose_device(device))
    with interruption_hint("the same command goes on with it"):
        study = _open(data, read, recipe, run, minutes, objective, processes, jobs, _left_open)
        _perform(study, processes)


def _open(
    data: str,
    read: DataOptions,
    recipe: Recipe,
    run: Path | None,
    minutes: float,
    objective: str,
    processes: "Processes",
    jobs: int,
    left_open: Sequence[str],
) -> "Study":
    """Load the data; make the plan of a search, or read that of one that goes on."""
    from softaug_lab.basics.storage import held
    from softaug_lab.models import require_known
    from softaug_lab.tuning import Study, make_plan, read_plan, require_tunable

    require_known(recipe.model)

    def folder_of(name: str) -> Path:
        folder = run or Path("runs") / f"tune-{name}"
        _refuse_others(folder)  # before a share is taken from the runs that it may hold
        return folder

    loaded, read = load_to_train(data, read, folder_of, HELD_OUT_OF_FEW)
    require_tunable(loaded)
    folder = folder_of(loaded.name)
    recipe = with_weights_at_hand(recipe, "tune", data, left_open, loaded, folder)
    recipe = begin_with_weights(recipe, loaded)
    say_mirrored(recipe, loaded)
    path = folder / PLAN
    if path.exists():
        plan = read_plan(path, minutes, objective, recipe.seed)
        if plan.jobs != jobs:
            say(f"planned with --jobs {plan.jobs}; with {jobs} the time will differ")
    else:
        plan = make_plan(minutes, objective, recipe, loaded, processes, jobs)
        folder.mkdir(parents=True, exist_ok=True)
        with held(folder):
            plan.save(path)
    _announce(plan)
    return Study(folder, plan, recipe, loaded, source_of(data, read), jobs)


def _refuse_others(folder: Path) -> None:
    """Raise UsageError for a folder, or a file, that something other than a search made."""
    if not folder.exists() or (folder / PLAN).exists():
        return
    if not folder.is_dir() or any(folder.iterdir()):
        raise UsageError(f"{folder}: exists and is no search; --run names another folder")


def _announce(plan: "Plan") -> None:
    say(
        f"{plan.trials} short runs of {plural(plan.trial_epochs, 'epoch')}, scored on "
        f"{plan.scored:,} training images that they do not train on; "
        f"then 2 runs of {plural(plan.epochs, 'epoch')}"
    )


def _perform(study: "Study", processes: "Processes") -> None:
    from softaug_lab.basics.storage import held, write_json
    from softaug_lab.cli.tables import arms_table
    from softaug_lab.experiments import collect, compare_runs
    from softaug_lab.report import tuning_sentences, write_report, write_tuning_report
    from softaug_lab.tuning import as_record

    with held(study.folder), progress_bar() as bar:
        tasks: dict[str, TaskID] = {}

        def watch(name: str, of: Recipe, step: "StepProgress") -> None:
            title = inert(f"{name}: {of.arm} seed {of.seed}")
            if title not in tasks:
                tasks[title] = bar.add_task(title, total=None, figures="")
            advance(bar, tasks[title], step)

        trials = study.run_trials(processes, watch)
        surface = study.fit(trials)
        arms = study.last_arms(surface)
        pairs = study.run_last(arms, processes, watch)
        runs = [one for _, one in pairs]
        check = study.check(pairs, processes)
        title = f"The last runs of a search on {study.data.name}"
        results = collect(title, command_line(), runs, study.data, compare_runs(runs, arms))
        write_json(study.folder / "last" / "results.json", results)
        write_report(results, study.folder / "last" / "report.html")
        record = {"command": command_line(), **as_record(study, trials, surface, arms, check)}
        write_json(study.folder / "tuning.json", record)
        write_tuning_report(record, study.folder / "report.html")
    show(arms_table(results))
    for sentence in tuning_sentences(record):
        console.print(inert(sentence), markup=False, highlight=False)
    chosen = runs[arms.index(record["winner"])]
    tell(f"model   {quoted(chosen.model_file)}")
    tell(f"report  {quoted(study.folder / 'report.html')}")
