"""The command line: softaug train | pretrain | probe | evaluate | compare | sweep | preview ..."""

import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, ArgumentCollection, CycloptsError, Parameter
from cyclopts.config import Dict

from softaug_lab.basics.errors import SoftaugError, UsageError
from softaug_lab.cli.evaluation_inputs import (
    foreign_model,
    labelled_logits,
    model_file,
    other_images,
    own_model,
    under_corruptions,
)
from softaug_lab.cli.options import (
    FOREIGN,
    MODES,
    OTHERS,
    READ,
    Arm,
    DataOptions,
    Device,
    DryRun,
    ForeignOptions,
    ReadOptions,
    RecipeFile,
    RecipeOptions,
    Shard,
    Source,
    load_data,
)
from softaug_lab.cli.terminal import (
    advance,
    arms_table,
    console,
    corruption_table,
    evaluation_table,
    inert,
    log_to_terminal,
    ood_table,
    plan_table,
    progress_bar,
    quiet,
    say,
    tell,
)
from softaug_lab.recipes import (
    SELF_SUPERVISED,
    SIX_ARMS,
    SUPERVISED,
    Augmentation,
    Recipe,
    read_arm,
    read_recipe,
    sweep_arms,
)

if TYPE_CHECKING:
    from rich.progress import TaskID

    from softaug_lab.basics.processes import Processes
    from softaug_lab.data import Data
    from softaug_lab.training import Progress as StepProgress


def _from_recipe_file(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Take what the command line leaves open from the file of --recipe, where that is given.

    Without labels, what is then still open is that of SimSiam: its schedule is another one.
    """
    files = [argument for argument in arguments if argument.name == "--recipe"]
    for token in [token for argument in files for token in argument.tokens]:
        options, path = read_recipe(token.value)
        take = Dict(options, source=str(path), use_commands_as_keys=False, allow_unknown=True)
        take(app, commands, arguments)
    arms = [t.value for argument in arguments if argument.name == "--arms" for t in argument.tokens]
    named = [re.split(r"[(@]", arm)[0] for arm in arms]
    if commands[-1:] == ("pretrain",) or not set(SELF_SUPERVISED).isdisjoint(named):
        options, path = read_recipe("simsiam")
        take = Dict(options, source=str(path), use_commands_as_keys=False, allow_unknown=True)
        take(app, commands, arguments)


app = App(
    name="softaug",
    help="Soft augmentation: harsher augmentation, with targets softened by what it destroyed.",
    version=metadata.version("softaug"),
    config=_from_recipe_file,
)


@app.command
def train(
    data: Source,
    /,
    *,
    arm: Arm = "soft",
    _file: RecipeFile = None,
    recipe: RecipeOptions = None,
    read: ReadOptions = READ,
    run: Path | None = None,
    resume: Annotated[bool, Parameter(negative="")] = False,
    dry_run: DryRun = False,
    device: Device = "auto",
    shard: Shard = False,
) -> None:
    """Train one model, evaluate it, and write a run folder with its report.

    On several devices or machines: torchrun --nproc-per-node N -m -- softaug train ...

    Parameters
    ----------
    run
        The run folder, new (default: runs/DATA-ARM-seed-SEED).
    resume
        Go on with a run that was interrupted, in the same folder.
    """
    recipe = replace(recipe or Recipe(), arm=arm)
    if read_arm(arm).self_supervised:
        raise UsageError(f"{arm} learns without labels: softaug pretrain")
    _perform_one(data, recipe, read, run, resume, dry_run, device, shard)


@app.command
def pretrain(
    data: Source,
    /,
    *,
    arm: Annotated[
        str, Parameter(help=f"One of {', '.join(SELF_SUPERVISED)}, changed as those of train.")
    ] = "simsiam-soft",
    _file: RecipeFile = None,
    recipe: RecipeOptions = None,
    read: ReadOptions = READ,
    run: Path | None = None,
    resume: Annotated[bool, Parameter(negative="")] = False,
    dry_run: DryRun = False,
    device: Device = "auto",
    shard: Shard = False,
) -> None:
    """Pre-train one model without labels (SimSiam), probe it, and write a run folder with a report.

    The labels of DATA serve the probe alone. Defaults that differ from train are those of the
    recipe simsiam: 100 epochs, batches of 512, lr 0.03 for 256 images, no warm-up.

    Parameters
    ----------
    run
        The run folder, new (default: runs/DATA-ARM-seed-SEED).
    resume
        Go on with a run that was interrupted, in the same folder.
    """
    recipe = replace(recipe or Recipe(), arm=arm)
    if not read_arm(arm).self_supervised:
        raise UsageError(f"{arm} learns from labels: softaug train")
    _perform_one(data, recipe, read, run, resume, dry_run, device, shard)


def _perform_one(
    data: str,
    recipe: Recipe,
    read: DataOptions,
    run: Path | None,
    resume: bool,
    dry_run: bool,
    device: str,
    shard: bool,
) -> None:
    """One run, its report, and its figures on the terminal."""
    from softaug_lab.basics.processes import started
    from softaug_lab.experiments import collect, run_one
    from softaug_lab.report import write_report
    from softaug_lab.runs import RunFolder, folder_name, open_run

    with started(device, shard) as processes:
        quiet(not processes.main)
        loaded = load_data(data, read)
        if dry_run:
            _print_plan(recipe, (recipe.arm,), 1, loaded, processes)
            return
        folder = run or Path("runs") / f"{loaded.name}-{folder_name(recipe)}"
        opened = RunFolder(folder)
        if processes.main:
            opened = open_run(folder, recipe, loaded, _source(data, read), resume)
        processes.wait()
        with _interruption("--resume goes on with it"), progress_bar() as bar:
            task = bar.add_task(inert(recipe.arm), total=None, figures="")
            record = run_one(
                recipe, loaded, opened, processes, lambda step: advance(bar, task, step)
            )
        if not processes.main:
            return
    results = collect(f"{recipe.arm} on {loaded.name}", _command(), [opened], loaded, [])
    write_report(results, folder / "report.html")
    console.print(evaluation_table(record.evaluation))
    tell(f"model   {opened.model_file}")
    tell(f"report  {folder / 'report.html'}")


@app.command
def probe(
    run: Path,
    data: Source | None = None,
    /,
    *,
    read: ReadOptions = READ,
    json: Annotated[Path | None, Parameter(help="Write the figures to this file too.")] = None,
    device: Device = "auto",
) -> None:
    """Measure the frozen features of a run by a linear probe and by nearest neighbours.

    Beside them the same of the backbone before training. Figures and features are kept in the run
    folder.

    Parameters
    ----------
    run
        A run folder of pretrain, or of train.
    data
        What to train the probe and to test it on, by default what the run was trained on.
    """
    from softaug_lab.basics.processes import Processes, choose_device
    from softaug_lab.basics.storage import write_json
    from softaug_lab.evaluation import (
        Predictions,
        cached_features,
        probe_errors,
        probe_run,
        require_one_backbone,
        summarise,
    )
    from softaug_lab.runs import RunFolder

    opened = RunFolder(run)
    require_one_backbone(opened)
    if data is None:
        if read != READ:
            raise UsageError(f"{run}: how images are read goes with DATA; name it after the run")
        own = opened.description()["data"]["source"]
        # A run may have streamed what a probe must hold.
        data, read = own["data"], replace(DataOptions(**own["read"]), stream=False)
    loaded = load_data(data, read)
    featured = partial(cached_features, processes=Processes(choose_device(device)), folder=run)
    found, before = probe_run(opened, loaded, featured)
    linear = summarise(Predictions(loaded.test.labels, found.logits, {}), [0.0])
    figures = replace(linear, probe=probe_errors(found, before, loaded)).as_dict()
    for path in (run / f"probe-{loaded.name}.json", *([json] if json else [])):
        write_json(path, figures)
    console.print(evaluation_table(figures))
    tell(f"figures  {run / f'probe-{loaded.name}.json'}")


@app.command
def evaluate(
    run: Path,
    data: Source | None = None,
    /,
    *,
    read: ReadOptions = READ,
    foreign: Annotated[ForeignOptions, Parameter(name="*", group=OTHERS)] = FOREIGN,
    restrict: Annotated[
        bool | None,
        Parameter(
            help="Leave only the logits of the data's classes where these are fewer, as ImageNet-R "
            "has it (default: for models that softaug did not train)."
        ),
    ] = None,
    ood: Annotated[
        str | None,
        Parameter(
            help="Other data (as DATA, or a folder without classes) that the model should tell "
            "from the test images, by maximum softmax and by energy; of an .npz another one."
        ),
    ] = None,
    json: Annotated[Path | None, Parameter(help="Write the figures to this file.")] = None,
    corruptions: Annotated[
        bool, Parameter(negative="", help="Also under 19 corruptions in 5 severities (ImageNet-C).")
    ] = False,
    corrupted: Annotated[
        Path | None,
        Parameter(help="Also on a folder as of CIFAR-10-C, CIFAR-100-C or ImageNet-C."),
    ] = None,
    corruption_baseline: Annotated[
        Path | None,
        Parameter(help="A file of --json of another model, to normalise corruption errors by."),
    ] = None,
    device: Device = "auto",
) -> None:
    """Measure a trained model: top-1 and top-5 error, NLL, ECE, gap, Brier, occlusion curve.

    Parameters
    ----------
    run
        A run folder, or a .safetensors file that softaug wrote. Of others: timm:NAME, a TorchScript
        file (.pt), an ONNX file, package.module:function that returns a module or a callable on
        images, or logits [N,K] with labels [N] in an .npz. TorchScript files and functions are
        code, and it is run.
    data
        What to test on, by default what the run was tested on. Data without a test part are tested
        whole, unless the run was trained on them.
    """
    from softaug_lab.basics.processes import choose_device
    from softaug_lab.basics.storage import write_json
    from softaug_lab.corruptions import require_size
    from softaug_lab.evaluation import evaluate as measure
    from softaug_lab.evaluation import predict_logits, summarise
    from softaug_lab.experiments import occlusion_fills
    from softaug_lab.metrics import detect
    from softaug_lab.models import model_kind, read_logits

    what = model_kind(run)
    asked = corruptions or corrupted is not None
    if corruption_baseline is not None and not asked:
        raise UsageError("--corruption-baseline goes with --corruptions or --corrupted")
    if asked and what == "logits":
        raise UsageError(f"{run}: logits in a file are of no corrupted images")
    if what == "logits":
        predictions = labelled_logits(run, data, read, foreign, restrict)
        other = None if ood is None else read_logits(Path(ood))[0]
        figures = summarise(predictions, [0.0]).as_dict()
    else:
        prepare = own_model if what is None else foreign_model
        model, classes, loaded, test = prepare(
            run, data, read, foreign, restrict, choose_device(device)
        )
        # Before the work: they may be too small, or not there.
        if corruptions:
            require_size(test.images)
        images = None if ood is None else other_images(ood, test, read)
        evaluation, predictions = measure(model, test, fills=occlusion_fills(loaded))
        figures = evaluation.as_dict()
        if asked:
            figures |= under_corruptions(
                model, classes, test, corruptions, corrupted, corruption_baseline
            )
        other = None if images is None else predict_logits(model, images)
    if other is not None:
        found = {name: asdict(one) for name, one in detect(predictions.logits, other).items()}
        figures["ood"] = {"data": ood, "images": len(other), **found}
    if json is not None:
        write_json(json, figures)
    console.print(evaluation_table(figures))
    if other is not None:
        console.print(ood_table(figures["ood"]))
    for key in ("corruptions", "corrupted"):
        if key in figures:
            console.print(corruption_table(figures[key]))


@app.command
def compare(
    data: Source,
    /,
    *,
    arms: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = SIX_ARMS,
    seeds: int = 3,
    _file: RecipeFile = None,
    recipe: RecipeOptions = None,
    read: ReadOptions = READ,
    run: Path | None = None,
    corruptions: Annotated[
        bool, Parameter(negative="", help="Also under 19 corruptions in 5 severities (ImageNet-C).")
    ] = False,
    ood: Annotated[
        str | None,
        Parameter(
            help="Other data (as DATA, or a folder without classes) that the models should tell "
            "from the test images, by maximum softmax and by energy."
        ),
    ] = None,
    on: Literal["here", "ray"] = "here",
    dry_run: DryRun = False,
    device: Device = "auto",
    shard: Shard = False,
) -> None:
    """Compare augmentations fairly: same budget, order and weights; several seeds; one report.

    What is finished in the folder is kept, so the same command goes on after a crash, and more
    arms or seeds can be added later.

    Parameters
    ----------
    arms
        Names of arms, as of train; `all` for every one of these that has a name. Or of pretrain,
        among themselves: the figures are then those of a linear probe.
    seeds
        How many, counted from --seed.
    run
        The folder of the comparison (default: runs/compare-DATA).
    on
        here: one run after another; ray: side by side, on a Ray cluster whose machines all see the
        folder of the comparison.
    """
    from softaug_lab.basics.processes import Processes, choose_device, processes_begun, started
    from softaug_lab.basics.storage import write_json
    from softaug_lab.corruptions import require_size
    from softaug_lab.experiments import (
        collect,
        compare_runs,
        measure_corruptions,
        measure_ood,
        open_runs,
        require_comparable,
        run_one,
    )
    from softaug_lab.report import sentences, write_report

    if seeds < 1:
        raise UsageError(f"--seeds must be at least 1, got {seeds}")
    recipe = recipe or Recipe()
    arms = tuple(name for arm in arms for name in (SUPERVISED if arm == "all" else [arm]))
    for arm in arms:
        replace(recipe, arm=arm)  # which complains of an arm that is wrong
    require_comparable(arms)
    if on == "ray":
        if shard or dry_run or processes_begun() > 1:
            raise UsageError(
                "--on ray gives each run a process of its own on the cluster; leave out torchrun, "
                "--shard and --dry-run"
            )
        from softaug_lab.experiments.ray import cluster, run_all
    with (
        cluster() if on == "ray" else nullcontext(),
        started("cpu" if on == "ray" else device, shard) as processes,
        _interruption("the same command goes on with it"),
        progress_bar() as bar,
    ):
        quiet(not processes.main)
        loaded = load_data(data, read)
        if dry_run:
            _print_plan(recipe, arms, seeds, loaded, processes)
            return
        folder = run or Path("runs") / f"compare-{loaded.name}"
        tasks: dict[tuple[str, int], TaskID] = {}

        def watch(one: Recipe, step: "StepProgress") -> None:
            key = (one.arm, one.seed)
            if key not in tasks:
                tasks[key] = bar.add_task(
                    inert(f"{one.arm} seed {one.seed}"), total=None, figures=""
                )
            advance(bar, tasks[key], step)

        if corruptions:
            require_size(loaded.test.images)
        other = None if ood is None else other_images(ood, loaded.test, read)
        numbers = range(recipe.seed, recipe.seed + seeds)
        source = _source(data, read)
        pairs = open_runs(recipe, arms, numbers, loaded, folder, source, processes)
        if on == "ray":
            run_all(pairs, loaded, device, watch)
        else:
            for one, opened in pairs:
                run_one(one, loaded, opened, processes, partial(watch, one))
        here = Processes(choose_device(device)) if on == "ray" else processes
        if corruptions:
            task = bar.add_task("corruptions", total=len(pairs), figures="")
            for one, opened in pairs:
                bar.update(task, figures=inert(f"{one.arm} seed {one.seed}"))
                measure_corruptions(opened, loaded, here)
                bar.advance(task)
        if ood is not None and other is not None:
            for _, opened in pairs:
                measure_ood(opened, other, ood, here)
        if not processes.main:
            return
    runs = [opened for _, opened in pairs]
    title = f"{len(arms)} augmentations on {loaded.name}"
    results = collect(title, _command(), runs, loaded, compare_runs(runs, arms))
    write_json(folder / "results.json", results)
    write_report(results, folder / "report.html")
    console.print(arms_table(results))
    for sentence in sentences(results):
        console.print(inert(sentence), markup=False, highlight=False)
    tell(f"report  {folder / 'report.html'}")


@app.command
def sweep(
    data: Source,
    /,
    *,
    sigmas: Annotated[tuple[float, ...], Parameter(consume_multiple=True)] = (0.1, 0.2, 0.3, 0.4),
    ks: Annotated[tuple[float, ...], Parameter(consume_multiple=True)] = (1, 2, 4),
    modes: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = MODES,
    alphas: Annotated[tuple[float, ...], Parameter(consume_multiple=True)] = (0.05, 0.1, 0.2, 0.4),
    seeds: int = 3,
    _file: RecipeFile = None,
    recipe: RecipeOptions = None,
    read: ReadOptions = READ,
    run: Path | None = None,
    on: Literal["here", "ray"] = "here",
    dry_run: DryRun = False,
    device: Device = "auto",
    shard: Shard = False,
) -> None:
    """Compare soft crops over sigma and k, and label smoothing over alpha: the paper's figure 3.

    A comparison like any other, whose report draws the curves.

    Parameters
    ----------
    sigmas
        Strengths of the crop.
    ks
        Exponents of the softening curve.
    modes
        Arms that soften: soft, soft-weight, soft-both.
    alphas
        Of label smoothing on the standard crop.
    seeds
        How many, counted from --seed.
    run
        The folder of the comparison (default: runs/compare-DATA).
    on
        As of compare.
    """
    compare(
        data,
        arms=sweep_arms(sigmas, ks, modes, alphas),
        seeds=seeds,
        recipe=recipe,
        read=read,
        run=run,
        on=on,
        dry_run=dry_run,
        device=device,
        shard=shard,
    )


@app.command
def preview(
    data: Source,
    /,
    *,
    arm: Arm = "soft",
    augment: Augmentation = None,
    sigma: float = 0.3,
    k: float = 2.0,
    read: ReadOptions = READ,
    images: int = 16,
    seed: int = 0,
    out: Path = Path("preview.png"),
) -> None:
    """Draw a picture of training images under an augmentation, with visibility and confidence.

    Parameters
    ----------
    augment
        Such as crop(0.3)+erase(0.2), or a YAML file with a list of such parts.
    """
    from softaug_lab.experiments import augmented_samples
    from softaug_lab.report import sample_sheet
    from softaug_lab.training import build_arm

    if images < 1:
        raise UsageError(f"--images must be at least 1, got {images}")
    recipe = Recipe(arm=arm, augment=augment, sigma=sigma, k=k)
    loaded = load_data(data, read)
    _, height, width = loaded.image_shape
    chosen = build_arm(recipe, loaded.num_classes, height, width)
    pixels, labels, share, confidence = augmented_samples(chosen, loaded, images, seed)
    captions = [
        f"{inert(loaded.classes[int(label)])}\nv {v:.2f}  p {p:.2f}"
        for label, v, p in zip(labels, share.tolist(), confidence.tolist(), strict=True)
    ]
    try:
        sample_sheet(pixels, captions).savefig(out, bbox_inches="tight")
    except (OSError, ValueError) as error:
        raise SoftaugError(f"{out}: the picture could not be written ({error})") from error
    tell(f"{len(pixels)} images under {chosen!r}")
    tell(f"picture  {out}")


@app.command
def predict(
    run: Path,
    images: Annotated[list[Path], Parameter(consume_multiple=True)],
    /,
    *,
    top: Annotated[int, Parameter(help="How many classes for each image.")] = 1,
    device: Device = "auto",
) -> None:
    """Name the class of image files, with its confidence: lines of path, class and confidence.

    The confidence is of the logits over the temperature that --held-out images gave, if any did.
    Tabs between them; a tab, a newline or another control character of a name stands as in Python.

    Parameters
    ----------
    run
        A run folder, or a .safetensors file that softaug wrote.
    """
    from softaug_lab.basics.processes import choose_device
    from softaug_lab.data import read_image
    from softaug_lab.evaluation import predict_logits
    from softaug_lab.models import load_model

    if top < 1:
        raise UsageError(f"--top must be at least 1, got {top}")
    model = load_model(model_file(run)).to(choose_device(device))
    card = model.card
    failures = []
    for path in images:
        try:
            image = read_image(path, card.channels, card.height, card.width)
        except SoftaugError as error:
            failures.append(str(error))
            continue
        logits = predict_logits(model, image[None])[0]
        probabilities = (logits / card.temperature).softmax(dim=0)
        best = probabilities.topk(min(top, len(card.classes)))
        for p, index in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            line = "\t".join((inert(path), inert(card.classes[index]), f"{p:.4f}"))
            print(line)  # noqa: T201  for other programs
    if failures:
        raise SoftaugError("; ".join(failures))


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit with 0, 1 for a failure, 2 for a wrong request, 130 or 143 for a
    run that a signal stopped."""
    tokens = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in tokens
    tokens = [token for token in tokens if token != "--debug"]
    log_to_terminal()
    try:
        app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        if debug:
            raise
        _fail(f"{error}; see softaug --help", 2)
    except SoftaugError as error:
        if debug:
            raise
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except Exception as error:
        if debug:
            raise
        reason = " ".join(str(error).split()) or "no message"
        _fail(f"{type(error).__name__}: {reason}; --debug shows where", 1)


app.help_epilogue = "--debug shows the traceback of an error."


def _fail(message: str, code: int) -> None:
    quiet(False)  # whichever process fails, it is to be heard
    say(message, style="red")
    raise SystemExit(code)


def _command() -> str:
    return shlex.join(["softaug", *sys.argv[1:]])


def _print_plan(
    recipe: Recipe, arms: tuple[str, ...], seeds: int, data: "Data", processes: "Processes"
) -> None:
    from softaug_lab.experiments import plan

    if processes.count > 1:
        raise UsageError("--dry-run measures one process; leave torchrun out")
    console.print(plan_table(plan(recipe, arms, seeds, data, processes)))


@contextmanager
def _interruption(hint: str) -> Iterator[None]:
    """Tell whom Ctrl-C stopped how to go on."""
    from softaug_lab.training import InterruptedRunError

    try:
        yield
    except InterruptedRunError as error:
        raise InterruptedRunError(f"{error}; {hint}", error.signal_number) from error


def _source(data: str, read: DataOptions) -> dict[str, Any]:
    return {"data": data, "read": asdict(read)}
