"""Atomic writes, JSON files, folders that one process holds, and the cache folder."""

import contextlib
import errno
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from softaug_lab.basics.errors import SoftaugError, UsageError

try:
    import fcntl
except ImportError:  # Windows has none, and there nothing is held
    fcntl = None  # type: ignore[assignment]


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


@contextlib.contextmanager
def held(folder: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold a folder, or a file, for this process alone, by a lock that ends with the process.

    Raises UsageError where another process still holds it after `patience` seconds. A file system
    without locks holds nothing.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        end = time.monotonic() + patience
        while not _locked(handle):
            if time.monotonic() >= end:
                raise UsageError(
                    f"{folder}: {_holder(handle)} is at work here; let it end or stop it first"
                )
            time.sleep(0.1)
        yield
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    """Lock a file for this process, or return False where another one has; True without locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EAGAIN, errno.EACCES)
    return True


def _holder(handle: int) -> str:
    """Name the process that locks a file, where the system lists it."""
    with contextlib.suppress(OSError):
        locks = Path("/proc/locks").read_text()
        inode = os.fstat(handle).st_ino
        if found := re.search(rf"FLOCK\s+\w+\s+WRITE\s+(\d+)\s+\S+:{inode}\s", locks):
            return f"process {found[1]}"
    return "another process"


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
