"""The two errors a user of the command line sees: one line, no traceback."""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path


class SoftaugError(Exception):
    """Something failed; the message says what, where and how to mend it."""

    exit_code = 1


class UsageError(SoftaugError):
    """The request itself is wrong: an unknown name, a value out of range."""

    exit_code = 2


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name nobody knows, with the nearest ones that exist."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(names[:12])}"
    return UsageError(f"unknown {kind} {name!r}; {hint}")


def require_file(path: Path) -> None:
    """Raise SoftaugError where there is no such file."""
    if not path.is_file():
        raise SoftaugError(f"{path}: no such file")


def some(names: Sequence[str]) -> str:
    """The first of many names."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def one_line(error: Exception) -> str:
    """What an error of another library says, on one line that is not too long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # TorchScript puts the traceback of its own code before the reason.
    if any(line.startswith("Traceback") for line in lines):
        lines = lines[-1:]
    text = " ".join(lines) or type(error).__name__
    return f"{text[:300]} ..." if len(text) > 300 else text
