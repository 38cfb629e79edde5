"""The inputs of `softaug evaluate`: a model of ours or of others, and test images with labels."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softaug_lab.basics.errors import SoftaugError, UsageError
from softaug_lab.cli.options import FOREIGN, DataOptions, ForeignOptions, read_data, say_notes
from softaug_lab.cli.terminal import progress_bar, say

if TYPE_CHECKING:
    import torch
    from torch import nn

    from softaug_lab.data import Data, ImageSet
    from softaug_lab.evaluation import Ensemble, Predictions
    from softaug_lab.models import Classifier
    from softaug_lab.runs import RunFolder


@dataclass(frozen=True)
class Subject:
    """A model to measure and the test images, labelled with numbers of the model's classes.

    classes: names of the model's classes. data: where the test images come from. temperature: the
    one that was fitted on held-out images, None without.
    """

    model: "nn.Module"
    classes: tuple[str, ...]
    data: "Data"
    test: "ImageSet"
    temperature: float | None = None


@dataclass(frozen=True)
class Corruptions:
    """Which corruptions to measure: made here, from a folder; relative to a baseline's file."""

    made: bool
    folder: Path | None
    baseline: Path | None

    @property
    def any(self) -> bool:
        """Whether any are to be measured."""
        return self.made or self.folder is not None


def load_own(run: Path) -> "Classifier | Ensemble":
    """Load what softaug trained: the model or the ensemble of a run folder, or a model file.

    Raises UsageError for the folder of a search, which has a model file for each of its runs.
    """
    from softaug_lab.evaluation import load_run
    from softaug_lab.models import load_model
    from softaug_lab.runs import RunFolder

    if not run.is_dir():
        return load_model(run)
    RunFolder(run).require_no_search()
    return load_run(RunFolder(run))


def run_of(model: Path) -> "RunFolder":
    """Return the run folder that a model belongs to: itself, or one that its file lies in.

    Of a file that lies in no run folder, at any depth, it is the folder of the file.
    """
    from softaug_lab.runs import RunFolder

    if model.is_dir():
        return RunFolder(model)
    folders = [RunFolder(folder) for folder in model.resolve().parents]
    return next((folder for folder in folders if folder.started), folders[0])


def under_corruptions(subject: Subject, asked: Corruptions) -> dict[str, Any]:
    """Measure the model under corruptions; the keys are those of --json."""
    from softaug_lab.corruptions import SEVERITIES, names_for, open_corrupted
    from softaug_lab.evaluation import evaluate_corruptions, evaluate_sets

    channels, height, width = subject.test.images.shape[1:]
    baseline = _baseline(asked)
    figures: dict[str, Any] = {}
    with progress_bar() as bar:

        def watch(key: str, count: int) -> Callable[[str, int], None]:
            task = bar.add_task(key, total=count * len(SEVERITIES), figures="")
            return lambda name, severity: bar.update(task, advance=1, figures=f"{name} {severity}")

        if asked.folder is not None:
            source, names = open_corrupted(asked.folder, subject.classes, channels, height, width)
            (measured,) = evaluate_sets(
                [subject.model],
                source,
                names,
                baseline=baseline.get("corrupted"),
                watch=watch("corrupted", len(names)),
            )
            figures["corrupted"] = {"source": str(asked.folder), **measured}
        if asked.made:
            (figures["corruptions"],) = evaluate_corruptions(
                [subject.model],
                subject.test,
                baseline=baseline.get("corruptions"),
                watch=watch("corruptions", len(names_for(channels))),
            )
    return figures


def _baseline(asked: Corruptions) -> dict[str, Any]:
    """Read the figures of the baseline, {} where none is given.

    Raises UsageError where its file lacks figures under the corruptions that are asked for.
    """
    from softaug_lab.basics.storage import read_json

    if asked.baseline is None:
        return {}
    baseline = read_json(asked.baseline)
    wanted = {"corruptions": asked.made, "corrupted": asked.folder is not None}
    for key in (key for key, wants in wanted.items() if wants):
        if not isinstance(baseline, dict) or key not in baseline:
            raise UsageError(f"{asked.baseline}: no figures of evaluate --{key}")
    figures: dict[str, Any] = baseline
    return figures


def own_model(
    run: Path,
    data: str | None,
    read: DataOptions,
    foreign: ForeignOptions,
    restrict: bool | None,
    device: str,
) -> Subject:
    """Load a model that softaug wrote, and the data to test it on."""
    from softaug_lab.basics.processes import choose_device
    from softaug_lab.data import BUILT_IN

    if foreign != FOREIGN:
        raise UsageError(
            f"{run}: --weights, --classes, --mean, --std and --input-size are for models that "
            "softaug did not train"
        )
    model = load_own(run).to(choose_device(device))
    folder = run_of(run)
    if data is None:
        if not folder.started:
            raise UsageError(f"{run}: a model file names no data; add DATA after it")
        most = read.max_unreadable  # the only option that goes without DATA: --ood takes it, too
        data, read = recorded_data(folder)
        read = replace(read, max_unreadable=max(most, read.max_unreadable))
        require_no_address(run, data, read.test)
    card = model.card
    if read.size is None and card.height == card.width and data not in BUILT_IN:
        read = replace(read, size=card.height)  # else a side would be chosen from these images
    loaded = _read_new(data, read, folder)
    chosen, test = _for_model(model, card.classes, len(card.classes), loaded, restrict or False)
    shape = (card.channels, card.height, card.width)
    if loaded.image_shape != shape:
        raise UsageError(
            f"the model takes images {list(shape)} [C,H,W], {loaded.name} has "
            f"{list(loaded.image_shape)}; --size {min(card.height, card.width)} may mend it"
        )
    classes = card.classes if chosen is model else loaded.classes
    # A temperature of 1 is that of a model without held-out images.
    temperature = None if card.temperature == 1 else card.temperature
    return Subject(chosen, classes, loaded, test, temperature)


def recorded_data(folder: "RunFolder") -> tuple[str, DataOptions]:
    """Return what a run was trained on, and how it was read, as its recipe.json names them."""
    try:
        source = folder.description()["data"]["source"]
        data, read = source["data"], DataOptions(**source["read"])
    except (KeyError, TypeError) as error:
        raise SoftaugError(f"{folder.folder / 'recipe.json'}: names no data ({error!r})") from error
    if not isinstance(data, str) or not isinstance(read.test, str | None):
        raise SoftaugError(f"{folder.folder / 'recipe.json'}: names no data, but {data!r}")
    return data, read


def require_no_address(run: Path, *sources: str | None) -> None:
    """Raise UsageError where data that a run folder names are an address or a command.

    The folder may come from a stranger. Commands and addresses are followed from the command line
    alone.
    """
    from softaug_lab.data import is_address

    for source in sources:
        if source is not None and is_address(source):
            raise UsageError(
                f"{run}: its data were {source!r}, and a run folder, which may be anybody's, can "
                "name only files; name DATA after it"
            )


def without_training_images(data: "Data", folder: "RunFolder") -> "Data":
    """Leave out the test images that trained the run's model, by their pixels, and say so.

    Raises UsageError where none is left.
    """
    import torch

    from softaug_lab.data import content_keys

    known, n = folder.training_keys(), len(data.test)
    if known is None:
        say(
            f"{folder.folder}: no record of the images that trained the model, so all {n:,} test "
            "images are tested"
        )
        return data
    if folder.started:
        shape = folder.description()["data"].get("image_shape")
        if shape not in (None, list(data.image_shape)):
            say(f"{data.name}: training images are known at {shape} [C,H,W] alone")
    new = ~torch.isin(content_keys(data.test.images), known)
    if new.all():
        return data
    if not new.any():
        raise UsageError(
            f"{data.name}: the model was trained on all of its {n:,} test images; name other DATA"
        )
    say(f"{data.name}: {n - int(new.sum()):,} of {n:,} test images trained the model; left out")
    return replace(data, test=data.test[new])


def foreign_model(
    model: Path,
    data: str | None,
    read: DataOptions,
    options: ForeignOptions,
    restrict: bool | None,
    device: str,
) -> Subject:
    """Load a model that softaug did not train, or one that it exported, and data to test it on."""
    from softaug_lab.basics.processes import choose_device
    from softaug_lab.data import BUILT_IN
    from softaug_lab.models import load_foreign, predict_logits, read_classes

    if data is None:
        raise UsageError(f"{model}: a run folder alone names its data; add DATA after it")
    loaded_model = load_foreign(
        model,
        weights=options.weights,
        mean=options.mean,
        std=options.std,
        input_size=options.input_size,
        device=choose_device(device),
    )
    height, width = loaded_model.preprocessing.scaled or (0, 0)
    if read.size is None and 0 < height == width and data not in BUILT_IN:
        read = replace(read, size=height)  # images of many sizes need one size
    # Only what softaug exported names its classes.
    exported = loaded_model.classes is not None
    loaded = _read_new(data, read, run_of(model)) if exported else _read_test(data, read)
    # Only the logits show how many classes a model has.
    k = predict_logits(loaded_model, loaded.test.images[:1]).shape[1]
    names = loaded_model.classes
    if options.classes is not None:
        names = read_classes(options.classes, k)
    elif names is not None and len(names) != k:
        raise SoftaugError(f"{model}: names {len(names)} classes and gives {k} logits")
    chosen, test = _for_model(loaded_model, names, k, loaded, restrict in (None, True))
    # Without names, the order of the logits is that of the data's classes.
    classes = names if names is not None and chosen is loaded_model else loaded.classes
    return Subject(chosen, classes, loaded, test)


def labelled_logits(
    file: Path,
    data: str | None,
    read: DataOptions,
    options: ForeignOptions,
    restrict: bool | None,
) -> "Predictions":
    """Read logits from a file, with its own labels or else those of the test images of DATA."""
    import torch

    from softaug_lab.evaluation import Predictions
    from softaug_lab.models import class_columns, read_classes, read_logits

    if restrict or replace(options, classes=None) != FOREIGN:
        raise UsageError(f"{file}: a file of logits takes only --classes of the options for models")
    logits, labels = read_logits(file)
    if labels is not None:
        if data is not None:
            raise UsageError(f"{file}: has labels; leave out DATA")
        return Predictions(labels, logits)
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
    return Predictions(torch.tensor(numbers)[loaded.test.labels], logits)


def _read_new(data: str, read: DataOptions, folder: "RunFolder") -> "Data":
    """Load data to test the model of a run on, without the images that trained it."""
    recorded = recorded_data(folder)[0] if folder.started else None
    trained_on = recorded is not None and Path(recorded).resolve() == Path(data).resolve()
    return without_training_images(_read_test(data, read, trained_on), folder)


def _read_test(data: str, read: DataOptions, trained_on: bool = False) -> "Data":
    """Load data to test on; without a test part all are tested, unless the run trained on them."""
    loaded = read_data(data, replace(read, objects=None))  # evaluation shows or hides by area
    if loaded.split and not trained_on:
        loaded = replace(loaded, test=loaded.all_images(), split=None)
        say(f"{data}: no test part, so all {len(loaded.test):,} images are tested")
    say_notes(loaded)
    return loaded


def _for_model(
    model: "nn.Module", names: tuple[str, ...] | None, k: int, data: "Data", restrict: bool
) -> tuple["nn.Module", "ImageSet"]:
    """Return the model and the test images, labelled with the numbers of the model's classes.

    names: the model's k class names, None where unknown. restrict: where the data have fewer
    classes, the returned model gives the logits of these classes only.
    """
    import torch

    from softaug_lab.data import ImageSet
    from softaug_lab.models import Columns, class_columns

    columns = class_columns(data.classes, names, k, data.name)
    if names is None and columns != list(range(k)):
        say(f"{data.name}: class {data.classes[-1]!r} is logit {columns[-1]} of {k}, and so on")
    numbers = torch.tensor(columns)
    if restrict and len(columns) < k:
        say(f"{data.name}: {len(columns)} of the model's {k} classes; only their logits are used")
        return Columns(model, numbers), data.test
    return model, ImageSet(data.test.images, numbers[data.test.labels])


def other_images(source: str, test: "ImageSet", read: DataOptions) -> "torch.Tensor":
    """Load the images of other data, in the shape of the test images."""
    from softaug_lab.data import read_images

    channels, height, width = test.images.shape[1:]
    images, notes = read_images(source, channels, height, width, read.max_unreadable)
    for note in notes:
        say(note)
    return images
