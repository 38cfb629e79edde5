"""What torch.compile gains, of the soft crop and of training steps, and what it takes at first."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.timing import per_image
from benchmarks.training import BATCH, IN_BFLOAT16, SIDE, made_up, network
from softaug import Crop


def measure_crops(rounds: int = 7) -> list[dict[str, Any]]:
    """Microseconds for each image of 32 px that is cropped, its draws made before."""
    return [record for dtype in (torch.uint8, torch.float32) for record in _crops(dtype, rounds)]


def measure_steps(steps: int = 8) -> list[dict[str, Any]]:
    """Milliseconds of a training step, the least of some, and seconds of the first.

    In bfloat16 where the processor has it.
    """
    images, labels = made_up(BATCH)
    records = []
    for model in ("small", "resnet18"):
        for compiled in (False, True):
            net = network(model).train()
            if compiled:
                net.compile()
            optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True)
            step = partial(_step, net, optimizer, images, labels)
            first = _seconds(step)
            records.append(
                {
                    "name": f"{model}, {'compiled' if compiled else 'as it is'}",
                    "step_ms": 1e3 * min(_seconds(step) for _ in range(steps)),
                    "first_s": first,
                }
            )
    return records


def _crops(dtype: torch.dtype, rounds: int) -> list[dict[str, Any]]:
    crop = Crop(sigma=0.3)
    images = torch.randint(256, (256, 3, SIDE, SIDE)).to(dtype)
    drawn = crop.draw(len(images), SIDE, SIDE)
    eager = partial(crop.apply, images, None, drawn)
    compiled = partial(torch.compile(crop.apply, fullgraph=True), images, None, drawn)
    programs: dict[str, Callable[[], object]] = {"as it is": eager, "compiled": compiled}
    first = {name: _seconds(program) for name, program in programs.items()}
    kind = str(dtype).removeprefix("torch.")
    return [
        {
            "name": f"Crop, {kind}, {name}",
            "us_per_image": timing.least,
            "first_s": first[name],
        }
        for name, timing in per_image(programs, len(images), rounds).items()
    ]


def _step(net: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> None:
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=IN_BFLOAT16):
        logits = net(images)
    F.cross_entropy(logits.float(), labels).backward()
    optimizer.step()


def _seconds(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin
