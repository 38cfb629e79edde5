"""Ctrl-C and SIGTERM: the loop finishes its step and writes a checkpoint before it stops."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from softaug_lab.basics.errors import SoftaugError


class InterruptedRunError(SoftaugError):
    """Ctrl-C or SIGTERM stopped the run between steps, after a checkpoint was written."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number  # the shells' convention: 130 and 143


def interruption(folder: Path, step: int, steps: int, caught: list[int]) -> InterruptedRunError:
    """Make the error of a run that stopped after so many steps.

    caught: this process's signals; none where another process caught one.
    """
    return InterruptedRunError(
        f"{folder}: stopped after step {step} of {steps}, with a checkpoint",
        caught[0] if caught else signal.SIGTERM,
    )


@contextlib.contextmanager
def stopped_by_signals(message: str) -> Iterator[None]:
    """Raise InterruptedRunError with this message, at once, on Ctrl-C and SIGTERM.

    A process that ignores Ctrl-C, as those of `--jobs` do, goes on ignoring it.
    """

    def stop(number: int, _: Any) -> None:
        raise InterruptedRunError(message, number)

    if threading.current_thread() is not threading.main_thread():  # it alone receives signals
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {
        number: handler
        for number in numbers
        if (handler := signal.getsignal(number)) not in (None, signal.SIG_IGN)
    }
    try:
        for number in before:
            signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def caught_signals() -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM in a list, so that no step is interrupted halfway.

    A second Ctrl-C interrupts the step, a third kills the process.
    """
    caught: list[int] = []

    def note(number: int, _: Any) -> None:
        if caught and number == signal.SIGINT:
            # The cleanup that follows may wait for a network that hangs.
            signal.signal(number, signal.SIG_DFL)
            raise KeyboardInterrupt
        caught.append(number)

    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, note)
    except ValueError:  # outside the main thread, which alone receives signals
        yield caught
        return
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
