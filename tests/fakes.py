"""A made-up CUDA device: counts its launches, and names what makes the host wait for it."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from softaug import Drawn
from softaug.devices import AT_ONCE

COPIES = ("aten._to_copy.default", "aten.copy_.default", "aten.to.dtype_layout")
INDEXING = "aten.index.Tensor"
# They change or make no memory on the device.
FREE = ("aten.empty", "aten.new_empty", "aten._unsafe_view", "aten.lift", "aten._reshape", "prim.")


class Watched(TorchDispatchMode):
    """What was launched on the device, by name, and the copies that the host waited for."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.launched: Counter[str] = Counter()
        self.waits: list[str] = []

    @property
    def launches(self) -> int:
        return sum(self.launched.values())

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = str(func)
        # Fake tensors do not know the fused optimisers, which change tensors and return nothing.
        out = None if name.startswith("aten._fused") else func(*args, **kwargs)
        tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, Tensor)]
        devices = {tensor.device.type for tensor in tensors}
        if devices == {"cpu", "cuda"} and name in (*COPIES, INDEXING):
            # The third argument of `copy_` is non_blocking; an index is copied without it.
            hurried = kwargs.get("non_blocking", len(args) > 2 and args[2])
            if not hurried or _read_slowly(args[1] if name == COPIES[1] else args[0]):
                self.waits.append(f"{name} {[tuple(tensor.shape) for tensor in tensors]}")
        if "cuda" in devices and not func.is_view and not name.startswith(FREE):
            self.launched[name] += 1
        return out


def _read_slowly(source: Any) -> bool:
    """Whether CUDA reads a tensor of the host while the host waits."""
    large = source.device.type == "cpu" and source.nbytes > AT_ONCE
    return large and not hasattr(source, "pinned")


def _pinned(values: Tensor) -> Tensor:
    """A copy that is known as pinned; fake tensors cannot be."""
    copy: Any = values.clone()
    copy.pinned = True
    return copy  # type: ignore[no-any-return]


@contextmanager
def watched() -> Iterator[Watched]:
    """Make tensors fake within, so that `device="cuda"` is one that can be watched."""
    with (
        patch("softaug.devices._can_pin", return_value=True),
        patch.object(Tensor, "pin_memory", _pinned),
        FakeTensorMode(allow_non_fake_inputs=True),
        Watched() as seen,
    ):
        yield seen


def fake_draws(drawn: Drawn) -> Drawn:
    """Draws without values, on the CPU; to be called within `watched`."""
    return {
        name: fake_draws(value)
        if isinstance(value, dict)
        else torch.zeros(value.shape, dtype=value.dtype)
        for name, value in drawn.items()
    }
