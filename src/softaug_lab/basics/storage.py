"""Atomic writes, JSON files and the cache folder."""

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from softaug_lab.basics.errors import SoftaugError


def write_atomically(path: Path, content: bytes | str, keep_old_as: Path | None = None) -> None:
    """Write to a temporary file beside `path`, sync it, and rename it into place.

    A crash or a full disk leaves the previous file whole, at `path` or at `keep_old_as`. Raises
    SoftaugError where the system refuses to write.
    """
    # File names can hold bytes that are not text, and UTF-8 refuses to encode those.
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        if keep_old_as is not None and path.exists():
            path.replace(keep_old_as)
        Path(temporary).replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
        kept = "; the previous file is kept" if path.exists() else ""
        raise SoftaugError(
            f"{path}: could not be written ({error.strerror}), {len(data):,} bytes are needed; "
            f"free some space or check the permissions{kept}"
        ) from error


def cache_folder() -> Path:
    """Return the folder for downloads and label counts.

    SOFTAUG_DATA, else `softaug` in XDG_CACHE_HOME, else ~/.cache/softaug.
    """
    # An empty variable counts as unset (XDG Base Directory Specification).
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("SOFTAUG_DATA") or f"{home}/softaug").expanduser()


def _sync_folder(folder: Path) -> None:
    """Sync a folder, so that renames in it survive a power failure, where the system allows it."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON atomically; NaN and infinity are written as `NaN` and `Infinity`."""
    write_atomically(path, json.dumps(value, indent=1, allow_nan=True) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; raise SoftaugError where it is missing or broken."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise SoftaugError(f"{path}: no such file; is this a run folder of softaug?") from error
    except (OSError, ValueError) as error:
        raise SoftaugError(f"{path}: not readable as JSON ({error})") from error
