"""Read each step's sums `lag` steps later, and act on them: progress, faults, stop, checkpoint."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from softaug_lab.training.faults import Faults
from softaug_lab.training.prepared import Prepared
from softaug_lab.training.progress import Progress, State, Stopwatch


@dataclass(frozen=True)
class Report:
    """A step's sums over all processes, equal in each of them, so that all act alike.

    values: the summed loss, the objective's batch_sums, the number of images, then whether any
    process caught a signal, whether the main process asks for a checkpoint, and the gradient norm.
    """

    step: Prepared
    values: list[float]

    @property
    def sums(self) -> list[float]:
        return self.values[:-3]

    @property
    def stop(self) -> bool:
        return bool(self.values[-3])

    @property
    def due(self) -> bool:
        return bool(self.values[-2])

    @property
    def mean_loss(self) -> float:
        return self.values[0] / self.step.batch.count

    @property
    def finite(self) -> bool:
        return math.isfinite(self.mean_loss) and math.isfinite(self.values[-1])


@dataclass
class Reports:
    """Reads the sums of each step `lag` steps later, and keeps the position of the run by them.

    watch: called with the progress of each step. stop, due: whether a process caught a signal, or
    a checkpoint is due, by the reports read so far.
    """

    at: State
    faults: Faults
    watch: Callable[[Progress], None]
    lag: int
    stop: bool = False
    due: bool = False
    _waiting: deque[tuple[Prepared, Tensor, torch.cuda.Event | None]] = field(default_factory=deque)
    _stopwatch: Stopwatch = field(default_factory=Stopwatch)

    def add(self, step: Prepared, sums: Tensor) -> None:
        """Take a step's sums, a vector on the device; read those of `lag` steps ago."""
        self._waiting.append((step, sums.to("cpu", non_blocking=sums.is_cuda), mark(sums.device)))
        self._read_until(self.lag)

    def catch_up(self) -> None:
        """Read the sums of all steps taken; the position is then that of the weights."""
        self._read_until(0)
        self.due = False  # a checkpoint that is not written now is asked for again by the next step

    def _read_until(self, left: int) -> None:
        while len(self._waiting) > left:
            step, sums, computed = self._waiting.popleft()
            if computed is not None:
                computed.synchronize()
            self._account(Report(step, sums.tolist()))

    def _account(self, report: Report) -> None:
        at, batch = self.at, report.step.batch
        at.unreadable = self.faults.count_unreadable(at.unreadable, batch)
        if not report.finite:
            self.faults.skip_or_stop(report.step.index, at.skipped + 1, report.mean_loss, batch)
        at.advance(report.sums, report.finite, self._stopwatch.lap())
        self.watch(at.progress(self.faults.schedule, report.mean_loss))
        self.stop, self.due = self.stop or report.stop, self.due or report.due


def mark(device: torch.device) -> torch.cuda.Event | None:
    """Return an event that is over once the device has done all it was given; None on a CPU."""
    if device.type != "cuda":
        return None
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(device))
    return event
