"""The command line: softaug train | evaluate | compare | sweep | preview | predict."""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, ArgumentCollection, CycloptsError, Group, Parameter
from cyclopts.config import Dict

import softaug
from softaug.lab.arms import ARMS, SIX_ARMS, sweep_arms
from softaug.lab.errors import SoftaugError, UsageError
from softaug.lab.recipe import Augmentation, Recipe
from softaug.lab.recipe_files import SHIPPED, read_recipe
from softaug.lab.terminal import (
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

if TYPE_CHECKING:
    import torch
    from rich.progress import TaskID
    from torch import nn

    from softaug.lab.data import Data, ImageSet
    from softaug.lab.engine import Engine
    from softaug.lab.evaluate import Predictions
    from softaug.lab.train import Progress as StepProgress


def _from_recipe_file(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Take what the command line leaves open from the file of --recipe, where that is given."""
    files = [argument for argument in arguments if argument.name == "--recipe"]
    for token in [token for argument in files for token in argument.tokens]:
        options, path = read_recipe(token.value)
        take = Dict(options, source=str(path), use_commands_as_keys=False, allow_unknown=True)
        take(app, commands, arguments)


app = App(
    name="softaug",
    help="Soft augmentation: harsher augmentation, with targets softened by what it destroyed.",
    version=softaug.__version__,
    config=_from_recipe_file,
)


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """How the images are read."""

    size: Annotated[int | None, Parameter(help="Short side to SIZE, then centre crop.")] = None
    train_images: Annotated[
        int | None, Parameter(help="Train on a balanced subset of so many images.")
    ] = None
    test: Annotated[
        str | None, Parameter(help="Data to test on, instead of the test part of DATA.")
    ] = None
    held_out: Annotated[
        float,
        Parameter(help="Share of the training images set aside, to fit a temperature to."),
    ] = 0.0
    max_unreadable: Annotated[
        float, Parameter(help="Share of the images that may be unreadable, and are left out.")
    ] = 0.0
    stream: Annotated[
        bool, Parameter(help="Read the training images while they are trained on.")
    ] = False
    readers: Annotated[
        int, Parameter(help="Of --stream: places read at once, over all processes.")
    ] = 8
    buffer: Annotated[
        int, Parameter(help="Of --stream: encoded images held to be shuffled, over all readers.")
    ] = 4096


@dataclass(frozen=True, kw_only=True)
class ForeignOptions:
    """How a model is used that softaug did not train."""

    checkpoint: Annotated[
        Path | None,
        Parameter(help="Of timm:NAME: its weights (default: timm's, which are fetched)."),
    ] = None
    classes: Annotated[
        Path | None,
        Parameter(help="The names of its classes, one a line, in the order of its logits."),
    ] = None
    mean: Annotated[
        tuple[float, ...] | None,
        Parameter(
            consume_multiple=True,
            negative="",
            help="One number, or one for each channel (default: timm's, else 0).",
        ),
    ] = None
    std: Annotated[
        tuple[float, ...] | None,
        Parameter(consume_multiple=True, negative="", help="As --mean (default: timm's, else 1)."),
    ] = None
    input_size: Annotated[
        int | None,
        Parameter(
            help="Short side to SIZE, then centre crop (default: as timm or the ONNX file has it, "
            "else the size of the data)."
        ),
    ] = None


Source = Annotated[
    str,
    Parameter(
        help="demo, cifar10, cifar100, a folder of class folders, Parquet files, ImageNet's "
        "archives, tar archives as of WebDataset (train-{000..146}.tar, here or at an address), or "
        "hf:NAME of the Hugging Face Hub."
    ),
]
Arm = Annotated[
    str,
    Parameter(
        help=f"One of {', '.join(ARMS)}; NAME(FIELD=VALUE, ...) for one that differs, "
        "NAME@SIGMA or NAME@EXPRESSION for another augmentation."
    ),
]
RecipeFile = Annotated[
    str | None,
    Parameter(
        name="--recipe",
        help="Options from a YAML file, or from a recipe of the paper by its name; what stands on "
        f"the command line comes first. {', '.join(SHIPPED)}.",
    ),
]
RecipeOptions = Annotated[Recipe, Parameter(name="*")]
ReadOptions = Annotated[DataOptions, Parameter(name="*")]
DryRun = Annotated[
    bool,
    Parameter(negative="", help="Measure a few steps, tell what it will take, and write nothing."),
]
Device = Annotated[str, Parameter(help="auto, cpu, cuda, mps, ...")]
Shard = Annotated[
    bool, Parameter(negative="", help="Split the model over the processes of torchrun (FSDP).")
]
MODES = ("soft", "soft-weight", "soft-both")
READ = DataOptions()
RECIPE = Recipe()
FOREIGN = ForeignOptions()
OTHERS = Group(
    "Models of others",
    help="They get float32 images [N,C,H,W] in [0, 1], less --mean, over --std, and give logits "
    "[N,K], of the data's classes in their order where --classes does not name them.",
)


@app.command
def train(
    data: Source,
    /,
    *,
    arm: Arm = "soft",
    _file: RecipeFile = None,
    recipe: RecipeOptions = RECIPE,
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
    from softaug.lab.engine import started
    from softaug.lab.experiment import perform
    from softaug.lab.report import write_report
    from softaug.lab.results import collect
    from softaug.lab.run import Run, folder_name, open_run

    recipe = replace(recipe, arm=arm)
    with started(device, shard) as engine:
        quiet(not engine.main)
        loaded = _load(data, read)
        if dry_run:
            _print_plan(recipe, (recipe.arm,), 1, loaded, engine)
            return
        folder = run or Path("runs") / f"{loaded.name}-{folder_name(recipe)}"
        opened = Run(folder)
        if engine.main:
            opened = open_run(folder, recipe, loaded, _source(data, read), resume)
        engine.wait()
        with _interruption("--resume goes on with it"), progress_bar() as bar:
            task = bar.add_task(inert(recipe.arm), total=None, figures="")
            record = perform(recipe, loaded, opened, engine, lambda step: advance(bar, task, step))
        if not engine.main:
            return
    results = collect(f"{recipe.arm} on {loaded.name}", _command(), [opened], loaded, [])
    write_report(results, folder / "report.html")
    console.print(evaluation_table(record["evaluation"]))
    tell(f"model   {opened.model_file}")
    tell(f"report  {folder / 'report.html'}")


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
    from softaug.lab.engine import choose_device
    from softaug.lab.evaluate import evaluate as measure
    from softaug.lab.evaluate import predict_logits, summarise
    from softaug.lab.experiment import occlusion_fills
    from softaug.lab.files import write_json
    from softaug.lab.foreign import kind, read_logits
    from softaug.lab.ood import detect

    what = kind(run)
    asked = corruptions or corrupted is not None
    if corruption_baseline is not None and not asked:
        raise UsageError("--corruption-baseline goes with --corruptions or --corrupted")
    if asked and what == "logits":
        raise UsageError(f"{run}: logits in a file are of no corrupted images")
    if what == "logits":
        predictions = _labelled_logits(run, data, read, foreign, restrict)
        other = None if ood is None else read_logits(Path(ood))[0]
        figures = summarise(predictions, [0.0]).as_dict()
    else:
        prepare = _own_model if what is None else _foreign_model
        model, classes, loaded, test = prepare(
            run, data, read, foreign, restrict, choose_device(device)
        )
        # Before the work: they may not be there.
        images = None if ood is None else _other_images(ood, test, read)
        evaluation, predictions = measure(model, test, fills=occlusion_fills(loaded))
        figures = evaluation.as_dict()
        if asked:
            figures |= _under_corruptions(
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
    recipe: RecipeOptions = RECIPE,
    read: ReadOptions = READ,
    run: Path | None = None,
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
        Names of arms; NAME@SIGMA or NAME@EXPRESSION for another augmentation.
    seeds
        How many, counted from --seed.
    run
        The folder of the comparison (default: runs/compare-DATA).
    on
        here: one run after another; ray: side by side, on a Ray cluster whose machines all see the
        folder of the comparison.
    """
    from softaug.lab.compare import compare_runs, open_runs
    from softaug.lab.engine import processes_begun, started
    from softaug.lab.experiment import perform
    from softaug.lab.files import write_json
    from softaug.lab.report import write_report
    from softaug.lab.report.summary import sentences
    from softaug.lab.results import collect

    if seeds < 1:
        raise UsageError(f"--seeds must be at least 1, got {seeds}")
    for arm in arms:
        replace(recipe, arm=arm)  # which complains of an arm that is wrong
    if on == "ray":
        if shard or dry_run or processes_begun() > 1:
            raise UsageError(
                "--on ray gives each run a process of its own on the cluster; leave out torchrun, "
                "--shard and --dry-run"
            )
        from softaug.lab.on_ray import cluster, perform_all
    with (
        cluster() if on == "ray" else nullcontext(),
        started("cpu" if on == "ray" else device, shard) as engine,
        _interruption("the same command goes on with it"),
        progress_bar() as bar,
    ):
        quiet(not engine.main)
        loaded = _load(data, read)
        if dry_run:
            _print_plan(recipe, arms, seeds, loaded, engine)
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

        numbers = range(recipe.seed, recipe.seed + seeds)
        source = _source(data, read)
        pairs = open_runs(recipe, arms, numbers, loaded, folder, source, engine)
        if on == "ray":
            perform_all(pairs, loaded, device, watch)
        else:
            for one, opened in pairs:
                perform(one, loaded, opened, engine, partial(watch, one))
        if not engine.main:
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
    recipe: RecipeOptions = RECIPE,
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
    from softaug.lab.recipe import build_arm
    from softaug.lab.report.figures import sample_sheet
    from softaug.lab.results import augmented_samples

    if images < 1:
        raise UsageError(f"--images must be at least 1, got {images}")
    recipe = Recipe(arm=arm, augment=augment, sigma=sigma, k=k)
    loaded = _load(data, read)
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
    from softaug.lab.engine import choose_device
    from softaug.lab.evaluate import predict_logits
    from softaug.lab.images import read_image
    from softaug.lab.models import load_model

    if top < 1:
        raise UsageError(f"--top must be at least 1, got {top}")
    model = load_model(_model_file(run)).to(choose_device(device))
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


def _load(source: str, read: DataOptions) -> "Data":
    loaded = _read(source, read)
    _say_notes(loaded)
    return loaded


def _read(source: str, read: DataOptions) -> "Data":
    from softaug.lab.data import load
    from softaug.lab.stream import StreamOptions

    return load(
        source,
        size=read.size,
        train_images=read.train_images,
        test=read.test,
        max_unreadable=read.max_unreadable,
        held_out=read.held_out,
        stream=StreamOptions(read.readers, read.buffer) if read.stream else None,
    )


def _say_notes(data: "Data") -> None:
    for note in (*data.notes, data.split):
        if note:
            say(note)


def _print_plan(
    recipe: Recipe, arms: tuple[str, ...], seeds: int, data: "Data", engine: "Engine"
) -> None:
    from softaug.lab.dry_run import plan

    if engine.processes > 1:
        raise UsageError("--dry-run measures one process; leave torchrun out")
    console.print(plan_table(plan(recipe, arms, seeds, data, engine)))


@contextmanager
def _interruption(hint: str) -> Iterator[None]:
    """Tell whom Ctrl-C stopped how to go on."""
    from softaug.lab.train import InterruptedRunError

    try:
        yield
    except InterruptedRunError as error:
        raise InterruptedRunError(f"{error}; {hint}", error.signal_number) from error


def _source(data: str, read: DataOptions) -> dict[str, Any]:
    return {"data": data, "read": asdict(read)}


def _model_file(run: Path) -> Path:
    from softaug.lab.run import Run

    return Run(run).model_file if run.is_dir() else run


def _under_corruptions(
    model: "nn.Module",
    classes: tuple[str, ...],
    test: "ImageSet",
    made: bool,
    folder: Path | None,
    baseline_file: Path | None,
) -> dict[str, Any]:
    """Figures under corruptions made here and from files, by the names they have in --json."""
    from softaug.lab.corrupted_files import open_corrupted
    from softaug.lab.corruption_constants import SEVERITIES
    from softaug.lab.corruptions import names_for
    from softaug.lab.files import read_json
    from softaug.lab.robustness import evaluate_corruptions, evaluate_sets

    channels, height, width = test.images.shape[1:]
    baseline = read_json(baseline_file) if baseline_file is not None else {}
    asked = {"corruptions": made, "corrupted": folder is not None}
    if baseline_file is not None:
        for key in (key for key, wanted in asked.items() if wanted):
            if not isinstance(baseline, dict) or key not in baseline:
                raise UsageError(f"{baseline_file}: no figures of evaluate --{key}")
    figures: dict[str, Any] = {}
    with progress_bar() as bar:

        def watch(key: str, count: int) -> Callable[[str, int], None]:
            task = bar.add_task(key, total=count * len(SEVERITIES), figures="")
            return lambda name, severity: bar.update(task, advance=1, figures=f"{name} {severity}")

        if folder is not None:
            source, names = open_corrupted(folder, classes, channels, height, width)
            read = evaluate_sets(
                model,
                source,
                names,
                baseline=baseline.get("corrupted"),
                watch=watch("corrupted", len(names)),
            )
            figures["corrupted"] = {"source": str(folder), **read}
        if made:
            count = len(names_for(channels))
            figures["corruptions"] = evaluate_corruptions(
                model,
                test,
                baseline=baseline.get("corruptions"),
                watch=watch("corruptions", count),
            )
    return figures


def _own_model(
    run: Path,
    data: str | None,
    read: DataOptions,
    foreign: ForeignOptions,
    restrict: bool | None,
    device: "torch.device",
) -> tuple["nn.Module", tuple[str, ...], "Data", "ImageSet"]:
    """A model that softaug wrote, its classes, the data, the test images with its labels."""
    from softaug.lab.models import load_model
    from softaug.lab.run import Run

    if foreign != FOREIGN:
        raise UsageError(
            f"{run}: --checkpoint, --classes, --mean, --std and --input-size are for models that "
            "softaug did not train"
        )
    model = load_model(_model_file(run)).to(device)
    folder = Run(run if run.is_dir() else run.parent)
    own = folder.description()["data"]["source"] if folder.started else None
    if data is None:
        if own is None:
            raise UsageError(f"{run}: a model file names no data; add DATA after it")
        data, read = own["data"], DataOptions(**own["read"])
    trained_on = own is not None and Path(own["data"]).resolve() == Path(data).resolve()
    loaded = _read_test(data, read, trained_on)
    card = model.card
    chosen, test = _for_model(model, card.classes, len(card.classes), loaded, restrict or False)
    shape = (card.channels, card.height, card.width)
    if loaded.image_shape != shape:
        raise UsageError(
            f"the model takes images {list(shape)} [C,H,W], {loaded.name} has "
            f"{list(loaded.image_shape)}; --size {min(card.height, card.width)} may mend it"
        )
    return chosen, card.classes if chosen is model else loaded.classes, loaded, test


def _foreign_model(
    model: Path,
    data: str | None,
    read: DataOptions,
    options: ForeignOptions,
    restrict: bool | None,
    device: "torch.device",
) -> tuple["nn.Module", tuple[str, ...], "Data", "ImageSet"]:
    """A model of others, its classes, the data, the test images with its labels."""
    from softaug.lab.classes import read_classes
    from softaug.lab.data import BUILT_IN
    from softaug.lab.evaluate import predict_logits
    from softaug.lab.foreign import load_foreign

    if data is None:
        raise UsageError(f"{model}: a model of others names no data; add DATA after it")
    loaded_model = load_foreign(
        model,
        checkpoint=options.checkpoint,
        mean=options.mean,
        std=options.std,
        input_size=options.input_size,
        device=device,
    )
    height, width = loaded_model.view.scaled or (0, 0)
    if read.size is None and 0 < height == width and data not in BUILT_IN:
        read = replace(read, size=height)  # pictures of many sizes need one
    loaded = _read_test(data, read)
    # How many classes a model tells apart, only its logits say.
    k = predict_logits(loaded_model, loaded.test.images[:1]).shape[1]
    names = None if options.classes is None else read_classes(options.classes, k)
    chosen, test = _for_model(loaded_model, names, k, loaded, restrict in (None, True))
    # As many as the logits, whose order is the data's where nothing names them.
    known = names if names is not None and chosen is loaded_model else loaded.classes
    return chosen, known, loaded, test


def _labelled_logits(
    file: Path,
    data: str | None,
    read: DataOptions,
    options: ForeignOptions,
    restrict: bool | None,
) -> "Predictions":
    """The logits of a file with its own labels, or else those of the test images of DATA."""
    import torch

    from softaug.lab.classes import class_columns, read_classes
    from softaug.lab.evaluate import Predictions
    from softaug.lab.foreign import read_logits

    if restrict or replace(options, classes=None) != FOREIGN:
        raise UsageError(f"{file}: of the options for models, logits have --classes alone")
    logits, labels = read_logits(file)
    if labels is not None:
        if data is not None:
            raise UsageError(f"{file}: has labels; leave out DATA")
        return Predictions(labels, logits, {})
    if data is None:
        raise UsageError(f"{file}: has no labels; add DATA after it")
    loaded = _read_test(data, read)
    if len(loaded.test) != len(logits):
        raise UsageError(
            f"{file}: {len(logits):,} logits, {data} has {len(loaded.test):,} test images"
        )
    k = logits.shape[1]
    names = None if options.classes is None else read_classes(options.classes, k)
    numbers = class_columns(loaded.classes, names, k, loaded.name)
    return Predictions(torch.tensor(numbers)[loaded.test.labels], logits, {})


def _read_test(data: str, read: DataOptions, trained_on: bool = False) -> "Data":
    """The data, to be tested whole where they have no test part, unless they were trained on."""
    loaded = _read(data, read)
    if loaded.split and not trained_on:
        loaded = replace(loaded, test=loaded.all_images(), split=None)
        say(f"{data}: no test part, so all {len(loaded.test):,} images are tested")
    _say_notes(loaded)
    return loaded


def _for_model(
    model: "nn.Module", names: tuple[str, ...] | None, k: int, data: "Data", restrict: bool
) -> tuple["nn.Module", "ImageSet"]:
    """The model and the test images with its labels for their classes, which may be fewer.

    restrict: where they are fewer, the model's logits are of these classes alone.
    """
    import torch

    from softaug.lab.classes import Columns, class_columns
    from softaug.lab.data import ImageSet

    columns = class_columns(data.classes, names, k, data.name)
    if names is None and columns != list(range(k)):
        say(f"{data.name}: class {data.classes[-1]!r} is logit {columns[-1]} of {k}, and so on")
    numbers = torch.tensor(columns)
    if restrict and len(columns) < k:
        say(f"{data.name}: {len(columns)} of the model's {k} classes; their logits are left")
        return Columns(model, numbers), data.test
    return model, ImageSet(data.test.images, numbers[data.test.labels])


def _other_images(source: str, test: "ImageSet", read: DataOptions) -> "torch.Tensor":
    """The images of other data, in the shape of the test images."""
    from softaug.lab.data import read_images

    channels, height, width = test.images.shape[1:]
    images, notes = read_images(source, channels, height, width, read.max_unreadable)
    for note in notes:
        say(note)
    return images
