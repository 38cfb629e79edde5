"""Options that commands share, and the data that they ask for."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from softaug_lab.cli.terminal import say
from softaug_lab.recipes import ARMS, SHIPPED, Recipe

if TYPE_CHECKING:
    from softaug_lab.data import Data


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
# None for all defaults: to make a recipe checks it, and that needs torch.
RecipeOptions = Annotated[Recipe | None, Parameter(name="*")]
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
FOREIGN = ForeignOptions()
OTHERS = Group(
    "Models of others",
    help="They get float32 images [N,C,H,W] in [0, 1], less --mean, over --std, and give logits "
    "[N,K], of the data's classes in their order where --classes does not name them.",
)


def load_data(source: str, read: DataOptions) -> "Data":
    """The data as the options ask for, with notes to the user."""
    loaded = read_data(source, read)
    say_notes(loaded)
    return loaded


def read_data(source: str, read: DataOptions) -> "Data":
    """The data as the options ask for."""
    from softaug_lab.data import StreamOptions, load

    return load(
        source,
        size=read.size,
        train_images=read.train_images,
        test=read.test,
        max_unreadable=read.max_unreadable,
        held_out=read.held_out,
        stream=StreamOptions(read.readers, read.buffer) if read.stream else None,
    )


def say_notes(data: "Data") -> None:
    """Tell the user what is to be known of the data."""
    for note in (*data.notes, data.split):
        if note:
            say(note)
