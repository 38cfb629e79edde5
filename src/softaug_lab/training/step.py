"""One training step: the gradients of a batch, and the sums over processes that judge them."""

from contextlib import nullcontext
from functools import partial, reduce

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from softaug.devices import to_device
from softaug_lab.basics.processes import Processes
from softaug_lab.basics.seeds import key, seed_generator
from softaug_lab.recipes import Recipe
from softaug_lab.training.batches import Batch
from softaug_lab.training.faults import is_out_of_memory, out_of_memory
from softaug_lab.training.objective import Objective
from softaug_lab.training.precision import autocast_dtype
from softaug_lab.training.prepared import Prepared


class Step:
    """The forward and backward passes of an objective's model, on the device of the process.

    model: the objective's model, on the device. wrapped: the same for DDP or FSDP. dtype: of its
    forward passes under autocast; None for float32.
    """

    def __init__(self, recipe: Recipe, objective: Objective, processes: Processes) -> None:
        self.recipe, self.objective, self.processes = recipe, objective, processes
        self.model = objective.model.to(processes.device)
        self.dtype = autocast_dtype(recipe, self.model, processes.device)
        if recipe.compile:
            # The last batch of an epoch is smaller: dynamic shapes would slow down all others.
            self.model.compile(dynamic=False)
        self.wrapped = processes.wrap(self.model).train()
        if recipe.body_lr < 1:
            keep_norm_statistics(self.model)

    def gradients(self, prepared: Prepared) -> tuple[Tensor, Tensor]:
        """Compute the gradients of the mean loss over the global batch.

        Returns this process's outputs and its summed loss, both detached. Raises SoftaugError when
        memory runs out, with the `--accumulate` that would fit.
        """
        seed = key(self.recipe.seed, prepared.index, "dropout", self.processes.rank)
        seed_generator(self.processes.device, seed)
        compute = partial(self._backward, prepared.inputs, prepared.targets, prepared.batch.count)
        try:
            return compute(self.recipe.accumulate)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Only here, without the error and the tensors that it references, is their memory free.
        raise out_of_memory(self.recipe, self.processes, compute)

    def sums(self, outputs: Tensor, loss: Tensor, batch: Batch, *, stop: bool, due: bool) -> Tensor:
        """Exchange a step's sums: one sum over processes, which the host need not wait for.

        Returns the vector that `Report` describes, float64 where the device has it, on the device.
        """
        flags = torch.tensor([len(outputs), stop, due], dtype=loss.dtype, device="cpu")
        batch_sums = self.objective.batch_sums(outputs, batch)
        mine = torch.cat(
            [loss[None], batch_sums, to_device(flags, loss.device), gradient_norm(self.model)[None]]
        )
        # Apple's GPUs have no float64.
        return self.processes.summed(mine if mine.device.type == "mps" else mine.double())

    def _backward(
        self, inputs: Tensor, targets: Tensor, count: int, parts: int
    ) -> tuple[Tensor, Tensor]:
        least = len(inputs)
        if parts > 1 and self.processes.shard:  # each part is an exchange of all processes
            least = -int(self.processes.largest(-least))
        parts = max(1, min(parts, least // 2))  # batch norm needs two images in each part
        chunks = zip(inputs.tensor_split(parts), targets.tensor_split(parts), strict=True)
        all_outputs, losses = [], []
        penalty = self.objective.penalty
        for i, (chunk, rows) in enumerate(chunks):
            last = i == parts - 1
            if penalty is not None:
                chunk = chunk.float().requires_grad_()
            with nullcontext() if last else self.processes.gradients_held(self.wrapped):
                with torch.autocast(chunk.device.type, self.dtype, enabled=self.dtype is not None):
                    outputs = self.wrapped(chunk)
                loss = self.objective.loss(outputs.float(), rows)
                if penalty is not None:
                    loss = loss + penalty(outputs, chunk)
                # DDP averages the processes' gradients; the mean is over the images of all.
                (loss * (self.processes.count / count)).backward()
            all_outputs.append(outputs.detach())
            losses.append(loss.detach())
        outputs = all_outputs[0] if parts == 1 else torch.cat(all_outputs)
        return outputs, reduce(torch.add, losses)


def keep_norm_statistics(model: nn.Module) -> None:
    """Make batch norm use its running statistics, and not change them, while a model trains."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def gradient_norm(model: nn.Module) -> Tensor:
    """Return the 2-norm of all gradients, over all shards."""
    norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def broken(sums: Tensor) -> Tensor:
    """Whether the loss or the gradient norm of a step's sums is not finite: bool [], unread."""
    # A sum of two float64 that were float32 cannot overflow.
    both = sums[0] + sums[-1]
    return (both - both) != 0  # `isfinite` would launch twice as much
