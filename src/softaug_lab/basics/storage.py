"""Files that are whole or not there at all."""

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from softaug_lab.basics.errors import SoftaugError


def write_atomically(path: Path, content: bytes | str, keep_old_as: Path | None = None) -> None:
    """Write to a temporary file beside `path`, sync it, and rename it into place.

    A crash or a full disk leaves what stood at `path` whole, there or at `keep_old_as`. Raises
    SoftaugError when the system refuses to write.
    """
    # File names can hold bytes that are no text, which UTF-8 refuses.
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
        kept = "; what was there before is kept" if path.exists() else ""
        raise SoftaugError(
            f"{path}: could not be written ({error.strerror}), {len(data):,} bytes are needed; "
            f"free some space or check the permissions{kept}"
        ) from error


def cache_folder() -> Path:
    """Where data are kept that were fetched, or that took long to make: SOFTAUG_DATA, if set."""
    # An empty variable counts as unset (XDG Base Directory Specification).
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("SOFTAUG_DATA") or f"{home}/softaug").expanduser()


def _sync_folder(folder: Path) -> None:
    """Make renames last through a loss of power, where the system lets folders be synced."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_json(path: Path, value: Any) -> None:
    write_atomically(path, json.dumps(value, indent=1, allow_nan=True) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; raises SoftaugError where it is absent or broken."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise SoftaugError(f"{path}: no such file; is this a run folder of softaug?") from error
    except (OSError, ValueError) as error:
        raise SoftaugError(f"{path}: not readable as JSON ({error})") from error
