"""checkpoint: TODO."""

import io
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

CHECKPOINT_MARK = b"softaug checkpoint 2\n"  # then 32 bytes of SHA-256, then what torch.save wrote


def read_checkpoint(file: Path) -> dict[str, Any]:
    """What save_checkpoint wrote; raises ValueError for anything else. Never runs a pickle."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ValueError(f"not readable ({error.strerror})") from error
    if not content.startswith(CHECKPOINT_MARK):
        raise ValueError("no checkpoint of softaug")
    start = len(CHECKPOINT_MARK)
    digest, payload = content[start : start + 32], content[start + 32 :]
    if sha256(payload).digest() != digest:
        raise ValueError("not a whole checkpoint")
    try:
        state: dict[str, Any] = torch.load(
            io.BytesIO(payload), map_location="cpu", weights_only=True
        )
    except Exception as error:
        raise ValueError(f"not a checkpoint of tensors ({type(error).__name__})") from error
    return state
