"""Checkpoint files: tensors with a checksum, written whole, read without running pickled code."""

import io
import logging
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from softaug_lab.basics.storage import write_atomically

MARK = b"softaug checkpoint 2\n"  # then 32 bytes of SHA-256, then the bytes of torch.save
log = logging.getLogger(__name__)


def write_checkpoint(file: Path, state: dict[str, Any], previous: Path | None) -> None:
    """Write a checkpoint, whole or not at all; keep the file it replaces as `previous`, if any."""
    content = io.BytesIO()
    torch.save(state, content)
    payload = content.getbuffer()
    # The old file becomes `previous` only when the new one is written and synced.
    whole = b"".join((MARK, sha256(payload).digest(), payload))
    write_atomically(file, whole, keep_old_as=previous)


def read_checkpoint(file: Path) -> dict[str, Any]:
    """Read what `write_checkpoint` wrote; raises ValueError for anything else."""
    payload = _payload(file)
    try:
        state: dict[str, Any] = torch.load(
            io.BytesIO(payload), map_location="cpu", weights_only=True
        )
    except Exception as error:
        raise ValueError(f"not a checkpoint of tensors ({type(error).__name__})") from error
    return state


def is_whole(file: Path) -> bool:
    """Whether a file is a checkpoint with all its bytes."""
    try:
        _payload(file)
    except ValueError:
        return False
    return True


def _payload(file: Path) -> bytes:
    """Read the bytes of torch.save; raises ValueError where they are not those once written."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ValueError(f"not readable ({error.strerror})") from error
    if not content.startswith(MARK):
        raise ValueError("no checkpoint of softaug")
    start = len(MARK)
    digest, payload = content[start : start + 32], content[start + 32 :]
    if sha256(payload).digest() != digest:
        raise ValueError("not a whole checkpoint")
    return payload


def read_first_checkpoint(files: Sequence[Path]) -> dict[str, Any] | None:
    """Read the first whole checkpoint among files, newest first; None where no file exists.

    Broken and foreign files are logged as warnings and skipped; raises ValueError, naming each,
    where no other file is left.
    """
    faults = []
    for file in files:
        if not file.exists():
            continue
        try:
            state = read_checkpoint(file)
        except ValueError as error:
            faults.append(f"{file}: {error}")
            continue
        for fault in faults:
            log.warning("%s; going on from the one before, %s", fault, file.name)
        return state
    if faults:
        raise ValueError("; ".join(faults))
    return None
