"""Training: one plain loop, top to bottom, for one process or many and for any objective.

All that is random is keyed: the order and the augmentation of an epoch come from generators keyed
by (seed, epoch), so that sample i in epoch e is augmented alike whatever the batch size and the
number of processes, arms share order and flips, and a resumed run goes on exactly where it stopped.
"""

import contextlib
import logging
import math
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from softaug import SoftAugment, Transform, per_sample
from softaug.lab.augmentation import build_arm, build_end_phase
from softaug.lab.data import Data
from softaug.lab.engine import Engine, has_bf16
from softaug.lab.errors import SoftaugError
from softaug.lab.feed import Batch, MemoryFeed, StreamFeed
from softaug.lab.models import Classifier, ModelCard, build, save_model
from softaug.lab.recipe import Recipe
from softaug.lab.run import Run
from softaug.lab.seeds import key
from softaug.lab.supervised import Supervised

CHECKPOINT_SECONDS = 300  # between checkpoints within an epoch
NAMED = 10  # unreadable images of an epoch that are named; all are counted
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """What a watcher of the training is told after each step."""

    step: int
    steps: int
    epoch: int
    loss: float
    images_per_second: float


class InterruptedRunError(SoftaugError):
    """Ctrl-C or SIGTERM: the run stopped cleanly, with a checkpoint."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number  # as shells count it: 130 and 143


class Objective(Protocol):
    """What a loop minimises, and what it tells of it.

    lr: the peak of the learning rate.
    """

    lr: float

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer: ...

    def transform(self, ending: bool) -> Transform:
        """Of which draws are made for an epoch; ending: one of the `end_epochs`."""

    def prepare(self, batch: Batch, step: int, ending: bool) -> tuple[Tensor, Tensor]:
        """Inputs [N,...] of the model, and targets [N,...], on the device."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Summed over samples."""

    def figures(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Sums over this process's samples, [M]."""

    def told(self, means: list[float]) -> dict[str, float]:
        """For the history of an epoch, from the means of the figures over its images."""

    def taken(self, outputs: Tensor, batch: Batch) -> None:
        """The step with these outputs was taken."""

    def next_epoch(self) -> None: ...

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold of it."""

    def load(self, state: dict[str, Any]) -> None: ...


@dataclass
class _State:
    """Where a run is. Sums are over the epoch so far and over all processes."""

    epoch: int = 0
    position: int = 0  # steps of the epoch that are done
    sums: list[float] = field(default_factory=list)  # loss, the objective's figures, images
    unreadable: int = 0  # images of the epoch
    skipped: int = 0
    seconds: float = 0.0

    def pace(self, recipe: Recipe, steps_per_epoch: int) -> float:
        """Images in a second, over the whole run so far."""
        steps = self.epoch * steps_per_epoch + self.position
        return steps * recipe.batch_size / self.seconds


def train(
    recipe: Recipe,
    data: Data,
    run: Run,
    engine: Engine,
    watch: Callable[[Progress], None],
) -> None:
    """Train a recipe's model on labels in a run folder, going on from its checkpoint if any.

    The model of the last epoch is then in the folder. Raises as `optimise` does.
    """
    _, height, width = data.image_shape
    objective = Supervised(
        recipe,
        engine,
        _over_processes(build_arm(recipe, data.num_classes, height, width), engine),
        build_end_phase(recipe, data.num_classes),
    )
    model = initial_model(recipe, data)
    weights = optimise(objective, model, recipe, data, run, engine, watch)
    if engine.main:
        save_model(model.card, weights, run.model_file)
    engine.wait()


def optimise(
    objective: Objective,
    model: nn.Module,
    recipe: Recipe,
    data: Data,
    run: Run,
    engine: Engine,
    watch: Callable[[Progress], None],
) -> dict[str, Tensor]:
    """Minimise an objective in a run folder, going on from its checkpoint if there is one.

    Returns the weights after the last epoch, whole. Raises InterruptedRunError on Ctrl-C and
    SIGTERM, after the checkpoint is written, and SoftaugError when the loss or its gradient is not
    finite or memory runs out.
    """
    device = engine.device
    model = model.to(device)
    if recipe.compile:
        model.compile()
    wrapped = engine.wrap(model)
    optimizer = objective.optimizer(model)
    gradients = partial(
        backward,
        wrapped,
        engine,
        objective.loss,
        dtype=autocast_dtype(recipe, device),
        parts=recipe.accumulate,
    )
    feed = build_feed(recipe, data, engine)
    steps = recipe.epochs * feed.steps
    history = run.history()

    at, saved_state = _State(), run.load_checkpoint()
    if saved_state is not None:
        at = _State(**saved_state.pop("at"))
        objective.load(saved_state.pop("objective"))
        engine.load(model, optimizer, saved_state)
        history = history[: at.epoch]

    def checkpoint() -> None:
        if not all(weights.isfinite().all() for weights in _local(model.parameters())):
            raise SoftaugError(
                f"{run.folder}: weights are not finite in epoch {at.epoch + 1}; try a "
                f"lower --lr (now {recipe.lr})"
            )
        state = engine.state(model, optimizer)
        if engine.main:
            run.save_checkpoint(state | {"at": vars(at), "objective": objective.state()})

    wrapped.train()
    before = saved = time.perf_counter()
    with caught_signals() as caught, torch.random.fork_rng(devices=[]):
        for epoch in range(at.epoch, recipe.epochs):
            ending = epoch >= recipe.epochs - recipe.end_epochs
            for batch in feed.epoch(epoch, objective.transform(ending), at.position):
                step = epoch * feed.steps + at.position
                _count_unreadable(at, batch, data)
                torch.manual_seed(key(recipe.seed, step, "dropout", engine.rank))
                lr = _learning_rate(recipe, objective.lr, step, steps, feed.steps)
                for group in optimizer.param_groups:
                    group["lr"] = lr

                inputs, targets = objective.prepare(batch, step, ending)
                statistics = [b.clone() for b in model.buffers()] if recipe.skip_nonfinite else []
                optimizer.zero_grad()
                try:
                    outputs, loss = gradients(inputs, targets, batch.count)
                except (RuntimeError, MemoryError) as error:
                    if not _is_out_of_memory(error):
                        raise
                    outputs = None
                # Only here, where the error and the tensors that it holds are gone, is memory free.
                if outputs is None:
                    raise _out_of_memory(recipe, engine, partial(gradients, inputs, targets, 1))
                figures = objective.figures(outputs, batch)

                now = time.perf_counter()
                due = engine.main and now - saved > CHECKPOINT_SECONDS
                # One sum over the processes, so that all of them take the same turn below, and one
                # wait for the device.
                own = loss.new_tensor([len(outputs), bool(caught), due])
                mine = torch.cat([loss[None], figures, own, _gradient_norm(model)[None]])
                *sums, stop, due, norm = engine.total(mine.double()).tolist()
                at.position += 1
                at.sums = at.sums or [0.0] * len(sums)
                mean_loss = sums[0] / batch.count
                if math.isfinite(mean_loss) and math.isfinite(norm):
                    optimizer.step()
                    objective.taken(outputs, batch)
                    at.sums = [old + new for old, new in zip(at.sums, sums, strict=True)]
                else:
                    at.skipped += 1
                    where = f"at step {step + 1} of {steps} (epoch {epoch + 1})"
                    _skip_or_stop(recipe, run, at.skipped, where, mean_loss, batch)
                    for buffer, old in zip(model.buffers(), statistics, strict=True):
                        buffer.copy_(old)

                at.seconds += now - before
                before = now
                watch(Progress(step + 1, steps, epoch + 1, mean_loss, at.pace(recipe, feed.steps)))
                if stop or due:
                    checkpoint()
                    saved = time.perf_counter()
                if stop:
                    raise InterruptedRunError(
                        f"{run.folder}: stopped after step {step + 1} of {steps}, "
                        "with a checkpoint",
                        caught[0] if caught else signal.SIGTERM,
                    )
            pace, lr = at.pace(recipe, feed.steps), optimizer.param_groups[0]["lr"]
            history.append(_epoch_record(at, objective, lr, pace, ending))
            at.epoch, at.position = epoch + 1, 0
            at.sums, at.unreadable = [], 0
            objective.next_epoch()
            if engine.main:
                run.save_history(history)
            checkpoint()
            saved = time.perf_counter()
    weights: dict[str, Tensor] = engine.state(model, optimizer)["model"]
    return weights


def build_feed(recipe: Recipe, data: Data, engine: Engine) -> MemoryFeed | StreamFeed:
    """What gives the batches of a recipe."""
    if data.stream is None:
        return MemoryFeed(data.train, recipe.batch_size, recipe.seed, engine)
    return StreamFeed(data.stream, recipe.batch_size, recipe.seed, engine)


def initial_model(recipe: Recipe, data: Data) -> Classifier:
    """The model with the weights of the recipe's seed, normalised by the training images."""
    channels, height, width = data.image_shape
    card = ModelCard(recipe.model, data.classes, channels, height, width, recipe.pretrained)
    mean, std = pixel_statistics(data.train.images)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(recipe.seed, 0, "weights"))
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


def backward(
    wrapped: nn.Module,
    engine: Engine,
    summed_loss: Callable[[Tensor, Tensor], Tensor],
    inputs: Tensor,
    targets: Tensor,
    count: int,
    *,
    dtype: torch.dtype | None,
    parts: int,
) -> tuple[Tensor, Tensor]:
    """Gradients of the mean loss of a global batch of `count`, from this process's share of it.

    In `parts` parts, to hold less at once. Returns the share's logits, and its summed loss.
    """
    # Batch norm needs two images in each part.
    parts = max(1, min(parts, len(inputs) // 2))
    all_logits, all_losses = [], []
    for i, (some, rows) in enumerate(
        zip(inputs.tensor_split(parts), targets.tensor_split(parts), strict=True)
    ):
        last = i == parts - 1
        with contextlib.nullcontext() if last else engine.gradients_held(wrapped):
            with torch.autocast(inputs.device.type, dtype, enabled=dtype is not None):
                logits = wrapped(some)
            loss = summed_loss(logits.float(), rows)
            # The processes' gradients are averaged, and the mean is over all their images.
            (loss * (engine.processes / count)).backward()
        all_logits.append(logits.detach())
        all_losses.append(loss.detach())
    return torch.cat(all_logits), torch.stack(all_losses).sum()


def _over_processes(augment: SoftAugment, engine: Engine) -> SoftAugment:
    """The augmentation with weights that are made from the confidences of the global batch."""
    if augment.weight is None or augment.weight is per_sample:
        return augment
    return replace(augment, weight=engine.over_global_batch(augment.weight))


def _learning_rate(
    recipe: Recipe, peak: float, step: int, steps: int, steps_per_epoch: int
) -> float:
    """Linear warm-up, then half a cosine to 0, per step."""
    warmup = min(round(recipe.warmup_epochs * steps_per_epoch), steps // 2)
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def autocast_dtype(recipe: Recipe, device: torch.device) -> torch.dtype | None:
    """bfloat16 where the recipe asks for it, or leaves it open and the processor has it."""
    if recipe.precision == "fp32":
        return None
    if recipe.precision == "bf16" or has_bf16(device):
        return torch.bfloat16
    return None


def _gradient_norm(model: nn.Module) -> Tensor:
    norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def _local(parameters: Iterable[Tensor]) -> Iterator[Tensor]:
    """What this process holds of each parameter."""
    return (p.to_local() if isinstance(p, DTensor) else p for p in parameters)


def _count_unreadable(at: _State, batch: Batch, data: Data) -> None:
    """Name the first unreadable images of an epoch, and raise SoftaugError if they are too many."""
    for fault in batch.unreadable[: max(0, NAMED - at.unreadable)]:
        log.warning("left out: %s", fault)
    at.unreadable += len(batch.unreadable)
    if data.stream is not None and at.unreadable > data.stream.max_unreadable * len(data.stream):
        # None are in this batch where a run is resumed with a lower share than it had.
        last = f"; the last: {batch.unreadable[-1]}" if batch.unreadable else ""
        raise SoftaugError(
            f"{data.name}: {at.unreadable:,} of {len(data.stream):,} images are unreadable so far, "
            f"--max-unreadable {data.stream.max_unreadable:g} allows fewer{last}"
        )


def _skip_or_stop(
    recipe: Recipe, run: Run, skipped: int, where: str, loss: float, batch: Batch
) -> None:
    """Say that the `skipped`-th step is left out, or raise SoftaugError if it is one too many."""
    what = f"loss is {loss}" if not math.isfinite(loss) else "gradient of the loss is not finite"
    shown = ", ".join(batch.names[:3]) + (", ..." if len(batch.names) > 3 else "")
    text = f"{run.folder}: the {what} {where}: {shown}"
    if skipped <= recipe.skip_nonfinite:
        log.warning("%s; step left out, %d of %d", text, skipped, recipe.skip_nonfinite)
        return
    last = run.checkpoint_files[0]
    raise SoftaugError(
        f"{text}; try a lower --lr (now {recipe.lr}) or --precision fp32, or --skip-nonfinite N to "
        f"leave out N steps; the last good checkpoint: {last if last.exists() else 'none yet'}"
    )


def _is_out_of_memory(error: Exception) -> bool:
    memory_errors = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, memory_errors) or "can't allocate memory" in str(error)


def _out_of_memory(recipe: Recipe, engine: Engine, gradients: Callable[..., Any]) -> SoftaugError:
    """The error with what would fit, tried out here where there is one process."""
    text = f"out of memory at {recipe.batch_size} images in {recipe.accumulate} part(s) a step"
    if engine.processes > 1:
        parts = 2 * recipe.accumulate
        return SoftaugError(f"{text}; --accumulate {parts} holds half at once, same batch")
    parts = recipe.accumulate
    while 2 * parts <= recipe.batch_size // 2:
        parts *= 2
        try:
            gradients(parts=parts)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            continue
        return SoftaugError(
            f"{text}; --accumulate {parts} fits, {math.ceil(recipe.batch_size / parts)} images at "
            "once, and the batch stays what it is"
        )
    return SoftaugError(f"{text}, and not even 2 at once fit; take a smaller --model or --size")


def _epoch_record(
    at: _State, objective: Objective, lr: float, pace: float, ending: bool
) -> dict[str, Any]:
    *sums, count = at.sums
    loss, *means = (one / (count or math.nan) for one in sums)  # 0: every step was left out
    return {
        "epoch": at.epoch + 1,
        "loss": loss,
        **objective.told(means),
        "lr": lr,
        "end_phase": ending,
        "unreadable_images": at.unreadable,
        "skipped_steps": at.skipped,
        "images_per_second": pace,
        "seconds": at.seconds,
    }


@contextlib.contextmanager
def caught_signals() -> Iterator[list[int]]:
    """A list that fills on Ctrl-C and SIGTERM, so that a step is never cut in half.

    A second Ctrl-C does not wait for the step, a third kills.
    """
    caught: list[int] = []

    def note(number: int, _: Any) -> None:
        if caught and number == signal.SIGINT:
            # What now comes to an end may wait for a network that hangs.
            signal.signal(number, signal.SIG_DFL)
            raise KeyboardInterrupt
        caught.append(number)

    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, note)
    except ValueError:  # not in the main thread, where signals do not arrive
        yield caught
        return
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
