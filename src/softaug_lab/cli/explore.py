"""softaug explore"""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from softaug_lab.cli.evaluation_inputs import load_own, own_model
from softaug_lab.cli.options import (
    FOREIGN,
    READ,
    DataOptions,
    Device,
    ReadOptions,
    Source,
    load_data,
)
from softaug_lab.cli.terminal import inert, say, tell
from softaug_lab.recipes import AUTO, WHOLE, Recipe, as_auto, panels

if TYPE_CHECKING:
    from softaug_lab.explore import Explorer


def explore(
    data: Source,
    run: Annotated[Path | None, Parameter(group=panels.MODEL)] = None,
    /,
    *,
    read: ReadOptions = READ,
    port: Annotated[int, WHOLE, Parameter(group=panels.RUN)] = 0,
    device: Device = "auto",
) -> None:
    """Show an augmentation, and a model under it, on a local web page with sliders.

    The page shows images as training would augment them, with visibility and confidence, and the
    curve between the two. In one image a square can be dragged over it, or the image out of its
    frame; with RUN, the model's confidence stands beside that of the curve. The page is served to
    this machine alone, at the address that the command prints, until Ctrl-C.

    Parameters
    ----------
    run
        A run folder, or a .safetensors file that softaug wrote: the page shows its test images.
    port
        Port of the address; 0 is any free one.
    """
    from softaug_lab.explore import Server

    explorer = _alone(data, read) if run is None else _with_model(data, run, read, device)
    with Server(explorer, port) as server:
        tell(f"page  {server.url}")
        say("open this address in a browser of this machine; Ctrl-C ends it")
        server.serve_forever()


def _alone(data: str, read: DataOptions) -> "Explorer":
    """The page of training images, which begins with what the arm `auto` would do to them."""
    from softaug_lab.explore import Explorer
    from softaug_lab.training import resolve

    loaded = load_data(data, read)
    recipe = resolve(Recipe(arm=AUTO), loaded)
    classes = [inert(name) for name in loaded.classes]
    return Explorer(loaded.name, classes, loaded.train, "training", recipe, _command(data, read))


def _with_model(data: str, run: Path, read: DataOptions, device: str) -> "Explorer":
    """The page of test images and a model, which begins with the augmentation of its run."""
    from softaug_lab.data import BUILT_IN
    from softaug_lab.explore import Explorer
    from softaug_lab.runs import RunFolder
    from softaug_lab.training import resolve

    card = load_own(run).card
    if read.size is None and card.height == card.width and data not in BUILT_IN:
        read = replace(read, size=card.height)
    subject = own_model(run, data, read, FOREIGN, None, device)
    folder = RunFolder(run if run.is_dir() else run.parent)
    trained = folder.recipe() if folder.started else Recipe(arm=AUTO)
    _, height, width = subject.data.image_shape
    recipe = as_auto(resolve(trained, subject.data), height, width)
    return Explorer(
        subject.data.name,
        [inert(name) for name in subject.classes],
        subject.test,
        "test",
        recipe,
        _command(data, read),
        subject.model,
        str(run),
        subject.temperature or 1.0,
    )


def _command(data: str, read: DataOptions) -> list[str]:
    """The command that trains on these data, read in the same way."""
    options = []
    for name, value in asdict(read).items():
        if value != getattr(READ, name):
            flag = f"--{name.replace('_', '-')}"
            options += [flag] if value is True else [flag, str(value)]
    return ["softaug", "train", data, *options]
