"""Training: one plain loop, top to bottom.

All that is random is keyed: the order and the augmentation of an epoch come from generators keyed
by (seed, epoch), so that sample i in epoch e is augmented alike whatever the batch size, arms share
order and flips, and a resumed run goes on exactly where it stopped.
"""

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from softaug import take
from softaug.lab.data import Data
from softaug.lab.errors import SoftaugError
from softaug.lab.models import Classifier, ModelCard, build, save_model
from softaug.lab.recipe import Recipe, build_arm
from softaug.lab.run import Run

CHECKPOINT_SECONDS = 300  # between checkpoints within an epoch


@dataclass(frozen=True)
class Progress:
    """What a watcher of the training is told after each step."""

    step: int
    steps: int
    epoch: int
    loss: float
    images_per_second: float


class InterruptedRunError(SoftaugError):
    """Ctrl-C: the run stopped cleanly, with a checkpoint."""

    exit_code = 130


def train(
    recipe: Recipe,
    data: Data,
    run: Run,
    device: torch.device,
    watch: Callable[[Progress], None],
) -> Classifier:
    """Train a recipe's model in a run folder, going on from its checkpoint if there is one.

    Returns the model of the last epoch, which is also in the folder. Raises InterruptedRunError on
    Ctrl-C, after the checkpoint is written, and SoftaugError when the loss is no longer finite.
    """
    _, height, width = data.image_shape
    images, labels = data.train.images, data.train.labels
    model = _initial_model(recipe, data).to(device)
    augment = build_arm(recipe, data.num_classes, height, width)
    optimizer = _optimizer(recipe, model)
    n, batch = len(images), recipe.batch_size
    # Batch norm cannot learn from a lone image; which one is left out changes with the order.
    steps_per_epoch = n // batch if n % batch == 1 else math.ceil(n / batch)
    steps = recipe.epochs * steps_per_epoch
    autocast_dtype = _autocast_dtype(recipe, device)

    step, totals, history, seconds = 0, _totals(device), run.history(), 0.0
    state = run.load_checkpoint()
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step, seconds = state["step"], state["seconds"]
        totals = state["totals"].to(device)
        history = history[: step // steps_per_epoch]

    def checkpoint() -> None:
        run.save_checkpoint(
            {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step,
                "totals": totals,
                "seconds": seconds + time.perf_counter() - began,
            }
        )

    model.train()
    began = saved = time.perf_counter()
    first_step = step
    with _interruptions() as interrupted, torch.random.fork_rng(devices=[]):
        while step < steps:
            epoch, position = divmod(step, steps_per_epoch)
            if position == 0 or step == first_step:
                order = torch.randperm(n, generator=_keyed(recipe.seed, epoch, "order"))
                generator = _keyed(recipe.seed, epoch, "augment")
                drawn = augment.transform.draw(n, height, width, generator)
            torch.manual_seed(_key(recipe.seed, step, "dropout"))
            lr = _learning_rate(recipe, step, steps, steps_per_epoch)
            for group in optimizer.param_groups:
                group["lr"] = lr

            index = order[position * batch : (position + 1) * batch]
            batch_labels = labels[index].to(device)
            inputs, targets = augment(
                images[index].to(device), batch_labels, drawn=take(drawn, index)
            )
            with torch.autocast(device.type, autocast_dtype, enabled=autocast_dtype is not None):
                logits = model(inputs)
            loss = F.cross_entropy(logits.float(), targets)
            if not loss.isfinite():
                raise SoftaugError(
                    f"{run.folder}: the loss is {loss.item()} at step {step + 1} of {steps} "
                    f"(epoch {epoch + 1}); try a lower --lr (now {recipe.lr}) or --precision fp32"
                )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

            step += 1
            with torch.no_grad():
                wrong = (logits.argmax(dim=1) != batch_labels).sum()
                totals += torch.stack([loss * len(index), wrong, loss.new_tensor(len(index))])
            now = time.perf_counter()
            pace = (step - first_step) * batch / (now - began)
            watch(Progress(step, steps, epoch + 1, loss.item(), pace))
            if position == steps_per_epoch - 1:
                spent = seconds + now - began
                history.append(_epoch_record(epoch, totals, lr, pace, spent))
                run.save_history(history)
                totals = _totals(device)
            if position == steps_per_epoch - 1 or now - saved > CHECKPOINT_SECONDS:
                checkpoint()
                saved = time.perf_counter()
            if interrupted:
                checkpoint()
                raise InterruptedRunError(
                    f"{run.folder}: stopped after step {step} of {steps}, with a checkpoint"
                )
    save_model(model, run.model_file)
    return model


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


def _initial_model(recipe: Recipe, data: Data) -> Classifier:
    """The model with the weights of the recipe's seed, normalised by the training images."""
    channels, height, width = data.image_shape
    card = ModelCard(recipe.model, data.classes, channels, height, width, recipe.pretrained)
    mean, std = pixel_statistics(data.train.images)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_key(recipe.seed, 0, "weights"))
        return build(card, mean, std)


def pixel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, 0 to 255, of uint8 images [N,C,H,W]."""
    levels = torch.arange(256, dtype=torch.float64)
    means, deviations = [], []
    for channel in images.unbind(dim=1):
        share = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        mean = (share * levels).sum()
        means.append(mean.item())
        # A channel of one colour has nothing to scale.
        deviations.append((share * (levels - mean) ** 2).sum().sqrt().item() or 1.0)
    return tuple(means), tuple(deviations)


def _optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW; no weight decay on norms and biases."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr)
    nesterov = recipe.momentum > 0
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=nesterov)


def _learning_rate(recipe: Recipe, step: int, steps: int, steps_per_epoch: int) -> float:
    """Linear warm-up, then half a cosine to 0, per step."""
    warmup = min(round(recipe.warmup_epochs * steps_per_epoch), steps // 2)
    if step < warmup:
        return recipe.lr * (step + 1) / warmup
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def _autocast_dtype(recipe: Recipe, device: torch.device) -> torch.dtype | None:
    """bfloat16 where the recipe asks for it, or leaves it open and the processor has it."""
    if recipe.precision == "fp32":
        return None
    if recipe.precision == "bf16" or has_bf16(device):
        return torch.bfloat16
    return None


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is computed by the hardware, not emulated."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        features = torch.cpu.get_capabilities()
        return bool(features.get("avx512_bf16") or features.get("amx_bf16"))
    return False


def _totals(device: torch.device) -> Tensor:
    """Sums over an epoch so far: loss, wrong images, images."""
    return torch.zeros(3, device=device)


def _epoch_record(
    epoch: int, totals: Tensor, lr: float, pace: float, seconds: float
) -> dict[str, Any]:
    loss, wrong, count = totals.tolist()
    return {
        "epoch": epoch + 1,
        "loss": loss / count,
        "train_top1_error": wrong / count,
        "lr": lr,
        "images_per_second": pace,
        "seconds": seconds,
    }


def _key(*parts: Any) -> int:
    """A seed of 63 bits from the parts; the same on every machine and in every process."""
    return int.from_bytes(sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def _keyed(*parts: Any) -> Generator:
    return Generator().manual_seed(_key(*parts))


@contextlib.contextmanager
def _interruptions() -> Iterator[list[int]]:
    """A list that fills on Ctrl-C, so that a step is never cut in half; the second one kills."""
    caught: list[int] = []

    def note(number: int, _: Any) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    try:
        before = signal.signal(signal.SIGINT, note)
    except ValueError:  # not in the main thread, where signals do not arrive
        yield caught
        return
    try:
        yield caught
    finally:
        signal.signal(signal.SIGINT, before)
