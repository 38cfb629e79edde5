"""Save and restore the whole state of training, for any number of processes."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from softaug_lab.basics.errors import SoftaugError
from softaug_lab.runs import RunFolder
from softaug_lab.training.objective import Objective
from softaug_lab.training.pace import Pace
from softaug_lab.training.progress import State
from softaug_lab.training.step import Step

MOST = 1 / 20  # of the time, for checkpoints by time


@dataclass
class Checkpoints:
    """Stores a run's model, optimiser, objective, position and history.

    costs: seconds that the last two checkpoints took. Where both are large, as for large models on
    slow storage, checkpoints by time are rarer than `pace` asks; one slow write changes nothing.
    """

    run: RunFolder
    objective: Objective
    step: Step
    optimizer: torch.optim.Optimizer
    pace: Pace
    saved: float = field(default_factory=time.perf_counter)
    logged: int = 0  # epochs in the log
    costs: tuple[float, float] = (0.0, 0.0)
    written: bool = False  # whether the last checkpoint is this process's own

    @property
    def due(self) -> bool:
        """Whether the main process asks for a checkpoint."""
        interval = self.pace.seconds and max(self.pace.seconds, min(self.costs) / MOST)
        return self.step.processes.main and time.perf_counter() - self.saved > interval

    def resume(self) -> tuple[State, list[dict[str, Any]]]:
        """Restore the last checkpoint, if any; return the position and the finished epochs' log.

        Raises SoftaugError where the log has fewer epochs than the checkpoint.
        """
        saved = self.run.load_checkpoint()
        if saved is None:
            return State(), []
        at = State(**saved.pop("at"))
        history = self.run.history()
        if self.step.processes.main and len(history) < at.epoch:
            raise SoftaugError(
                f"{self.run.history_file}: has {len(history)} of the {at.epoch} epochs that the "
                f"checkpoint has; put it back, or remove {self.run.folder} to begin again"
            )
        self.objective.load(saved.pop("objective"))
        self.step.processes.load(self.step.model, self.optimizer, saved)
        self.logged = at.epoch
        return at, history[: at.epoch]

    def save(self, at: State, history: list[dict[str, Any]]) -> None:
        """Write the log of finished epochs, then a checkpoint.

        Raises SoftaugError, in every process, where weights of any are not finite.
        """
        began = time.perf_counter()
        processes = self.step.processes
        parts = [part.isfinite().all() for part in local_parts(self.step.model.parameters())]
        broken = (~torch.stack(parts)).sum()
        if processes.total(broken):
            raise SoftaugError(
                f"{self.run.folder}: weights are not finite in epoch {at.epoch + 1}; try a "
                f"lower --lr (now {self.step.recipe.lr})"
            )
        state = self._state()
        if processes.main:
            if len(history) > self.logged:
                self.run.save_history(history)
                self.logged = len(history)
            progress = {"at": vars(at), "objective": self.objective.state()}
            self.run.save_checkpoint(state | progress, check_last=not self.written)
            self.written = True
        self.saved = time.perf_counter()
        self.costs = (self.costs[-1], self.saved - began)

    def weights(self) -> dict[str, Tensor]:
        """Gather the whole weights on the CPU."""
        weights: dict[str, Tensor] = self._state()["model"]
        return weights

    def _state(self) -> dict[str, Any]:
        return self.step.processes.state(self.step.model, self.optimizer)


def local_parts(parameters: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield this process's shard of each parameter."""
    return (p.to_local() if isinstance(p, DTensor) else p for p in parameters)
