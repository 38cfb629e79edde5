"""Check softaug on one GPU: equal results, waits of the host, times of a call, pace of training.

    make gpu                                           # on a machine with CUDA: writes docs/gpu.md
    python scripts/gpu_check.py --device cpu --quick   # a rehearsal of half a minute without a GPU

It should take a few minutes. What raises is reported and the rest goes on. Four parts:

equal   pixels, maps and targets against those of the CPU, for equal draws
waits   how often one call makes the host wait for the device, by torch's own watch
times   each transform beside torchvision's, in microseconds of a call, and in a CUDA graph
train   softaug's own loop, a bare step with all on the device, and a CUDA graph of that step
"""

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torchvision.transforms import v2 as typed_v2

import softaug as sa
from softaug.transforms.hashed_noise import standard_normal
from softaug_lab.basics.processes import Processes
from softaug_lab.corruptions import corrupt, names_for
from softaug_lab.data import Data, ImageSet
from softaug_lab.models import ModelCard, build
from softaug_lab.recipes import Recipe
from softaug_lab.runs import open_run
from softaug_lab.training import Progress, fit

v2: Any = typed_v2  # its types know fewer arguments than it takes
PARTS = ("equal", "waits", "times", "train")
# These transforms move or replace whole pixels, so that they are equal on every device to the bit.
EXACT = {
    "Crop",
    "Crop, fill",
    "UniformCrop",
    "Flip",
    "VerticalFlip",
    "Erase",
    "Cutout",
    "Flip, Crop",
}
# These transforms read their draws on the host, so that no graph can hold them.
READING = {"TrivialAugment", "RandAugment"}
CLASSES = 100


@dataclass
class Check:
    """One run of the program: where it computes, how much of it, and what it has found."""

    device: torch.device
    quick: bool
    compiled: bool
    began: float = field(default_factory=time.perf_counter)
    lines: list[str] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    def say(self, text: str) -> None:
        self.lines.append(text)
        print(f"[{time.perf_counter() - self.began:6.1f} s] {text}", flush=True)

    def synchronize(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def tried(self, call: Callable[[], Any]) -> Any:
        """The result of a call, or the first line of its error as text."""
        try:
            return call()
        except Exception as error:
            with contextlib.suppress(Exception):
                self.synchronize()
            return f"raises {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"[:150]

    def seconds(self, call: Callable[[], Any], times: int) -> float:
        self.synchronize()
        began = time.perf_counter()
        for _ in range(times):
            call()
        self.synchronize()
        return time.perf_counter() - began

    def microseconds(self, call: Callable[[], Any], least: float = 0.12) -> float:
        """Time of one call, host and device together: the median of 5 rounds after 3 others."""
        rounds: list[float] = []
        times = 1
        for number in range(3 if self.quick else 8):
            rounds.append(self.seconds(call, times) / times)
            if number == 2:
                times = max(1, int(least / 5 / rounds[-1]))
        return 1e6 * statistics.median(rounds[-5:])


def transforms(side: int) -> dict[str, Any]:
    """Every kind of transform, for square images of a side in pixels."""
    return {
        "Crop": sa.Crop(0.3),
        "Crop, fill": sa.Crop(0.3, fill=(1, 0, 1)),
        "Crop, mixed": sa.Crop(0.3, fill="mixed"),
        "UniformCrop": sa.UniformCrop(4),
        "Flip": sa.Flip(),
        "VerticalFlip": sa.VerticalFlip(),
        "Erase": sa.Erase(),
        "Cutout": sa.Cutout(),
        "Flip, Crop": sa.Chain([sa.Flip(), sa.Crop(0.3)]),
        "Erase, mean": sa.Erase(fill="mean"),
        "Erase, noise": sa.Erase(fill="noise"),
        "Noise": sa.Noise(),
        "DiffusionNoise": sa.DiffusionNoise(),
        "Blur": sa.Blur(),
        "GaussianBlur": sa.GaussianBlur(),
        "ResizedCrop": sa.ResizedCrop(side),
        "RandomResizedCrop": sa.RandomResizedCrop(side),
        "TrivialAugment": sa.TrivialAugment(),
        "RandAugment": sa.RandAugment(),
    }


def draw(transform: Any, n: int, side: int) -> sa.Drawn:
    drawn: sa.Drawn = transform.draw(n, side, side, Generator().manual_seed(1))
    return drawn


def moved(drawn: sa.Drawn, device: torch.device) -> sa.Drawn:
    """Draws on a device; nested ones too."""
    return {
        name: moved(value, device) if isinstance(value, dict) else value.to(device)
        for name, value in drawn.items()
    }


def random_images(
    n: int, side: int, dtype: torch.dtype = torch.uint8, layout: Any = torch.contiguous_format
) -> Tensor:
    """Images [N,3,H,W] on the CPU, equal in each call with equal arguments."""
    pixels = torch.randint(256, (n, 3, side, side), generator=Generator().manual_seed(n + side))
    images = pixels.to(torch.uint8) if dtype == torch.uint8 else (pixels / 255).to(dtype)
    return images.contiguous(memory_format=layout)


# --- equal -------------------------------------------------------------------------------------


def difference(check: Check, name: str, transform: Any, images: Tensor, limit: float) -> str:
    """What differs from the CPU beyond the limits, or an empty text."""
    drawn = draw(transform, len(images), images.shape[-1])
    expected, expected_seen = transform.apply(images, None, drawn)
    got, got_seen = transform.apply(images.to(check.device), None, drawn)
    if got.device != check.device or got.dtype != images.dtype:
        return f"on {got.device} as {got.dtype}"
    limit = 0 if name in EXACT else limit
    off = (expected.double() - got.cpu().double()).abs()
    map_off = (expected_seen - got_seen.cpu()).abs().max().item()
    beyond = (off > limit).double().mean().item()
    if beyond or map_off > (0 if name in EXACT else 1e-5):
        return f"worst pixel {off.max():.3g}, {beyond:.2%} beyond {limit}, map {map_off:.2g}"
    last = torch.channels_last
    kept = got.is_contiguous(memory_format=last) or not images.is_contiguous(memory_format=last)
    return "" if kept else "the layout channels_last is lost"


def check_equal(check: Check) -> None:
    cases, wrong = 0, []
    limits = ((torch.uint8, 1), (torch.float32, 1e-4), (torch.bfloat16, 1e-2))
    for side in (32,) if check.quick else (32, 160):
        for dtype, limit in limits:
            for layout in (torch.contiguous_format, torch.channels_last):
                images = random_images(8 if check.quick else 32, side, dtype, layout)
                for name, transform in transforms(side).items():
                    found = check.tried(partial(difference, check, name, transform, images, limit))
                    cases += 1
                    if found:
                        wrong.append(f"{name}, {side} px, {dtype}, {layout}: {found}")
    check.say(f"equal to the CPU: {cases - len(wrong)} of {cases} cases")
    for line in wrong:
        check.say(f"    {line}")
    check.results["equal"] = {"cases": cases, "wrong": wrong}
    check_mixed_devices(check)
    check_corruptions(check)


def check_mixed_devices(check: Check) -> None:
    """Labels and a confusion matrix on the CPU, autocast, noise: what users do on a GPU."""
    device, labels = check.device, torch.arange(32) % 10
    images, crop = random_images(32, 32), sa.Chain([sa.Flip(), sa.Crop(0.3)])
    augment, drawn = sa.SoftAugment(crop, 10, weight=sa.per_sample), draw(crop, 32, 32)
    seeds = torch.arange(1000)

    def blurred() -> Tensor:
        # Called, as users do: `apply` leaves autocast as it is.
        return sa.Blur()(images.to(device), generator=Generator().manual_seed(1))[0].int()

    def in_autocast() -> int:
        with torch.autocast(device.type, torch.bfloat16):
            return int((blurred() - plain).abs().max())

    def targets() -> float:
        on_host = augment(images, labels, drawn=drawn)[1]
        on_device = augment(images.to(device), labels.to(device), drawn=drawn)[1]
        return float((on_host - on_device.cpu()).abs().max())

    def noise() -> float:
        shape = (3, 8, 8)
        there = standard_normal(seeds.to(device), shape).cpu()
        return float((standard_normal(seeds, shape) - there).abs().max())

    plain = blurred()
    confidence, confusion = torch.rand(32, device=device), torch.rand(10, 10)
    rows: dict[str, Callable[[], Any]] = {
        "targets, largest difference": targets,
        "normal noise, largest difference": noise,
        "Blur in autocast, largest difference of 255": in_autocast,
        "labels on the CPU": lambda: len(augment(images.to(device), labels, drawn=drawn)),
        "confusion on the CPU": lambda: len(
            sa.smooth_by_confusion(labels.to(device), confidence, confusion)
        ),
    }
    for name, call in rows.items():
        check.results[name] = check.tried(call)
        check.say(f"{name}: {check.results[name]}")


def check_corruptions(check: Check) -> None:
    """Corrupted images against those of the CPU, and what an image costs there and here."""
    images = random_images(8 if check.quick else 256, 32)
    there = images.to(check.device)
    check.say("corruptions: share of pixels off by more than 1 of 255 | microseconds of an image")
    for name in names_for(3):

        def make(images: Tensor, name: str = name) -> Tensor:
            return corrupt(images, name, 3, range(len(images)))

        def compare() -> list[float]:
            off = (make(images).int() - make(there).cpu().int()).abs()
            costs = [check.seconds(partial(make, x), 1) / len(x) for x in (images, there)]
            return [(off > 1).double().mean().item(), *(1e6 * cost for cost in costs)]

        row = check.results[f"corruption {name}"] = check.tried(compare)
        check.say(
            f"    {name}: {row}"
            if isinstance(row, str)
            else f"    {name}: {row[0]:.2%} | CPU {row[1]:.0f}, {check.device.type} {row[2]:.0f}"
        )


# --- waits -------------------------------------------------------------------------------------


def count_waits(call: Callable[[], Any]) -> int:
    """How often a call that has been made before makes the host wait."""
    call()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


def check_waits(check: Check) -> None:
    if not check.cuda:
        check.say("waits: counted on CUDA alone")
        return
    images, labels = random_images(128, 32).to(check.device), torch.arange(128).to(check.device)
    augment = sa.SoftAugment(sa.Chain([sa.Flip(), sa.Crop(0.3)]), 128)
    calls: dict[str, tuple[Any, Callable[[sa.Drawn], Any]]] = {
        name: (transform, partial(transform.apply, images, None))
        for name, transform in transforms(32).items()
    }
    calls["SoftAugment"] = augment.transform, lambda drawn: augment(images, labels, drawn=drawn)
    rows = check.results.setdefault("waits", {})
    for name, (transform, call) in calls.items():
        drawn = draw(transform, 128, 32)
        rows[name] = [
            check.tried(partial(count_waits, partial(call, draws)))
            for draws in (drawn, moved(drawn, check.device))
        ]
        check.say(
            "waits of {}: {} with draws on the host, {} on the device".format(name, *rows[name])
        )


# --- times -------------------------------------------------------------------------------------


def captured(call: Callable[[], Any]) -> torch.cuda.CUDAGraph:
    """A CUDA graph of a call, which is warmed up on a stream of its own first."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(4):
            call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph


def others(images: Tensor) -> dict[str, Callable[[], Any]]:
    """A copy, and torchvision's counterparts on the device."""
    n, _, side, _ = images.shape
    crop, policy = v2.RandomCrop(side, padding=4), v2.TrivialAugmentWide()
    return {
        "copy": images.clone,
        "copy and a map of ones": lambda: (
            images.clone(),
            torch.ones(n, 1, side, side, device=images.device),
        ),
        "torchvision: crop, one offset for all": lambda: crop(images),
        "torchvision: crop, one by one": lambda: torch.stack([crop(image) for image in images]),
        "torchvision: flip of all": lambda: v2.functional.horizontal_flip(images),
        "torchvision: GaussianBlur, one sigma": lambda: v2.functional.gaussian_blur(
            images, [9, 9], [1.0, 1.0]
        ),
        "torchvision: TrivialAugmentWide, one operation": lambda: policy(images),
    }


def check_times(check: Check) -> None:
    if check.quick:
        times_at(check, 8, 32, torch.uint8)
        return
    times_at(check, 128, 32, torch.uint8)
    times_at(check, 128, 32, torch.float32)
    times_at(check, 256, 224, torch.uint8)


def times_at(check: Check, n: int, side: int, dtype: torch.dtype) -> None:
    images = random_images(n, side, dtype).to(check.device)
    labels = torch.arange(n, device=check.device) % CLASSES
    rows: dict[str, list[Any]] = {
        name: [check.tried(partial(check.microseconds, call)), None, None]
        for name, call in others(images).items()
    }
    for name, transform in transforms(side).items():
        call = partial(transform.apply, images, None)
        reads = name in READING
        rows[name] = transform_times(check, draw(transform, n, side), call, reads)
    augment = sa.SoftAugment(sa.Chain([sa.Flip(), sa.Crop(0.3)]), CLASSES)
    rows["SoftAugment(Flip, Crop)"] = transform_times(
        check,
        draw(augment.transform, n, side),
        lambda drawn: augment(images, labels, drawn=drawn),
    )
    check.say(f"{n} images of {side} px, {dtype}, microseconds a call:")
    check.say("    draws on the host | on the device | the device alone, in a graph")
    for name, row in rows.items():
        check.say(f"    {name}: " + " | ".join(map(as_text, row)))
    check.results[f"times, {n} x {side} px {dtype}"] = rows


def transform_times(
    check: Check, drawn: sa.Drawn, call: Callable[[sa.Drawn], Any], reads: bool = False
) -> list[Any]:
    """Microseconds of a call with draws on the host, on the device, and in a graph."""
    there = moved(drawn, check.device)
    on_host = check.tried(lambda: check.microseconds(lambda: call(drawn)))
    if reads:
        return [on_host, None, None]
    on_device = check.tried(lambda: check.microseconds(lambda: call(there)))
    if not check.cuda:
        return [on_host, on_device, None]
    in_graph = check.tried(lambda: check.microseconds(captured(lambda: call(there)).replay))
    return [on_host, on_device, in_graph]


def as_text(value: Any) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.1f}"


# --- train -------------------------------------------------------------------------------------


def made_up_data(n: int) -> Data:
    part = ImageSet(random_images(n, 32), torch.arange(n) % CLASSES)
    test = ImageSet(part.images[:500], part.labels[:500])
    return Data("made-up", tuple(map(str, range(CLASSES))), part, test)


def own_loop(check: Check, model: str, batch: int, steps: int, compiled: bool = False) -> str:
    """Pace of softaug's own loop in its second epoch, and the time that the epoch's end takes."""
    data, marks = made_up_data(steps * batch), {}
    recipe = Recipe(
        arm="soft-both",
        model=model,
        epochs=2,
        batch_size=batch,
        precision="bf16" if check.cuda else "fp32",
        compile=compiled,
    )
    first, last = steps + 4, 2 * steps

    def watch(progress: Progress) -> None:
        if progress.step in (first, last):
            check.synchronize()
            marks[progress.step] = time.perf_counter()

    with tempfile.TemporaryDirectory() as folder:
        run = open_run(Path(folder) / "run", recipe, data, {}, resume=False)
        began = time.perf_counter()
        fit(recipe, data, run, Processes(check.device), watch)
        ended = time.perf_counter()
    step = (marks[last] - marks[first]) / (last - first)
    return (
        f"{batch / step:,.0f} images/s, {1e3 * step:.2f} ms a step; end of an epoch "
        f"{1e3 * (ended - marks[last]):.0f} ms; all {ended - began:.1f} s"
    )


class Bare:
    """A training step as fast as it could be: data, order and draws on the device, no reading back.

    A step whose loss or gradient is not finite is left out on the device, by `found_inf`.
    """

    def __init__(self, check: Check, model: str, batch: int, compiled: bool = False) -> None:
        device, n = check.device, 1000 if check.quick else 12_800
        data, self.batch, self.at, self.device = made_up_data(n), batch, 0, device
        torch.manual_seed(0)
        card = ModelCard(model, data.classes, 3, 32, 32)
        self.network = build(card, (127.5,) * 3, (64.0,) * 3).to(device).train()
        if compiled:
            self.network.compile(dynamic=False)
        self.images, self.labels = data.train.images.to(device), data.train.labels.to(device)
        transform = sa.Chain([sa.Flip(), sa.Crop(0.3)])
        self.augment = sa.SoftAugment(transform, CLASSES, weight=sa.per_sample)
        self.drawn = moved(draw(transform, n, 32), device)
        self.order = torch.randperm(n, generator=Generator().manual_seed(0)).to(device)
        self.index = self.order[:batch].clone()
        self.weights = list(self.network.parameters())
        self.optimizer = torch.optim.SGD(
            self.weights,
            lr=torch.tensor(0.05, device=device),
            momentum=0.9,
            nesterov=True,
            weight_decay=5e-4,
            fused=True,
        )
        # Without zeros here, a first step that is left out leaves memory that nobody wrote.
        for weight in self.weights:
            self.optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        self.left_out = torch.zeros((), device=device)
        self.optimizer.found_inf = self.left_out  # type: ignore[attr-defined]
        self.sums = torch.zeros(3, device=device, dtype=torch.float64)

    def step(self) -> None:
        images = self.images.index_select(0, self.index)
        labels = self.labels.index_select(0, self.index)
        inputs, rows = self.augment(images, labels, drawn=sa.take(self.drawn, self.index))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            logits = self.network(inputs)
        loss = F.cross_entropy(logits.float(), rows, reduction="sum")
        self.optimizer.zero_grad(set_to_none=True)
        (loss / self.batch).backward()
        gradients = [weight.grad for weight in self.weights if weight.grad is not None]
        finite = loss.isfinite() & torch.nn.utils.get_total_norm(gradients).isfinite()
        self.left_out.copy_(~finite)
        self.optimizer.step()
        wrong = (logits.argmax(dim=1) != labels).sum()
        figures = torch.stack([loss.detach(), wrong, finite]).double()
        self.sums += torch.where(finite, figures, 0.0)

    def advance(self) -> None:
        self.at = (self.at + self.batch) % (len(self.order) - self.batch + 1)
        self.index.copy_(self.order[self.at : self.at + self.batch])

    def leaves_out(self, step: Callable[[], Any]) -> bool:
        """Whether a step that is not finite leaves weights and momenta as they are."""
        buffers = [self.optimizer.state[weight]["momentum_buffer"] for weight in self.weights]
        state = [*self.weights, *buffers]
        before, spoilt = [tensor.detach().clone() for tensor in state], self.weights[-1].data
        value = spoilt[0].clone()
        spoilt[0] = float("inf")
        step()
        spoilt[0] = value
        return all(map(torch.equal, state, before))


def bare_pace(
    check: Check, model: str, batch: int, steps: int, compiled: bool = False, graph: bool = False
) -> str:
    bare = Bare(check, model, batch, compiled)
    step = captured(bare.step).replay if graph else bare.step

    def advance_and_step() -> None:
        bare.advance()
        step()

    check.seconds(advance_and_step, 3 if check.quick else 10)
    took = check.seconds(advance_and_step, steps) / steps
    text = f"{batch / took:,.0f} images/s, {1e3 * took:.3f} ms a step"
    return f"{text}; steps that are not finite are left out: {bare.leaves_out(step)}"


def repeats(check: Check, deterministic: bool) -> float:
    """The largest difference of a weight between two trainings with the same seed."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = deterministic
    ends = []
    for _ in range(2):
        bare = Bare(check, *(("small", 16) if check.quick else ("resnet18", 128)))
        for _ in range(3 if check.quick else 10):
            bare.advance()
            bare.step()
        ends.append([weight.detach().clone() for weight in bare.weights])
    torch.backends.cudnn.deterministic = before
    return max(float((a - b).abs().max()) for a, b in zip(*ends, strict=True))


def check_training(check: Check) -> None:
    rows: dict[str, Callable[[], Any]] = {}
    sizes = (
        [("small", 16)] if check.quick else [("small", 128), ("resnet18", 128), ("resnet18", 512)]
    )
    steps = 5 if check.quick else 100
    for model, batch in sizes:
        name, size = f"{model} {batch}", (check, model, batch, steps)
        rows[f"{name}: softaug's own loop"] = partial(own_loop, *size)
        rows[f"{name}: bare"] = partial(bare_pace, *size)
        if check.cuda:
            rows[f"{name}: bare, one graph"] = partial(bare_pace, *size, graph=True)
    if check.cuda and check.compiled:
        size = (check, "resnet18", 128, steps)
        bare = partial(bare_pace, *size, compiled=True)
        rows["resnet18 128: bare, compiled"] = bare
        rows["resnet18 128: bare, compiled, one graph"] = partial(bare, graph=True)
        rows["resnet18 128: softaug's own loop, --compile"] = partial(own_loop, *size, True)
    for deterministic in (False, True):
        name = f"the same steps twice, cudnn.deterministic={deterministic}, weights differ by"
        rows[name] = partial(repeats, check, deterministic)
    results = check.results.setdefault("train", {})
    for name, call in rows.items():
        results[name] = check.tried(call)
        check.say(f"{name}: {results[name]}")


# --- the page ----------------------------------------------------------------------------------

PAGE = """# On a GPU

`make gpu` measured this page ({seconds:.0f} s): {machine}. It checks that results equal those of
the CPU, counts how often a call makes the host wait, and times transforms and training.

```
{lines}
```
"""


def machine(check: Check) -> str:
    card = torch.cuda.get_device_name(check.device) if check.cuda else "CPU"
    return f"{card}, torch {torch.__version__}, Python {sys.version.split()[0]}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="one size of each part, few repeats")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--page", type=Path, help="write a page for the documentation to this file")
    options = parser.parse_args(arguments)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("no CUDA device here; --device cpu --quick rehearses without one")
    check = Check(torch.device(options.device), options.quick, not options.no_compile)
    if check.cuda:
        check.device = torch.device("cuda", torch.cuda.current_device())
    check.say(machine(check))
    parts = dict(zip(PARTS, (check_equal, check_waits, check_times, check_training), strict=True))
    for name in options.parts:
        wrong = check.tried(partial(parts[name], check))
        if wrong:
            check.say(f"{name}: {wrong}")
        # After each part, so that what was measured is there even if the next one hangs.
        if options.json is not None:
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(check.results, indent=1, default=str))
        if options.page is not None:
            seconds = time.perf_counter() - check.began
            lines = "\n".join(check.lines)
            options.page.write_text(
                PAGE.format(seconds=seconds, machine=machine(check), lines=lines)
            )


if __name__ == "__main__":
    main()
