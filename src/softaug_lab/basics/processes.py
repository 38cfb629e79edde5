"""The processes of a run: one, or as many as `torchrun` began, and what they do together.

torch's own DistributedDataParallel and fully_shard, with nothing between: Accelerate and Fabric
keep one global state for a process, where a comparison trains many recipes of its own precision one
after another; and the reading and drawing of data, which they would take over, is keyed here.

Every process reads the same recipe and takes its share of each global batch. Gradients are of the
mean over the global batch; statistics of batch norm are those of the share, and the first
process's are kept.
"""

import contextlib
import gc
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from softaug_lab.basics.errors import SoftaugError, UsageError

WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


@dataclass(frozen=True)
class Processes:
    """This process among those of a run, and its device.

    rank: of `count`, from 0. shard: split weights, gradients and the optimiser's state over the
    processes (FSDP) instead of copying them (DDP).
    """

    device: torch.device
    rank: int = 0
    count: int = 1
    shard: bool = False

    @property
    def main(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """This process's part of n samples; parts differ by one at most."""
        return slice(n * self.rank // self.count, n * (self.rank + 1) // self.count)

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model as the loop calls it; make the optimiser after this, on `model`."""
        if self.count == 1:
            return model
        if not self.shard:
            return nn.parallel.DistributedDataParallel(model)
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        # It takes no parameters in channels_last.
        model = model.to(memory_format=torch.contiguous_format)
        mesh = init_device_mesh(self.device.type, (self.count,))
        containers = (nn.Sequential, nn.ModuleList)
        # The innermost first, as fully_shard asks; each block gathers its weights when needed.
        for container in reversed([m for m in model.modules() if isinstance(m, containers)]):
            for block in container.children():
                if any(block.children()) and not isinstance(block, containers):
                    fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
        return model

    @contextlib.contextmanager
    def gradients_held(self, wrapped: nn.Module) -> Iterator[None]:
        """Add up gradients in this process, to be exchanged with those of a later backward."""
        if isinstance(wrapped, nn.parallel.DistributedDataParallel):
            with wrapped.no_sync():
                yield
            return
        # Sharded gradients are reduced each time: whole ones would not fit.
        yield

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes, on the CPU."""
        if self.count == 1:
            return values.cpu()
        on_device = values.to(self.device, copy=True)
        dist.all_reduce(on_device)
        return on_device.cpu()

    def gather(self, rows: Tensor) -> Tensor:
        """The rows [n,...] of all processes, in their order; n may differ. On the same device."""
        if self.count == 1:
            return rows
        mine = [len(rows) if rank == self.rank else 0 for rank in range(self.count)]
        counts = self.total(torch.tensor(mine)).tolist()
        padded = rows.new_zeros(max(counts), *rows.shape[1:], device=self.device)
        padded[: len(rows)] = rows
        every = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(every, padded)
        return torch.cat([one[:n] for one, n in zip(every, counts, strict=True)]).to(rows.device)

    def gather_texts(self, texts: list[str]) -> list[str]:
        """The texts of all processes, in their order."""
        every: list[list[str]] = [texts] * self.count
        if self.count > 1:
            dist.all_gather_object(every, texts)
        return [text for some in every for text in some]

    def over_global_batch(self, weight: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """A rule for weights that sees the confidences of the global batch, not of the share."""

        def weigh_share(confidence: Tensor) -> Tensor:
            counts = self.gather(torch.tensor([len(confidence)])).tolist()
            start = sum(counts[: self.rank])
            return weight(self.gather(confidence))[start : start + len(confidence)]

        return weight if self.count == 1 else weigh_share

    def wait(self) -> None:
        """Go on when all processes are here."""
        if self.count > 1:
            dist.barrier()

    def state(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Weights and the optimiser's state, whole and on the CPU, however they are split."""
        return {
            "model": get_model_state_dict(model, options=WHOLE),
            "optimizer": get_optimizer_state_dict(model, optimizer, options=WHOLE),
        }

    def load(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]
    ) -> None:
        """Put back what `state` gave, into as many processes as there are now."""
        options = StateDictOptions(full_state_dict=True)
        set_model_state_dict(model, state["model"], options=options)
        set_optimizer_state_dict(model, optimizer, state["optimizer"], options=options)


def processes_begun() -> int:
    """How many processes torchrun began, of which this is one; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextlib.contextmanager
def started(device: str, shard: bool = False) -> Iterator[Processes]:
    """This process among those of a run; joins the others where torchrun's variables are set.

    device: auto, cpu, cuda, ...; with several processes of one machine each takes a GPU of its own.
    """
    count = processes_begun()
    if count == 1:
        if shard:
            raise UsageError(
                "--shard splits the model over processes, and there is one; begin several with "
                "torchrun --nproc-per-node N -m -- softaug ..."
            )
        yield Processes(choose_device(device))
        return
    chosen = choose_device(device)
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(chosen)
    try:
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    except (RuntimeError, ValueError) as error:
        raise SoftaugError(
            f"the {count} processes did not find each other ({error}); "
            "begin them with torchrun --nproc-per-node N -m -- softaug ..."
        ) from error
    try:
        yield Processes(chosen, dist.get_rank(), count, shard)
    finally:
        # Sharded models in reference cycles would end after their processes' group, with an abort.
        gc.collect()
        dist.destroy_process_group()


def choose_device(name: str) -> torch.device:
    """The device by its name; `auto` takes the first accelerator there is, else the CPU."""
    if name != "auto":
        try:
            device = torch.device(name)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise SoftaugError(f"device {name!r} cannot be used here: {reason}") from error
        return device
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is computed by the hardware, not emulated."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        features = torch.cpu.get_capabilities()
        return bool(features.get("avx512_bf16") or features.get("amx_bf16"))
    return False
