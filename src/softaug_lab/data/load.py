"""Data: labelled images decoded once and kept as uint8 in memory, or streamed.

DATA is `demo`, `cifar10`, `cifar100`, a folder with a folder for each class, the archives of
ImageNet, Parquet files as on the Hugging Face Hub, tar archives as of WebDataset, or `hf:NAME`.
n samples, c channels, h w pixels."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from softaug_lab.basics.errors import SoftaugError, UsageError, unknown_name
from softaug_lab.data.dataset import Data, ImageSet
from softaug_lab.data.decode import check_memory, decode, decode_all, decoders, unreadable_summary
from softaug_lab.data.resize import fit, with_channels
from softaug_lab.data.sample import Sample
from softaug_lab.data.shards import Named, Part, Shard, count
from softaug_lab.data.sources import imagenet
from softaug_lab.data.sources import tar as tars
from softaug_lab.data.sources.built_in import BUILT_IN
from softaug_lab.data.sources.folder import list_any_images, list_folder
from softaug_lab.data.sources.found import Found, files_ending, parts_by_name, report_faults
from softaug_lab.data.split import TEST_SHARE, hold_out, split_off_test, subset
from softaug_lab.data.stream import Stream, StreamOptions

LOOKED_AT = 1024  # training images of a stream that are decoded beforehand


def load(
    source: str,
    *,
    size: int | None = None,
    seed: int = 0,
    train_images: int | None = None,
    test: str | None = None,
    max_unreadable: float = 0.0,
    held_out: float = 0.0,
    stream: StreamOptions | None = None,
) -> Data:
    """Load a data set, complaining of all its faults at once.

    size: short side to `size`, then centre crop; needed where images differ in size.
    seed: of the split, where there is no test part, and of the subset; of nothing else.
    train_images: a balanced subset of so many training images.
    test: a second source to test on, instead of the test part of the first.
    max_unreadable: the share of images that cannot be read and are left out, with a note.
    held_out: the share of each class's training images to set aside for fitting a temperature.
    stream: read the training images while they are trained on, instead of holding them in memory.
    Raises UsageError for a wrong request, SoftaugError for faults of the data.
    """
    if size is not None and size < 1:
        raise UsageError(f"size must be at least 1 pixel, got {size}")
    if not 0 <= held_out < 1:
        raise UsageError(f"held_out must be a share in [0, 1), got {held_out}")
    if not 0 <= max_unreadable <= 1:
        raise UsageError(f"max_unreadable must be a share in [0, 1], got {max_unreadable}")
    if source in BUILT_IN:
        data = BUILT_IN[source](source)
        if size is not None and size not in data.image_shape[1:]:
            raise UsageError(f"{source} has images of {data.image_shape[1]} px; leave out --size")
        if stream is not None or test is not None:
            raise UsageError(
                f"{source} is held in memory and has test images; leave out --stream and --test"
            )
    else:
        if stream is not None and size is None:
            raise UsageError("--stream needs --size, since nobody looks at all images beforehand")
        if stream is not None and train_images is not None:
            raise UsageError("a balanced subset needs all images in memory; leave out --stream")
        if stream is not None and held_out:
            raise UsageError("images are held out of those in memory; leave out --stream")
        found = _find(source, BUILT_IN)
        if test is not None:
            found = replace(found, test=_other_test(found, _find(test, ())))
        if stream is None or size is None:
            data = _in_memory(source, found, size, seed, max_unreadable)
        else:
            data = _streamed(source, found, size, max_unreadable, stream)
    if train_images is not None:
        data = replace(data, train=subset(data, train_images, seed))
    if held_out:
        data = hold_out(data, held_out, seed)
    return data


def read_images(
    source: str, channels: int, height: int, width: int, max_unreadable: float = 0.0
) -> tuple[UInt8[Tensor, "n c h w"], list[str]]:
    """The test images of any source, or all where it has no test part, in the shape of a model's.

    Classes and labels do not matter: a folder need not have any. Returns notes for the user too.
    """
    shape = (channels, height, width)
    if source in BUILT_IN:
        own = BUILT_IN[source](source).test.images
        notes = check_memory(source, len(own), channels, width, height)
        # Few at a time: as float32 they take four times the memory.
        some = (
            fit(with_channels(part.float(), channels), height, width) for part in own.split(500)
        )
        images = torch.cat([part.round().to(torch.uint8) for part in some])
    else:
        found = _find(source, BUILT_IN, list_any_images)
        shards = found.train if found.test is None else found.test
        _, (part,) = count([shards], found.classes)
        test_set, notes = _decode_part(source, part, shape, max_unreadable)
        images = test_set.images
        if not len(images):
            raise SoftaugError(f"{source}: no readable image")
    colour = "grey" if channels == 1 else "RGB"
    return images, [*notes, f"{source}: {len(images):,} images as {width} x {height} px, {colour}"]


def _find(
    source: str, built_in: Iterable[str], list_images: Callable[[Path], Found] = list_folder
) -> Found:
    """The shards of a source, by what it is; list_images: of a folder of image files."""
    if source.startswith("hf:"):
        from softaug_lab.data.sources import hub

        return hub.find(source)
    if tars.is_tar(source):
        return Found([tars.Tar(url) for url in tars.expand(source)], None)
    path = Path(source)
    try:
        # "" would be the current folder.
        if not source or not path.exists():
            raise unknown_name("data set or missing path", source, built_in)
        if imagenet.is_imagenet(path):
            return imagenet.find(path)
        for ending, find in {".parquet": _parquet, ".tar": _tars}.items():
            if files := files_ending(path, ending):
                train, test, notes = parts_by_name(path, files)
                return replace(find(train, test), notes=notes)
        if path.is_dir():
            return list_images(path)
    except OSError as error:
        raise SoftaugError(f"{source[:200]}: not readable ({error.strerror})") from error
    raise UsageError(f"{source}: expected a folder of class folders, Parquet files or archives")


def _other_test(found: Found, other: Found) -> Sequence[Shard]:
    """What another source has to test on; its numbers mean its own classes, by their names."""
    shards = other.train if other.test is None else other.test
    # Names that have nothing in common may be two languages for the same classes in one order.
    if found.classes is None or set(found.classes).isdisjoint(other.classes or ()):
        return shards
    return [Named(shard, tuple(other.classes or ())) for shard in shards]


def _parquet(train: list[Path], test: list[Path] | None) -> Found:
    from softaug_lab.data.sources.parquet import row_groups

    shards, classes = row_groups(train)
    return Found(shards, None if test is None else row_groups(test)[0], classes)


def _tars(train: list[Path], test: list[Path] | None) -> Found:
    tars.require_library()
    parts = [None if part is None else [tars.Tar(str(f)) for f in part] for part in (train, test)]
    return Found(parts[0] or [], parts[1])


def _in_memory(
    source: str, found: Found, size: int | None, seed: int, max_unreadable: float
) -> Data:
    """Split where there is no test part, decode, and put it together."""
    notes, split = [*found.notes], None
    classes, parts = _counted(source, found)
    samples = [[*part.read_all()] for part in parts]
    if found.test is None:
        train, test = split_off_test(samples[0], len(classes), seed)
        split = (
            f"{source}: no test part, so {len(test):,} of {len(samples[0]):,} images were set "
            f"aside for testing ({TEST_SHARE:.0%} of each class, by seed {seed})"
        )
    else:
        train, test = samples
    every = [*train, *test]
    decoded, decode_notes = decode_all(every, size, max_unreadable, source)
    labels = torch.tensor([s.label if isinstance(s, Sample) else -1 for s in every])[decoded.kept]
    # The training images stay a view: a copy of them may not fit. The test images are copied, so
    # that a subset of the training images frees all the others.
    border = int(decoded.kept[: len(train)].sum())
    train_set = ImageSet(decoded.images[:border], labels[:border])
    test_set = ImageSet(decoded.images[border:].clone(), labels[border:])
    counts = train_set.labels.bincount(minlength=len(classes)).tolist()
    faults = [
        f"{source}: class {name!r} has no readable image to train on"
        for name, n in zip(classes, counts, strict=True)
        if not n
    ]
    if not len(test_set):
        faults.append(f"{source}: no image to test on")
    report_faults(source, faults)
    notes += [*_untested(source, classes, test_set), *decode_notes]
    return Data(_name(source), classes, train_set, test_set, tuple(notes), split)


def _streamed(
    source: str, found: Found, size: int, max_unreadable: float, options: StreamOptions
) -> Data:
    """Some training images to look at, all test images, and the stream of the training images."""
    if found.test is None:
        raise UsageError(f"{source}: no test part; --test names what to test on")
    classes, (train, test) = _counted(source, found)
    stream = Stream(train, size, options, max_unreadable)
    in_some_order = chain.from_iterable(
        stream.reader(reader, seed=0, epoch=-1) for reader in range(options.readers)
    )
    shape = (3, size, size)
    some, faults = _decode(islice(in_some_order, LOOKED_AT), min(LOOKED_AT, len(stream)), shape)
    if not len(some):
        raise SoftaugError(unreadable_summary(source, faults))
    test_set, decode_notes = _decode_part(source, test, shape, max_unreadable)
    notes = [*found.notes, *decode_notes, *_untested(source, classes, test_set)]
    return Data(_name(source), classes, some, test_set, tuple(notes), stream=stream)


def _counted(source: str, found: Found) -> tuple[tuple[str, ...], list[Part]]:
    """The classes and the parts that there are, with what they hold counted."""
    parts = [found.train] if found.test is None else [found.train, found.test]
    classes, counted = count(parts, found.classes)
    faults = [
        f"{source}: class {name!r} has no training image"
        for name, n in zip(classes, counted[0].per_class.tolist(), strict=True)
        if not n
    ]
    if len(classes) < 2:
        faults.append(f"{source}: {len(classes)} class; at least 2 are needed")
    if found.test is not None and not len(counted[1]):
        faults.append(f"{source}: no image to test on")
    report_faults(source, faults)
    return classes, counted


def _decode_part(
    source: str, part: Part, shape: tuple[int, int, int], max_unreadable: float
) -> tuple[ImageSet, list[str]]:
    """Decode a test part to images of a shape [C,H,W], with notes for the user."""
    channels, height, width = shape
    notes = check_memory(source, len(part), channels, width, height)
    images, faults = _decode(part.read_all(), len(part), shape)
    if len(faults) > max_unreadable * len(part):
        raise SoftaugError(f"{unreadable_summary(source, faults)}; see --max-unreadable")
    if faults:
        notes.append(f"{len(faults)} unreadable test images were left out, such as {faults[0]}")
    return images, notes


def _decode(
    samples: Iterator[Sample | str], n: int, shape: tuple[int, int, int]
) -> tuple[ImageSet, list[str]]:
    """Decode n samples to [C,H,W], holding few of them encoded, and say which cannot be."""
    channels, height, width = shape
    images = torch.empty(n, *shape, dtype=torch.uint8)
    labels: list[int] = []
    faults: list[str] = []
    with decoders() as pool:
        while some := list(islice(samples, 256)):
            pixels = pool.map(lambda sample: decode(sample, channels, (width, height)), some)
            for sample, decoded in zip(some, pixels, strict=True):
                if isinstance(decoded, str) or isinstance(sample, str):
                    faults.append(str(decoded))
                    continue
                images[len(labels)] = decoded
                labels.append(sample.label)
    return ImageSet(images[: len(labels)], torch.tensor(labels, dtype=torch.int64)), faults


def _untested(source: str, classes: tuple[str, ...], test: ImageSet) -> list[str]:
    """A note on classes without a test image."""
    counts = test.labels.bincount(minlength=len(classes)).tolist()
    untested = [name for name, n in zip(classes, counts, strict=True) if not n]
    if not untested:
        return []
    shown = ", ".join(untested[:5]) + (", ..." if len(untested) > 5 else "")
    return [f"{source}: classes without a test image: {shown}"]


def _name(source: str) -> str:
    """A name for the data, from the last word of their path or address."""
    path = Path(source)
    if path.exists():
        return path.resolve().stem if path.is_file() else path.resolve().name
    word = source.rstrip("/").rpartition("/")[2].partition(".tar")[0]
    return re.sub(r"[^-+.\w]+", "-", word).strip("-.") or "data"
