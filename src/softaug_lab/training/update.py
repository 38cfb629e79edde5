"""The optimiser's step, which is left out where loss or gradients are not finite."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


class Update:
    """Steps an optimiser, and leaves steps out on the device, so that the host need not look.

    Once more steps were left out than `allowed`, all further ones are: the weights stay those
    before the step at fault, however late the host hears of it. skipped: steps left out so far.
    keep_buffers: put back the model's buffers too, such as statistics of batch norm, after a step
    that is left out; without it they may hold values that are not finite.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, allowed: int, skipped: int
    ) -> None:
        (device,) = {p.device for p in model.parameters()}
        self.optimizer, self.allowed = optimizer, allowed
        self.skipped = torch.full((), skipped, device=device)
        self.left_out = torch.zeros((), device=device)
        self.fused = all(group.get("fused") for group in optimizer.param_groups)
        self.buffers = list(model.buffers()) if allowed else []
        self._before: list[Tensor] = []
        if self.fused:
            # The fused kernels of torch do nothing where this number is 1, as for its GradScaler.
            optimizer.found_inf = self.left_out  # type: ignore[attr-defined]
            _begin_momenta(optimizer)

    def begin(self) -> None:
        """Note what a step that is left out must not change; to be called before its forward."""
        self.optimizer.zero_grad()
        self._before = [buffer.clone() for buffer in self.buffers]

    def __call__(self, broken: Tensor) -> Tensor:
        """Take the step unless it is broken; return whether it was taken. Both are bool []."""
        self.skipped += broken
        torch.logical_or(broken, self.skipped > self.allowed, out=self.left_out)
        taken = self.left_out == 0
        if self.fused or taken:
            self.optimizer.step()
        for buffer, before in zip(self.buffers, self._before, strict=True):
            buffer.copy_(torch.where(taken, buffer, before))
        return taken


def has_fused_update(parameters: Sequence[nn.Parameter]) -> bool:
    """Whether torch updates these in one kernel, which it does not for sharded weights."""
    return all(p.device.type in ("cpu", "cuda") and not isinstance(p, DTensor) for p in parameters)


def _begin_momenta(optimizer: torch.optim.Optimizer) -> None:
    """Let momenta begin at 0: a first step that is left out would leave unwritten memory there."""
    for group in optimizer.param_groups:
        for weight in group["params"]:
            if group.get("momentum") and not optimizer.state[weight]:
                optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
