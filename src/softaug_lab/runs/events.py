"""TensorBoard's event files of runs, written from the logs that training writes anyway."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from softaug_lab.runs.folder import HISTORY, RunFolder

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

SECONDS = 5  # between looks at the logs
FIRST_EPOCH = 1
AXES = ("epoch", "seconds")  # of a log's fields: the step of each event, and its time


@contextmanager
def event_files(folder: Path) -> Iterator[Callable[[], None]]:
    """Keep event files beside the log of every run in or below a folder.

    Yields a function to call during training as often as one likes: it looks at the logs every few
    seconds. At the end they are looked at once more, after an error or Ctrl-C too.
    """
    events = Events(folder)
    try:
        yield events.update_in_time
    finally:
        events.update()
        events.close()


@dataclass
class Events:
    """Copies the logs of all runs in or below a folder into event files.

    A log that was not copied to its end before gets a new file with the whole log, which tells
    TensorBoard to forget the events of older files. After a kill and a resume, every epoch is
    therefore shown once, also the epochs trained without event files.
    """

    folder: Path
    copies: "dict[Path, _Copy]" = field(default_factory=dict)
    looked: float = -SECONDS

    def update_in_time(self) -> None:
        """Update, unless that was done within the last seconds."""
        if time.monotonic() - self.looked >= SECONDS:
            self.update()

    def update(self) -> None:
        """Copy what is new in the logs."""
        for log in sorted(self.folder.rglob(HISTORY)):
            if log not in self.copies:
                self.copies[log] = _Copy(RunFolder(log.parent), _last_event(log.parent))
            self.copies[log].update()
        self.looked = time.monotonic()

    def close(self) -> None:
        """Close the event files."""
        for copy in self.copies.values():
            if copy.writer is not None:
                copy.writer.close()


@dataclass
class _Copy:
    """The copy of one run's log. changed: the time of the log's last change that was copied."""

    run: RunFolder
    changed: float
    epochs: int = 0  # in the file of this writer
    writer: "SummaryWriter | None" = None

    def update(self) -> None:
        changed = self.run.history_file.stat().st_mtime
        if changed <= self.changed:
            return
        history = self.run.history()
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(self.run.folder), purge_step=FIRST_EPOCH)
        for record in history[self.epochs :]:
            # The log's time is that of its last epoch.
            walltime = changed - (history[-1]["seconds"] - record["seconds"])
            for name, value in record.items():
                if name not in AXES:
                    self.writer.add_scalar(name, value, record["epoch"], walltime)
        self.writer.flush()
        # A resumed run may take epochs of the log again.
        self.epochs, self.changed = max(self.epochs, len(history)), changed


def _last_event(folder: Path) -> float:
    """The time of the last event that an earlier start copied from the log in a folder, else 0."""
    events = folder.glob("events.out.tfevents.*")
    return max((file.stat().st_mtime for file in events), default=0.0)
