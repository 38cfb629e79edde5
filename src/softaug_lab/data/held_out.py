"""Training images that are held out to fit a temperature on."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import torch
from jaxtyping import Int64
from torch import Tensor

from softaug_lab.basics.errors import UsageError
from softaug_lab.basics.seeds import keyed
from softaug_lab.data.dataset import Data, ImageSet
from softaug_lab.data.part import decode_part
from softaug_lab.data.shards import Part, Row, Shard
from softaug_lab.data.split import random_ranks
from softaug_lab.data.stream import Stream

# A tenth of 10,000 images would cost up to 1.5 points of error; from fewer than 200 images a
# temperature is too uncertain to be worth any.
SHARE, LEAST = 0.05, 200
# A temperature is one number, and the held-out images of a stream are in memory.
MOST_OF_A_STREAM = 5000


def number_to_hold_out(n: int) -> int:
    """Compute how many of n training images are set aside: SHARE of them, or 0 below LEAST."""
    return round(SHARE * n) if n * SHARE >= LEAST else 0


def share_to_hold_out(data: Data) -> float:
    """Choose the share of the training images to fit a temperature on: SHARE or none.

    Of a stream at most MOST_OF_A_STREAM images, and none where a class has so few that it could
    lose them all.
    """
    n = data.train_images
    if not number_to_hold_out(n):
        return 0.0
    if data.stream is None:
        return SHARE
    share = min(SHARE, MOST_OF_A_STREAM / n)
    per_class = data.stream.part.per_class
    return share if int(per_class[per_class > 0].min()) * SHARE >= 1 else 0.0


def hold_out(data: Data, share: float, seed: int) -> Data:
    """Move a share of the training images to `held_out`.

    In memory that is a share of each class, at least one image, and at least one stays. Of a
    stream it is the first images of each shard, so that no shard is read to its end for them.
    Raises UsageError where no image can be held out, or where a class would have none left.
    """
    if data.stream is not None:
        return _of_stream(data, data.stream, share, seed)
    labels = data.train.labels
    counts = labels.bincount(minlength=data.num_classes)
    n_held = (share * counts).round().clamp(min=1).minimum(counts - 1)
    _, rank = random_ranks(data, seed)
    held = rank < n_held[labels]
    if not held.any():
        raise UsageError(f"{data.name} has one training image of each class, and none to hold out")
    return replace(data, train=data.train[~held], held_out=data.train[held])


def halves(images: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Split held-out images into every other one: for a learned curve, and for the temperature."""
    return images[::2], images[1::2]


def _of_stream(data: Data, stream: Stream, share: float, seed: int) -> Data:
    counts = stream.part.counts
    # Rounded by chance, since a shard may be a single image.
    chance = torch.rand(len(counts), generator=keyed(seed, "held out"), dtype=torch.float64)
    n_held = (share * counts + chance).long().minimum(counts)
    if not n_held.any():
        raise UsageError(f"{data.name}: a share of {share:g} holds no image out; ask for more")
    first, rest = _cut(stream.part, n_held)
    decoded, notes = decode_part(
        data.name, first, data.image_shape, stream.max_unreadable, "held-out"
    )
    held_out = ImageSet(decoded.images, decoded.labels, decoded.objects)
    left = stream.part.per_class - held_out.labels.bincount(minlength=data.num_classes)
    lost = (left == 0) & (stream.part.per_class > 0)
    if lost.any():
        name = data.classes[int(lost.int().argmax())]
        raise UsageError(
            f"{data.name}: a share of {share:g} holds out all images of class {name!r}; "
            "ask for less, or leave out --stream"
        )
    stream = replace(stream, part=replace(rest, per_class=left))
    return replace(data, stream=stream, held_out=held_out, notes=(*data.notes, *notes))


def _cut(part: Part, n_first: Int64[Tensor, " s"]) -> tuple[Part, Part]:
    """Cut each shard of a part after its first images; the images per class are not counted."""
    pairs = [*zip(part.shards, n_first.tolist(), strict=True)]
    return (
        replace(part, shards=[_Stretch(shard, 0, n) for shard, n in pairs], counts=n_first),
        replace(
            part,
            shards=[_Stretch(shard, n, None) for shard, n in pairs],
            counts=part.counts - n_first,
        ),
    )


@dataclass(frozen=True, slots=True)
class _Stretch:
    """The images of a shard from `begin` on, up to `end`; None for all that follow."""

    shard: Shard
    begin: int
    end: int | None

    @property
    def name(self) -> str:
        return self.shard.name

    def labels(self) -> Iterator[tuple[str, object]]:
        return islice(iter(self.shard.labels()), self.begin, self.end)

    def read(self, start: int) -> Iterator[Row]:
        first = self.begin + start
        left = None if self.end is None else self.end - first
        return islice(self.shard.read(first), left)
