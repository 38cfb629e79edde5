"""Errors that the command line prints as one line, without a traceback, and their wording."""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path


class SoftaugError(Exception):
    """An operation failed; the message says what failed, where, and how to mend it."""

    exit_code = 1


class UsageError(SoftaugError):
    """The request itself is wrong: an unknown name, a value out of range."""

    exit_code = 2


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """Make the error for an unknown name; it suggests the nearest of the `known` names."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are {listed(names, 12)}"
    return UsageError(f"unknown {kind} {name!r}" + (f"; {hint}" if names else ""))


def require_file(path: Path) -> None:
    """Raise SoftaugError where `path` is not an existing file."""
    if not path.is_file():
        raise SoftaugError(f"{path}: no such file")


def listed(items: Iterable[object], most: int = 10, separator: str = ", ") -> str:
    """Join the first `most` items, and count the others: `a, b, c, and 210 more`."""
    texts = [str(item) for item in items]
    if len(texts) > most:
        texts[most:] = [f"and {len(texts) - most:,} more"]
    return separator.join(texts)


def plural(count: int, noun: str) -> str:
    """Write a count with its noun: `1 fault`, `12 faults`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def report_faults(source: Path | str, faults: Sequence[str]) -> None:
    """Raise one SoftaugError that counts the faults of a source and names the first ten.

    Does nothing where there are no faults.
    """
    if faults:
        raise SoftaugError(f"{source}: {plural(len(faults), 'fault')}: {listed(faults, 10, '; ')}")


def one_line(error: Exception) -> str:
    """Shorten the message of another library's error to one line of 300 characters at most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # TorchScript puts the traceback of its own code before the reason.
    if any(line.startswith("Traceback") for line in lines):
        lines = lines[-1:]
    text = " ".join(lines) or type(error).__name__
    return f"{text[:300]} ..." if len(text) > 300 else text
