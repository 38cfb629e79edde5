"""Which image is which, by its pixels: the same in every process, whatever its file is called."""

from hashlib import blake2b

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

WHOLE = 1 << 12  # bytes up to which an image is hashed whole; of larger ones it is a sample


def content_digest(images: UInt8[Tensor, "n c h w"], labels: Int64[Tensor, "n"]) -> str:
    """Hash images in their order with their labels: 16 hexadecimal digits."""
    rows = torch.stack([content_keys(images), labels.cpu()], dim=1)
    return blake2b(rows.numpy().tobytes(), digest_size=8).hexdigest()


def content_keys(images: UInt8[Tensor, "n c h w"]) -> Int64[Tensor, "n"]:
    """Hash the pixels and the shape of each image to 64 bits.

    Of an image above 4 KiB it is pixels at equal distances, and the sum of all: enough to know it
    again, in a fiftieth of the time that decoding takes.
    """
    shape = repr(tuple(images.shape[1:])).encode()
    rows = images.cpu().contiguous().flatten(1).numpy()
    length = rows.shape[1]
    step = -(-length // WHOLE)
    words = rows[:, : length // 8 * 8].view("<u8") if step > 1 else None
    keys = []
    for i, row in enumerate(rows):
        digest = blake2b(row[::step].tobytes(), digest_size=8, person=shape[:16])
        if words is not None:
            digest.update(words[i].sum().tobytes())
        keys.append(int.from_bytes(digest.digest(), "little", signed=True))
    return torch.tensor(keys, dtype=torch.int64)
