"""A counted part of a data set, decoded to memory."""

from softaug_lab.data.decode import Decoded, decode_all
from softaug_lab.data.faults import leave_out
from softaug_lab.data.memory import check_memory
from softaug_lab.data.shards import Part


def decode_part(
    source: str, part: Part, shape: tuple[int, int, int], max_unreadable: float, kind: str
) -> tuple[Decoded, list[str]]:
    """Decode a part, reading shard after shard; return notes for the user with it.

    kind: of the images, such as `test`. Raises SoftaugError where they don't fit in memory, or
    where more than a share of `max_unreadable` can't be read.
    """
    notes = check_memory(source, len(part), shape)
    decoded = decode_all(part.read_all(), len(part), shape)
    noun = f"unreadable {kind} image"
    return decoded, notes + leave_out(source, decoded.unreadable, len(part), max_unreadable, noun)
