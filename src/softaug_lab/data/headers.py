"""The common shape of a set of images, chosen from their headers before any is decoded."""

from collections.abc import Sequence

from softaug_lab.basics.errors import SoftaugError
from softaug_lab.data.decode import Header, decoders, read_header
from softaug_lab.data.faults import summarise
from softaug_lab.data.sample import Sample, Unreadable

SIDES = (32, 64, 128, 224)  # pixels, that images of many sizes are scaled to
MAX_OWN_SIDE = 256  # pixels of the short side up to which images of one size keep it


def survey(
    source: str, samples: Sequence[Sample | Unreadable], size: int | None
) -> tuple[list[Sample | Unreadable], tuple[int, int, int], int | None]:
    """Read all headers; return the samples, checked, and the shape [C,H,W] to decode them to.

    Samples whose header is unreadable are replaced by `Unreadable`. Channels: 1 if all images are
    grey, else 3. Height and width: `size`; where it is None those of the images, or, where these
    differ or are large, the side that `choose_side` takes from them, which is returned too (else
    None). Raises SoftaugError where no header is readable.
    """
    with decoders() as pool:
        headers = list(pool.map(read_header, samples))
    readable = [header for header in headers if isinstance(header, Header)]
    if not readable:
        faults = [header for header in headers if isinstance(header, Unreadable)]
        raise SoftaugError(summarise(source, faults))
    channels = 1 if all(header.grey for header in readable) else 3
    chosen = None
    if size is not None:
        height = width = size
    elif (own := _own_size(readable)) is not None:
        height, width = own
    else:
        height = width = chosen = choose_side(
            [min(header.height, header.width) for header in readable]
        )
    checked = [
        header if isinstance(header, Unreadable) else sample
        for header, sample in zip(headers, samples, strict=True)
    ]
    return checked, (channels, height, width), chosen


def choose_side(short_sides: Sequence[int]) -> int:
    """Choose a side in pixels: the largest of SIDES that at least half of the images reach."""
    reached_by_half = sorted(short_sides)[len(short_sides) // 2]
    return max((side for side in SIDES if side <= reached_by_half), default=SIDES[0])


def _own_size(headers: Sequence[Header]) -> tuple[int, int] | None:
    """Return height and width where all images share them and they are not large, else None."""
    sizes = {(header.height, header.width) for header in headers}
    if len(sizes) > 1:
        return None
    [(height, width)] = sizes
    return (height, width) if min(height, width) <= MAX_OWN_SIDE else None
