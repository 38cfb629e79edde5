"""softaug evaluate"""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from softaug_lab.basics.errors import UsageError
from softaug_lab.cli.evaluation_inputs import (
    Corruptions,
    Subject,
    foreign_model,
    labelled_logits,
    other_images,
    own_model,
    under_corruptions,
)
from softaug_lab.cli.options import (
    CORRUPTED,
    FOREIGN,
    OTHER_DATA,
    OTHERS,
    READ,
    DataOptions,
    Device,
    ForeignOptions,
    ReadOptions,
    Source,
    require_place,
)
from softaug_lab.cli.terminal import show
from softaug_lab.recipes import panels

if TYPE_CHECKING:
    from torch import Tensor

OTHER_LOGITS = f"{OTHER_DATA} For an .npz of logits: another .npz."
MEASURED = Parameter(group=panels.MEASURES)


def evaluate(
    run: Annotated[Path, Parameter(group=panels.MODEL)],
    data: Source | None = None,
    /,
    *,
    read: ReadOptions = READ,
    foreign: Annotated[ForeignOptions, Parameter(name="*", group=OTHERS)] = FOREIGN,
    restrict: Annotated[bool | None, Parameter(group=panels.MODEL)] = None,
    ood: Annotated[str | None, Parameter(help=OTHER_LOGITS, group=panels.MEASURES)] = None,
    json: Annotated[Path | None, Parameter(group=panels.RUN)] = None,
    corruptions: Annotated[
        bool, Parameter(negative="", help=CORRUPTED, group=panels.MEASURES)
    ] = False,
    corrupted: Annotated[Path | None, MEASURED] = None,
    corruption_baseline: Annotated[Path | None, MEASURED] = None,
    device: Device = "auto",
) -> None:
    """Measure a trained model: error, NLL, ECE, Brier score, also with parts of images missing.

    Parameters
    ----------
    run
        A run folder, a .safetensors file that softaug wrote, or what export wrote. Of other
        models: timm:NAME, a TorchScript file (.pt), a torch.export program (.pt2), an ONNX file,
        package.module:function that returns a module or a callable on images, or an .npz with
        logits [N,K] and labels [N]. TorchScript files, torch.export programs and functions are
        code, and that code is run.
    data
        Data to test on (default: what the run was tested on). Data without a test part are tested
        whole, unless the run was trained on them. Sources are those of train.
    restrict
        Where the data have fewer classes than the model, use the logits of the data's classes
        only, as is usual for ImageNet-R (default: yes for models that softaug did not train).
    json
        Also write the figures to this file.
    corrupted
        Also measure on a folder in the layout of CIFAR-10-C, CIFAR-100-C or ImageNet-C.
    corruption_baseline
        File that --json wrote for another model; corruption errors are also given relative to it.
    """
    from softaug_lab.basics.storage import write_json
    from softaug_lab.models import exported_file, model_kind

    require_place(json)
    run = exported_file(run)
    asked = Corruptions(corruptions, corrupted, corruption_baseline)
    what = model_kind(run)
    _refuse(run, data, what, read, asked)
    if what == "logits":
        figures = _of_logits(run, data, read, foreign, restrict, ood)
    else:
        prepare = own_model if what is None else foreign_model
        subject = prepare(run, data, read, foreign, restrict, device)
        figures = _of_model(subject, read, asked, ood)
    _print(figures)
    if json is not None:
        write_json(json, figures)


def _refuse(
    run: Path, data: str | None, what: str | None, read: DataOptions, asked: Corruptions
) -> None:
    """Raise UsageError for options that do not go together."""
    if read.objects is not None:
        raise UsageError("--objects is for training; evaluate cuts off and hides shares of images")
    if data is None and replace(read, max_unreadable=READ.max_unreadable) != READ:
        raise UsageError(f"{run}: how images are read goes with DATA; name it after the model")
    if asked.baseline is not None and not asked.any:
        raise UsageError("--corruption-baseline goes with --corruptions or --corrupted")
    if asked.any and what == "logits":
        raise UsageError(f"{run}: a file of logits has none for corrupted images")


def _of_logits(
    file: Path,
    data: str | None,
    read: DataOptions,
    foreign: ForeignOptions,
    restrict: bool | None,
    ood: str | None,
) -> dict[str, Any]:
    from softaug_lab.evaluation import summarise
    from softaug_lab.models import read_logits

    predictions = labelled_logits(file, data, read, foreign, restrict)
    figures = summarise(predictions).as_dict()
    if ood is not None:
        other, _ = read_logits(Path(ood))
        figures["ood"] = _detected(ood, predictions.logits, other)
    return figures


def _of_model(
    subject: Subject, read: DataOptions, asked: Corruptions, ood: str | None
) -> dict[str, Any]:
    import torch

    from softaug_lab.corruptions import require_size
    from softaug_lab.evaluation import Ensemble
    from softaug_lab.evaluation import evaluate as measure
    from softaug_lab.experiments import fills_for
    from softaug_lab.metrics import detect_by
    from softaug_lab.models import own_score, predict_logits

    # Raised before the work: images may be too small for corruptions, other data may not exist.
    if asked.made:
        require_size(subject.test.images)
    images = None if ood is None else other_images(ood, subject.test, read)
    fills = fills_for(subject.data, subject.test)
    evaluation, predictions = measure(
        subject.model, subject.test, fills=fills, temperature=subject.temperature
    )
    figures = evaluation.as_dict()
    if asked.any:
        figures |= under_corruptions(subject, asked)
    if ood is not None and images is not None:
        known, logits = predictions.logits, predict_logits(subject.model, images)
        if isinstance(subject.model, Ensemble):  # its energy is the mean of the members'
            known, logits = (
                torch.stack([predict_logits(member, some) for member in subject.model.models])
                for some in (subject.test.images, images)
            )
        figures["ood"] = _detected(ood, known, logits)
        ours, other = (own_score(subject.model, some) for some in (subject.test.images, images))
        if ours is not None and other is not None:
            figures["ood"]["own"] = asdict(detect_by(ours, other))
    return figures


def _detected(name: str, known: "Tensor", other: "Tensor") -> dict[str, Any]:
    """AUROC and FPR of telling other data from the test images, for --json."""
    from softaug_lab.metrics import detect

    found = {score: asdict(one) for score, one in detect(known, other).items()}
    return {"data": name, "images": other.shape[-2], **found}


def _print(figures: dict[str, Any]) -> None:
    from softaug_lab.cli.tables import corruption_table, evaluation_table, ood_table, views_table

    show(evaluation_table(figures))
    if figures["mix"] is not None:
        show(views_table(figures))
    if "ood" in figures:
        show(ood_table(figures["ood"]))
    for key in ("corruptions", "corrupted"):
        if key in figures:
            show(corruption_table(figures[key]))
