"""Distributed processes: one, or as many as `torchrun` started, and their collective operations.

Built on torch's DistributedDataParallel and fully_shard directly. Accelerate and Fabric hold one
global state per process, while a comparison trains many recipes in turn, each in its own precision;
and they would take over data loading and random draws, which are keyed here.

Every process reads the same recipe and takes its share of each global batch. Gradients are those of
the mean loss over the global batch. Batch norm uses the statistics of each process's share, and the
statistics of process 0 are saved.
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
    """The distributed processes of a run, seen from this one.

    device: of this process. rank: of this process, from 0. count: how many processes there are.
    shard: split weights, gradients and optimiser state over the processes (FSDP) instead of
    copying them (DDP).
    """

    device: torch.device
    rank: int = 0
    count: int = 1
    shard: bool = False

    @property
    def main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """Return this process's share of n samples; shares differ by one sample at most."""
        return slice(n * self.rank // self.count, n * (self.rank + 1) // self.count)

    def wrap(self, model: nn.Module) -> nn.Module:
        """Wrap a model to train it on all processes; build the optimiser afterwards, on `model`."""
        if self.count == 1:
            return model
        if not self.shard:
            return nn.parallel.DistributedDataParallel(model)
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        # fully_shard refuses parameters in channels_last.
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
        """Accumulate gradients locally; a later backward pass outside exchanges them."""
        if isinstance(wrapped, nn.parallel.DistributedDataParallel):
            with wrapped.no_sync():
                yield
            return
        # Sharded gradients are reduced each time: unsharded ones would not fit.
        yield

    def total(self, values: Tensor) -> Tensor:
        """Sum the values over all processes; the result is on the CPU."""
        return self.summed(values).cpu()

    def summed(self, values: Tensor) -> Tensor:
        """Sum the values over all processes (all-reduce), where they are.

        For values on a GPU the host does not wait, for those on the CPU it does not wait for a GPU.
        """
        if self.count == 1:
            return values
        totals = values.clone()
        dist.all_reduce(totals)
        return totals

    def largest(self, value: float) -> float:
        """Return the largest of the values of all processes."""
        return float(self.gather(torch.tensor([value], dtype=torch.float64)).max())

    def gather(self, rows: Tensor) -> Tensor:
        """Concatenate the rows [n,...] of all processes by rank; n may differ. Keeps the device."""
        if self.count == 1:
            return rows
        counts = self._counts(len(rows))
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        gathered = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(gathered, padded)
        return torch.cat([part[:n] for part, n in zip(gathered, counts, strict=True)])

    def _counts(self, mine: int) -> list[int]:
        """Collect a number of each process, by rank."""
        alone = [mine if rank == self.rank else 0 for rank in range(self.count)]
        return self.total(torch.tensor(alone)).tolist()

    def gather_texts(self, texts: list[str]) -> list[str]:
        """Concatenate the texts of all processes by rank."""
        gathered: list[list[str]] = [texts] * self.count
        if self.count > 1:
            dist.all_gather_object(gathered, texts)
        return [text for process_texts in gathered for text in process_texts]

    def over_global_batch(self, weight: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """Make a weight function of a share compute its weights from the global batch.

        weight: maps confidences [N] to weights [N].
        """

        def weigh_share(confidence: Tensor) -> Tensor:
            start = sum(self._counts(len(confidence))[: self.rank])
            return weight(self.gather(confidence))[start : start + len(confidence)]

        return weight if self.count == 1 else weigh_share

    def wait(self) -> None:
        """Wait until all processes have reached this call (barrier)."""
        if self.count > 1:
            dist.barrier()

    def state(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Collect the weights and the optimiser state, unsharded, on the CPU."""
        return {
            "model": get_model_state_dict(model, options=WHOLE),
            "optimizer": get_optimizer_state_dict(model, optimizer, options=WHOLE),
        }

    def load(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]
    ) -> None:
        """Restore the result of `state`, which may come from another number of processes."""
        options = StateDictOptions(full_state_dict=True)
        # Whether torch can update the weights in one kernel depends on this run's processes.
        for saved, own in zip(
            state["optimizer"]["param_groups"], optimizer.param_groups, strict=True
        ):
            saved["fused"] = own.get("fused")
        set_model_state_dict(model, state["model"], options=options)
        set_optimizer_state_dict(model, optimizer, state["optimizer"], options=options)


def processes_begun() -> int:
    """Return how many processes torchrun started, 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextlib.contextmanager
def started(device: str, shard: bool = False) -> Iterator[Processes]:
    """Join the other processes where torchrun started several, and leave them at the end.

    device: auto, cpu, cuda, ...; with cuda, each process of a machine takes a GPU of its own.
    Raises UsageError for `shard` with one process, SoftaugError where the processes cannot connect.
    """
    count = processes_begun()
    if count == 1:
        if shard:
            raise UsageError(
                "--shard splits the model over processes, and there is one; start several with "
                "torchrun --nproc-per-node N -m -- softaug ..."
            )
        yield Processes(choose_device(device))
        return
    chosen = choose_device(device)
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(chosen)
    try:
        # Both, for tensors on either: a count on the host is exchanged without the GPU.
        dist.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo")
    except (RuntimeError, ValueError) as error:
        raise SoftaugError(
            f"the {count} processes could not connect to each other ({error}); "
            "start them with torchrun --nproc-per-node N -m -- softaug ...; where a machine has "
            "several networks, name one in GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME"
        ) from error
    try:
        yield Processes(chosen, dist.get_rank(), count, shard)
    finally:
        # Freed after the process group, sharded models in reference cycles would abort.
        gc.collect()
        dist.destroy_process_group()


def choose_device(name: str) -> torch.device:
    """Return the device of a name; `auto` is the first available accelerator, else the CPU.

    A GPU that is named by its number becomes the process's current one.
    """
    if name != "auto":
        try:
            device = torch.device(name)
            if device.type == "meta":
                raise RuntimeError("it holds no numbers")
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:  # NotImplementedError is one
            reason = str(error).splitlines()[0].partition(". This could be")[0]
            if "device string" in reason.lower():  # torch names all devices of all builds
                reason = "no such device; cpu, cuda, cuda:1, mps and xpu are some"
            raise UsageError(f"device {name!r} cannot be used here: {reason}") from error
        if device.type == "cuda" and device.index is not None:
            # Events, generators and questions without a device's name are of the current one.
            torch.cuda.set_device(device)
        return device
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def has_bf16(device: torch.device) -> bool:
    """Return whether the hardware computes in bfloat16 without emulation."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        features = torch.cpu.get_capabilities()
        return bool(features.get("avx512_bf16") or features.get("amx_bf16"))
    return False
