"""One training step: the gradients of a batch, and the sums over processes that judge them."""

import math
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from softaug_lab.basics.processes import Processes, has_bf16
from softaug_lab.basics.seeds import key
from softaug_lab.recipes import Recipe
from softaug_lab.training.batches import Batch
from softaug_lab.training.faults import is_out_of_memory, out_of_memory
from softaug_lab.training.objective import Objective


@dataclass(frozen=True)
class StepSums:
    """One step's sums over all processes, equal in each of them, so that all act alike.

    values: the summed loss, the objective's batch_sums, the number of images. stop: whether any
    process caught a signal. due: whether the main process asks for a checkpoint.
    """

    values: list[float]
    mean_loss: float
    gradient_norm: float
    stop: bool
    due: bool

    @property
    def finite(self) -> bool:
        return math.isfinite(self.mean_loss) and math.isfinite(self.gradient_norm)


class Step:
    """The forward and backward passes of an objective's model, on the device of the process.

    model: the objective's model, on the device. wrapped: the same for DDP or FSDP.
    """

    def __init__(self, recipe: Recipe, objective: Objective, processes: Processes) -> None:
        self.recipe, self.objective, self.processes = recipe, objective, processes
        self.model = objective.model.to(processes.device)
        if recipe.compile:
            self.model.compile()
        self.wrapped = processes.wrap(self.model).train()
        self.dtype = autocast_dtype(recipe, processes.device)

    def gradients(self, batch: Batch, step: int, ending: bool) -> tuple[Tensor, Tensor]:
        """Compute the gradients of the mean loss over the global batch.

        Returns this process's outputs and its summed loss, both detached. Raises SoftaugError when
        memory runs out, with the `--accumulate` that would fit.
        """
        torch.manual_seed(key(self.recipe.seed, step, "dropout", self.processes.rank))
        inputs, targets = self.objective.inputs_and_targets(batch, step, ending)
        compute = partial(self._backward, inputs, targets, batch.count)
        try:
            return compute(self.recipe.accumulate)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Only here, without the error and the tensors that it references, is their memory free.
        raise out_of_memory(self.recipe, self.processes, compute)

    def sums(
        self, outputs: Tensor, loss: Tensor, batch: Batch, *, stop: bool, due: bool
    ) -> StepSums:
        """Exchange a step's sums: one sum over processes, and one wait for the device."""
        flags = loss.new_tensor([len(outputs), stop, due])
        batch_sums = self.objective.batch_sums(outputs, batch)
        mine = torch.cat([loss[None], batch_sums, flags, gradient_norm(self.model)[None]])
        *values, stops, dues, norm = self.processes.total(mine.double()).tolist()
        return StepSums(values, values[0] / batch.count, norm, bool(stops), bool(dues))

    def _backward(
        self, inputs: Tensor, targets: Tensor, count: int, parts: int
    ) -> tuple[Tensor, Tensor]:
        parts = max(1, min(parts, len(inputs) // 2))  # batch norm needs two images in each part
        chunks = zip(inputs.tensor_split(parts), targets.tensor_split(parts), strict=True)
        all_outputs, losses = [], []
        for i, (chunk, rows) in enumerate(chunks):
            last = i == parts - 1
            with nullcontext() if last else self.processes.gradients_held(self.wrapped):
                with torch.autocast(chunk.device.type, self.dtype, enabled=self.dtype is not None):
                    outputs = self.wrapped(chunk)
                loss = self.objective.loss(outputs.float(), rows)
                # DDP averages the processes' gradients; the mean is over the images of all.
                (loss * (self.processes.count / count)).backward()
            all_outputs.append(outputs.detach())
            losses.append(loss.detach())
        return torch.cat(all_outputs), torch.stack(losses).sum()


def autocast_dtype(recipe: Recipe, device: torch.device) -> torch.dtype | None:
    """Return bfloat16 if the recipe asks for it, or says auto and the hardware computes it."""
    if recipe.precision == "fp32":
        return None
    if recipe.precision == "bf16" or has_bf16(device):
        return torch.bfloat16
    return None


def gradient_norm(model: nn.Module) -> Tensor:
    """Return the 2-norm of all gradients, over all shards."""
    norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    return norm.full_tensor() if isinstance(norm, DTensor) else norm
