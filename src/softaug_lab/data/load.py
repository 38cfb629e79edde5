"""Loading a data set: find its shards, split, decode to memory or open a stream, report.

n samples, c channels, h w pixels.
"""

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from softaug_lab.basics.errors import SoftaugError, UsageError
from softaug_lab.data.dataset import Data, ImageSet
from softaug_lab.data.decode import decode_all
from softaug_lab.data.faults import check_counts, check_decoded, check_tested, leave_out, summarise
from softaug_lab.data.headers import survey
from softaug_lab.data.held_out import hold_out
from softaug_lab.data.memory import check_memory
from softaug_lab.data.objects import describe
from softaug_lab.data.opening import are_arrays
from softaug_lab.data.part import decode_part
from softaug_lab.data.resize import fit, with_channels
from softaug_lab.data.sample import Sample, Unreadable
from softaug_lab.data.shards import Named, Part, Shard, count_labels
from softaug_lab.data.sources import BUILT_IN, Listing, find, list_any_images, with_objects
from softaug_lab.data.split import TEST_SHARE, split_off_test, subset
from softaug_lab.data.stream import Stream, StreamOptions

PREVIEW_IMAGES = 1024  # training images of a stream that are decoded beforehand


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
    objects: str | None = None,
) -> Data:
    """Load a data set, and report all its faults at once.

    source: `demo`, `cifar10`, `cifar100`, a folder with a folder for each class, the archives of
    ImageNet, Parquet files as on the Hugging Face Hub, WebDataset's tar archives, or `hf:NAME`.
    size: short side to `size`, then centre crop; where it is None and the images differ in size, or
    are larger than 256 px, a side is chosen from their sizes (`Data.chosen_side`).
    seed: of the split, where there is no test part, of the subset and of the held-out images.
    train_images: size of a balanced subset of the training images.
    test: a second source to test on, instead of the test part of the first.
    max_unreadable: the share of images that may be unreadable; they are left out, with a note.
    held_out: the share of the training images to set aside for fitting a temperature.
    stream: read the training images while training, instead of holding them in memory.
    objects: where the objects of the training images are: a folder of masks, a file of boxes, or
    the source itself for its columns; visibility is then that of the object.
    Raises UsageError for a wrong request, SoftaugError for faults of the data.
    """
    _check_ranges(size, held_out, max_unreadable)
    if source in BUILT_IN:
        data = _load_built_in(source, size, test, stream, objects)
    else:
        if stream is not None:
            size = _check_stream(size, train_images)
        listing = find_parts(source, test)
        if objects is not None:
            listing = with_objects(source, listing, objects, max_unreadable)
        if stream is None:
            data = load_to_memory(source, listing, size, seed, max_unreadable)
        else:
            assert size is not None
            data = open_stream(source, listing, size, max_unreadable, stream)
        if objects is not None:
            assert data.train.objects is not None
            notes = describe(objects, data.train.objects)
            data = replace(data, notes=(*data.notes, *notes))
    if train_images is not None:
        data = replace(data, train=subset(data, train_images, seed))
    if held_out:
        data = hold_out(data, held_out, seed)
    return data


def load_to_memory(
    source: str, listing: Listing, size: int | None, seed: int, max_unreadable: float
) -> Data:
    """Split off a test part where there is none, and decode all images."""
    classes, parts, notes = count_parts(source, listing)
    samples = [[*part.read_all()] for part in parts]
    split = None
    if listing.test is None:
        train, test = split_off_test(samples[0], len(classes), seed)
        split = (
            f"{source}: no test part, so {len(test):,} of {len(samples[0]):,} images were set "
            f"aside for testing ({TEST_SHARE:.0%} of each class, by seed {seed})"
        )
    else:
        train, test = samples
    checked, shape, side = survey(source, [*train, *test], size)
    decode_notes = check_memory(source, len(checked), _stored(shape, train))
    decoded = decode_all(checked, len(checked), shape)
    decode_notes += leave_out(source, decoded.unreadable, len(checked), max_unreadable)
    # The training images are a view, since a copy may not fit in memory. The test images are
    # copied, so that a subset of the training images frees all the others.
    n_train = bisect_left(decoded.places, len(train))
    train_set = ImageSet(decoded.images, decoded.labels, decoded.objects)[:n_train]
    test_set = ImageSet(decoded.images[n_train:].clone(), decoded.labels[n_train:])
    notes += decode_notes
    check_decoded(source, classes, parts[0].per_class, _per_class(train_set, classes))
    notes += check_tested(source, classes, _per_class(test_set, classes))
    if side is not None:
        notes.append(f"{source}: the images are scaled to {side} px, by their sizes (--size)")
    return Data(
        data_name(source),
        classes,
        train_set,
        test_set,
        tuple(notes),
        split,
        chosen_side=side,
        arrays=are_arrays(decoded.names),
    )


def open_stream(
    source: str, listing: Listing, size: int, max_unreadable: float, options: StreamOptions
) -> Data:
    """Decode the test images and a sample of the training images, and open the stream."""
    if listing.test is None:
        raise UsageError(f"{source}: no test part; --test names what to test on")
    classes, (train, test), notes = count_parts(source, listing)
    stream = Stream(train, size, options, max_unreadable)
    shape = (3, size, size)
    # Epoch -1: an order that no epoch of training has.
    samples = chain.from_iterable(
        stream.reader(reader, seed=0, epoch=-1) for reader in range(options.readers)
    )
    preview = decode_all(islice(samples, PREVIEW_IMAGES), min(PREVIEW_IMAGES, len(stream)), shape)
    if not len(preview.labels):
        raise SoftaugError(summarise(source, preview.unreadable))
    decoded, decode_notes = decode_part(source, test, shape, max_unreadable, "test")
    train_set = ImageSet(preview.images, preview.labels, preview.objects)
    test_set = ImageSet(decoded.images, decoded.labels)
    notes += decode_notes
    notes += check_tested(source, classes, _per_class(test_set, classes))
    return Data(
        data_name(source),
        classes,
        train_set,
        test_set,
        tuple(notes),
        stream=stream,
        arrays=are_arrays(preview.names),
    )


def read_images(
    source: str, channels: int, height: int, width: int, max_unreadable: float = 0.0
) -> tuple[UInt8[Tensor, "n c h w"], list[str]]:
    """Read the test images of a source, or all where it has no test part, in a given shape.

    Labels are ignored: a folder need not have class folders. Returns notes for the user, too.
    """
    shape = (channels, height, width)
    if source in BUILT_IN:
        test_images = BUILT_IN[source](source).test.images
        notes = check_memory(source, len(test_images), shape)
        # A few at a time, since float32 takes four times the memory.
        resized = (
            fit(with_channels(chunk.float(), channels), height, width)
            for chunk in test_images.split(500)
        )
        images = torch.cat([chunk.round().to(torch.uint8) for chunk in resized])
    else:
        listing = find(source, BUILT_IN, list_any_images)
        shards = listing.train if listing.test is None else listing.test
        _, (part,) = count_labels([shards], listing.classes)
        decoded, notes = decode_part(source, part, shape, max_unreadable, "test")
        images = decoded.images
        if not len(images):
            raise SoftaugError(f"{source}: no readable image")
    colour = "grey" if channels == 1 else "RGB"
    return images, [*notes, f"{source}: {len(images):,} images as {width} x {height} px, {colour}"]


def _stored(
    shape: tuple[int, int, int], samples: Sequence[Sample | Unreadable]
) -> tuple[int, int, int]:
    """The shape of what is held of each image: with a channel for the map of its object, if any."""
    maps = any(isinstance(one, Sample) and one.object is not None for one in samples)
    return shape[0] + maps, shape[1], shape[2]


def _check_ranges(size: int | None, held_out: float, max_unreadable: float) -> None:
    if size is not None and size < 1:
        raise UsageError(f"size must be at least 1 pixel, got {size}")
    if not 0 <= held_out < 1:
        raise UsageError(f"held_out must be a share in [0, 1), got {held_out}")
    if not 0 <= max_unreadable <= 1:
        raise UsageError(f"max_unreadable must be a share in [0, 1], got {max_unreadable}")


def _check_stream(size: int | None, train_images: int | None) -> int:
    """Refuse what a stream cannot have; return the size, which it needs."""
    if size is None:
        raise UsageError("--stream needs --size: the images' sizes are not read beforehand")
    if train_images is not None:
        raise UsageError("a balanced subset needs all images in memory; leave out --stream")
    return size


def _load_built_in(
    source: str,
    size: int | None,
    test: str | None,
    stream: StreamOptions | None,
    objects: str | None,
) -> Data:
    if objects is not None:
        raise UsageError(f"{source} is without masks and boxes; leave out --objects")
    data = BUILT_IN[source](source)
    if size is not None and size not in data.image_shape[1:]:
        raise UsageError(f"{source} has images of {data.image_shape[1]} px; leave out --size")
    if stream is not None or test is not None:
        raise UsageError(
            f"{source} is held in memory and has test images; leave out --stream and --test"
        )
    return data


def find_parts(source: str, test: str | None) -> Listing:
    """List the shards of a source, with the test shards of a second one where it is given."""
    listing = find(source, BUILT_IN)
    return listing if test is None else replace(listing, test=_test_shards(listing, find(test)))


def _test_shards(listing: Listing, second: Listing) -> Sequence[Shard]:
    """Return the test shards of a second source (`--test`), or all where it has no test part.

    Their numeric labels are translated to the second source's class names.
    """
    shards = second.train if second.test is None else second.test
    # Class names without any in common may be two languages for the same classes in one order:
    # then the numbers correspond.
    if listing.classes is None or set(listing.classes).isdisjoint(second.classes or ()):
        return shards
    return [Named(shard, tuple(second.classes or ())) for shard in shards]


def count_parts(source: str, listing: Listing) -> tuple[tuple[str, ...], list[Part], list[str]]:
    """Count the images of each class in the parts of a listing.

    Returns the class names, the parts, and the notes for the user so far.
    """
    parts = [listing.train] if listing.test is None else [listing.train, listing.test]
    classes, counted = count_labels(parts, listing.classes)
    test = counted[1].per_class if len(counted) > 1 else None
    notes = check_counts(source, classes, counted[0].per_class, test)
    return classes, counted, [*listing.notes, *notes]


def _per_class(images: ImageSet, classes: Sequence[str]) -> Tensor:
    return images.labels.bincount(minlength=len(classes))


def data_name(source: str) -> str:
    """Name a data set by the last word of its path or address."""
    path = Path(source)
    if path.exists():
        return path.resolve().stem if path.is_file() else path.resolve().name
    word = source.rstrip("/").rpartition("/")[2].partition(".tar")[0]
    return re.sub(r"[^-+.\w]+", "-", word).strip("-.") or "data"
