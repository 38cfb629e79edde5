"""What `softaug evaluate` measures: models, ours and others', on test images with their labels."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softaug_lab.basics.errors import UsageError
from softaug_lab.cli.options import FOREIGN, DataOptions, ForeignOptions, read_data, say_notes
from softaug_lab.cli.terminal import progress_bar, say

if TYPE_CHECKING:
    import torch
    from torch import nn

    from softaug_lab.data import Data, ImageSet
    from softaug_lab.evaluation import Predictions


def model_file(run: Path) -> Path:
    """The model of a run folder, or the file itself."""
    from softaug_lab.runs import RunFolder

    return RunFolder(run).model_file if run.is_dir() else run


def under_corruptions(
    model: "nn.Module",
    classes: tuple[str, ...],
    test: "ImageSet",
    made: bool,
    folder: Path | None,
    baseline_file: Path | None,
) -> dict[str, Any]:
    """Figures under corruptions made here and from files, by the names they have in --json."""
    from softaug_lab.basics.storage import read_json
    from softaug_lab.corruptions import SEVERITIES, names_for, open_corrupted
    from softaug_lab.evaluation import evaluate_corruptions, evaluate_sets

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


def own_model(
    run: Path,
    data: str | None,
    read: DataOptions,
    foreign: ForeignOptions,
    restrict: bool | None,
    device: "torch.device",
) -> tuple["nn.Module", tuple[str, ...], "Data", "ImageSet"]:
    """A model that softaug wrote, its classes, the data, the test images with its labels."""
    from softaug_lab.models import load_model
    from softaug_lab.runs import RunFolder

    if foreign != FOREIGN:
        raise UsageError(
            f"{run}: --checkpoint, --classes, --mean, --std and --input-size are for models that "
            "softaug did not train"
        )
    model = load_model(model_file(run)).to(device)
    folder = RunFolder(run if run.is_dir() else run.parent)
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


def foreign_model(
    model: Path,
    data: str | None,
    read: DataOptions,
    options: ForeignOptions,
    restrict: bool | None,
    device: "torch.device",
) -> tuple["nn.Module", tuple[str, ...], "Data", "ImageSet"]:
    """A model of others, its classes, the data, the test images with its labels."""
    from softaug_lab.data import BUILT_IN
    from softaug_lab.evaluation import predict_logits
    from softaug_lab.models import load_foreign, read_classes

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
    height, width = loaded_model.preprocessing.scaled or (0, 0)
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


def labelled_logits(
    file: Path,
    data: str | None,
    read: DataOptions,
    options: ForeignOptions,
    restrict: bool | None,
) -> "Predictions":
    """The logits of a file with its own labels, or else those of the test images of DATA."""
    import torch

    from softaug_lab.evaluation import Predictions
    from softaug_lab.models import class_columns, read_classes, read_logits

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
    loaded = read_data(data, read)
    if loaded.split and not trained_on:
        loaded = replace(loaded, test=loaded.all_images(), split=None)
        say(f"{data}: no test part, so all {len(loaded.test):,} images are tested")
    say_notes(loaded)
    return loaded


def _for_model(
    model: "nn.Module", names: tuple[str, ...] | None, k: int, data: "Data", restrict: bool
) -> tuple["nn.Module", "ImageSet"]:
    """The model and the test images with its labels for their classes, which may be fewer.

    restrict: where they are fewer, the model's logits are of these classes alone.
    """
    import torch

    from softaug_lab.data import ImageSet
    from softaug_lab.models import Columns, class_columns

    columns = class_columns(data.classes, names, k, data.name)
    if names is None and columns != list(range(k)):
        say(f"{data.name}: class {data.classes[-1]!r} is logit {columns[-1]} of {k}, and so on")
    numbers = torch.tensor(columns)
    if restrict and len(columns) < k:
        say(f"{data.name}: {len(columns)} of the model's {k} classes; their logits are left")
        return Columns(model, numbers), data.test
    return model, ImageSet(data.test.images, numbers[data.test.labels])


def other_images(source: str, test: "ImageSet", read: DataOptions) -> "torch.Tensor":
    """The images of other data, in the shape of the test images."""
    from softaug_lab.data import read_images

    channels, height, width = test.images.shape[1:]
    images, notes = read_images(source, channels, height, width, read.max_unreadable)
    for note in notes:
        say(note)
    return images
