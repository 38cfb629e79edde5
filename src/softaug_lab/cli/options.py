"""Options that several commands share, with their `--help` texts, and the data they ask for."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from softaug_lab.basics.errors import UsageError
from softaug_lab.cli.terminal import say
from softaug_lab.recipes import SHIPPED, WHOLE, Recipe, panels

if TYPE_CHECKING:
    from softaug_lab.data import Data

IN_DATA = Parameter(group=panels.DATA)
SOURCES = (
    "demo, cifar10, cifar100, a folder with a folder for each class, a table of files and labels "
    "(CSV), Parquet files, ImageNet's archives, tar archives in WebDataset's layout "
    "(train-{000..146}.tar, local or at a URL), or hf:NAME for a data set on the Hugging Face Hub."
)
CORRUPTED = "Also measure under 19 corruptions at 5 severities each (ImageNet-C)."
OTHER_DATA = (
    "Other data: a source as for DATA, or a folder of images without classes. Measures how well "
    "the model tells these images from the test images, by maximum softmax and by energy."
)


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """How the images are read.

    Parameters
    ----------
    size
        Scale the short side of each image to SIZE pixels, then crop the centre square (default:
        for images of different sizes the largest of 32, 64, 128 and 224 that half of them reach).
    train_images
        Train on a class-balanced subset of this many images.
    test
        Data to test on, instead of the test part of DATA.
    held_out
        Share of the training images to set aside for fitting a temperature (default: 0.05 where
        that gives 200 images or more, else 0).
    max_unreadable
        Share of the images that may be unreadable; those are left out.
    stream
        Read the training images from disk or network during training, not into memory before it.
    readers
        With --stream: number of concurrent readers, over all processes; divides the batch size
        and is a multiple of the processes.
    buffer
        With --stream: number of encoded images in the shuffle buffer, over all readers.
    objects
        Measure visibility on the object, not on the whole image: a folder of masks (PNG, nonzero on
        the object, named like the images), boxes as in COCO (JSON), a table of files and boxes
        (CSV), or DATA itself, for its columns.
    """

    size: Annotated[int | None, WHOLE, IN_DATA] = None
    train_images: Annotated[int | None, WHOLE, IN_DATA] = None
    test: Annotated[str | None, IN_DATA] = None
    held_out: Annotated[float | None, IN_DATA] = None
    max_unreadable: Annotated[float, IN_DATA] = 0.0
    stream: Annotated[bool, IN_DATA] = False
    readers: Annotated[int, WHOLE, IN_DATA] = 8
    buffer: Annotated[int, WHOLE, IN_DATA] = 4096
    objects: Annotated[str | None, IN_DATA] = None


@dataclass(frozen=True, kw_only=True)
class ForeignOptions:
    """How to use a model that softaug did not train.

    Parameters
    ----------
    weights
        For timm:NAME: its weights, as FILE, local-dir:PATH or hf-hub:NAME (default: timm's own,
        which are downloaded).
    classes
        File with the model's class names, one per line, in the order of its logits.
    mean
        Mean to subtract: one number, or one per channel (default: timm's, else 0).
    std
        Standard deviation to divide by: one number, or one per channel (default: timm's, else 1).
    input_size
        Scale the short side to this many pixels, then crop the centre square (default: what timm
        or the ONNX file states, else the size of the data).
    """

    weights: Annotated[str | None, Parameter(name=("--weights", "--checkpoint"))] = None
    classes: Path | None = None
    mean: Annotated[tuple[float, ...] | None, Parameter(consume_multiple=True, negative="")] = None
    std: Annotated[tuple[float, ...] | None, Parameter(consume_multiple=True, negative="")] = None
    input_size: Annotated[int | None, WHOLE] = None


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where and how a command trains.

    Parameters
    ----------
    minutes
        Choose --epochs so that a run, with its evaluation, takes about this long; in a comparison
        a run of the slowest arm. The first steps are measured; what goes on keeps the choice.
    dry_run
        Measure a few steps, print the memory and time that the command will take, and write
        nothing.
    tensorboard
        Write each epoch's loss, held-out figures and learning rate as events too, into the folder
        of each run; tensorboard --logdir runs shows them. Needs softaug[tensorboard].
    device
        auto, cpu, cuda, mps, ... auto takes a GPU where there is one.
    shard
        Split the model over the processes of torchrun (FSDP), instead of copying it (DDP).
    """

    minutes: Annotated[float | None, Parameter(group=panels.SCHEDULE)] = None
    dry_run: Annotated[bool, Parameter(negative="", group=panels.RUN)] = False
    tensorboard: Annotated[bool, Parameter(negative="", group=panels.RUN)] = False
    device: Annotated[str, Parameter(group=panels.MACHINES)] = "auto"
    shard: Annotated[bool, Parameter(negative="", group=panels.MACHINES)] = False

    def __post_init__(self) -> None:
        if self.tensorboard and find_spec("tensorboard") is None:
            raise UsageError("--tensorboard needs tensorboard: pip install 'softaug[tensorboard]'")


@dataclass(frozen=True, kw_only=True)
class RunFolderOptions:
    """The run folder of one model.

    Parameters
    ----------
    run
        New folder for the run (default: runs/DATA-ARM-seed-SEED).
    resume
        Continue the interrupted run in that folder.
    """

    run: Annotated[Path | None, Parameter(group=panels.RUN)] = None
    resume: Annotated[bool, Parameter(negative="", group=panels.RUN)] = False


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """How many runs a comparison has, where they go and what performs them.

    Parameters
    ----------
    seeds
        Number of seeds for each arm, counted up from --seed.
    run
        Folder of the comparison (default: runs/compare-DATA).
    on
        here trains on this machine, --jobs runs at a time; ray trains the runs side by side on a
        Ray cluster whose machines all see the folder of the comparison.
    jobs
        Number of runs to train at a time, each in a process of its own; on a CPU they share its
        cores, with several GPUs each takes one that is free.
    """

    seeds: Annotated[int, WHOLE, Parameter(group=panels.RUN)] = 3
    run: Annotated[Path | None, Parameter(group=panels.RUN)] = None
    on: Annotated[Literal["here", "ray"], Parameter(group=panels.MACHINES)] = "here"
    jobs: Annotated[int, WHOLE, Parameter(group=panels.MACHINES)] = 1

    def folder(self, name: str) -> Path:
        """Return the folder of the comparison on data of this name."""
        return self.run or Path("runs") / f"compare-{name}"


Source = Annotated[str, Parameter(help=SOURCES, group=panels.DATA)]
Arm = Annotated[
    str,
    Parameter(
        help="One of the arms below; NAME(FIELD=VALUE, ...) changes fields of that arm, "
        "NAME@SIGMA or NAME@EXPRESSION replaces its augmentation.",
        group=panels.AUGMENTATION,
    ),
]
RecipeFile = Annotated[
    str | None,
    Parameter(
        name="--recipe",
        help="Take options from a YAML file, or from a recipe by its name; options on the command "
        f"line take precedence. Recipes: {', '.join(SHIPPED)}.",
        group=panels.RUN,
    ),
]
# None for all defaults: making a recipe checks it, and that needs torch.
RecipeOptions = Annotated[Recipe | None, Parameter(name="*")]
ReadOptions = Annotated[DataOptions, Parameter(name="*")]
Running = Annotated[RunOptions, Parameter(name="*")]
Folder = Annotated[RunFolderOptions, Parameter(name="*")]
Comparing = Annotated[CompareOptions, Parameter(name="*")]
# What fine-tuning may choose: fields of the recipe that the command line leaves open.
LeftOpen = Annotated[tuple[str, ...], Parameter(name="--left-open", show=False)]
Device = Annotated[str, Parameter(help="auto, cpu, cuda, mps, ...", group=panels.MACHINES)]
READ, FOREIGN = DataOptions(), ForeignOptions()
RUNNING, FOLDER, COMPARING = RunOptions(), RunFolderOptions(), CompareOptions()
OTHERS = Group(
    "Models that softaug did not train",
    help="Such a model gets float32 images [N,C,H,W] in [0, 1], minus --mean, divided by --std, "
    "and returns logits [N,K]. Their order is that of the data's classes unless --classes names "
    "them.",
    sort_key=10,
)


def require_place(file: Path | None) -> None:
    """Raise UsageError, before any work, where the file of --json cannot lie where it is named."""
    if file is not None and not file.parent.is_dir():
        raise UsageError(f"--json {file}: {file.parent} is no folder; make it, or name another")
    if file is not None and file.is_dir():
        raise UsageError(f"--json {file} is a folder; name a file, such as {file / 'figures.json'}")


def load_data(source: str, read: DataOptions) -> "Data":
    """Load the data as the options ask for, and print notes about them."""
    loaded = read_data(source, read)
    say_notes(loaded)
    return loaded


def read_data(source: str, read: DataOptions) -> "Data":
    """Load the data as the options ask for."""
    from softaug_lab.data import StreamOptions, load

    stream = StreamOptions(read.readers, read.buffer)  # checks both, though it may not be used
    return load(
        source,
        size=read.size,
        train_images=read.train_images,
        test=read.test,
        max_unreadable=read.max_unreadable,
        held_out=read.held_out or 0.0,
        stream=stream if read.stream else None,
        objects=read.objects,
    )


def say_notes(data: "Data") -> None:
    """Print what the user should know about the data."""
    for note in (*data.notes, data.split):
        if note:
            say(note)
