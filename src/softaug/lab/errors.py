"""The two errors a user of the command line sees: one line, no traceback."""

import difflib
from collections.abc import Iterable


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
