"""The common shape of a set of images, chosen from their headers before any is decoded."""

from collections import Counter
from collections.abc import Sequence

from softaug_lab.basics.errors import SoftaugError, UsageError, listed
from softaug_lab.data.decode import Header, decoders, read_header
from softaug_lab.data.faults import summarise
from softaug_lab.data.sample import Sample, Unreadable


def survey(
    source: str, samples: Sequence[Sample | Unreadable], size: int | None
) -> tuple[list[Sample | Unreadable], tuple[int, int, int]]:
    """Read all headers; return the samples, checked, and the shape [C,H,W] to decode them to.

    Samples whose header is unreadable are replaced by `Unreadable`. Channels: 1 if all images are
    grey, else 3. Height and width: `size`, or those of the images where `size` is None. Raises
    UsageError where they differ then, SoftaugError where no header is readable.
    """
    with decoders() as pool:
        headers = list(pool.map(read_header, samples))
    readable = [header for header in headers if isinstance(header, Header)]
    if not readable:
        faults = [header for header in headers if isinstance(header, Unreadable)]
        raise SoftaugError(summarise(source, faults))
    channels = 1 if all(header.grey for header in readable) else 3
    height, width = (size, size) if size is not None else _common_size(source, readable)
    checked = [
        header if isinstance(header, Unreadable) else sample
        for header, sample in zip(headers, samples, strict=True)
    ]
    return checked, (channels, height, width)


def _common_size(source: str, headers: Sequence[Header]) -> tuple[int, int]:
    """Return height and width where all headers agree; raise UsageError where they do not."""
    sizes = Counter((header.width, header.height) for header in headers)
    if len(sizes) > 1:
        examples = listed([f"{w} x {h} ({n})" for (w, h), n in sizes.most_common()], 4)
        side = _advised_side([min(header.width, header.height) for header in headers])
        raise UsageError(
            f"{source}: images of {len(sizes)} sizes ({examples}); "
            f"--size {side} makes them one (short side to {side}, centre crop)"
        )
    [(width, height)] = sizes
    return height, width


def _advised_side(short_sides: Sequence[int]) -> int:
    """Choose a side that enlarges hardly an image: one in twenty may be smaller; 224 at most."""
    side = min(224, sorted(short_sides)[len(short_sides) // 20])
    return side - side % 32 if side >= 64 else side
