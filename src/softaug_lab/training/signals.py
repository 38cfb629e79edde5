"""signals: TODO."""

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

from softaug_lab.basics.errors import SoftaugError


class InterruptedRunError(SoftaugError):
    """Ctrl-C or SIGTERM: the run stopped cleanly, with a checkpoint."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number  # as shells count it: 130 and 143


@contextlib.contextmanager
def caught_signals() -> Iterator[list[int]]:
    """A list that fills on Ctrl-C and SIGTERM, so that a step is never cut in half.

    A second Ctrl-C does not wait for the step, a third kills.
    """
    caught: list[int] = []

    def note(number: int, _: Any) -> None:
        if caught and number == signal.SIGINT:
            # What now comes to an end may wait for a network that hangs.
            signal.signal(number, signal.SIG_DFL)
            raise KeyboardInterrupt
        caught.append(number)

    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, note)
    except ValueError:  # not in the main thread, where signals do not arrive
        yield caught
        return
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
