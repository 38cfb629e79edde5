"""The supervised objective: an arm's augmentation, targets, mixing and loss."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from softaug import SoftAugment, Transform, per_sample
from softaug_lab.basics.errors import UsageError
from softaug_lab.basics.processes import Processes
from softaug_lab.basics.seeds import key
from softaug_lab.data import Data, begun
from softaug_lab.models import Centroids, Classifier, head_keys, save_model
from softaug_lab.recipes import Recipe
from softaug_lab.runs import RunFolder
from softaug_lab.training.augmentation import build_arm, build_end_phase
from softaug_lab.training.batches import Batch, MemoryBatches, StreamBatches
from softaug_lab.training.heads import fit_head, penalty_of, require_head_trainable
from softaug_lab.training.initial import initial_model
from softaug_lab.training.learned import LearnedCurve, learned_curve
from softaug_lab.training.other_methods import confusions, loss_of, mix_batch, online_smoothing
from softaug_lab.training.update import has_fused_update


@dataclass
class Supervised:
    """The objective of a recipe with labels.

    main_phase: the augmentation until the end phase, end_phase: the one within it. confusion: for
    an online arm the confusion of the last epoch, by which targets are smoothed, and that of the
    current epoch so far, [2,K,K]; None for other arms. learned: what learns the curve, if anything.
    """

    recipe: Recipe
    processes: Processes
    model: Classifier
    main_phase: SoftAugment
    end_phase: SoftAugment
    learned: LearnedCurve | None = None
    lr: float = field(init=False)
    loss: Callable[[Tensor, Tensor], Tensor] = field(init=False)
    penalty: Callable[[Tensor, Tensor], Tensor] | None = field(init=False)
    confusion: Tensor | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.lr, self.loss = self.recipe.lr, loss_of(self.recipe.parsed_arm)
        self.penalty = penalty_of(self.model)
        if self.recipe.parsed_arm.targets == "online":
            even = torch.ones(self.main_phase.num_classes, self.main_phase.num_classes)
            self.confusion = torch.stack([even, torch.zeros_like(even)]).to(self.processes.device)

    @property
    def one_by_one(self) -> bool:
        return self.main_phase.weight not in (None, per_sample)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return build_optimizer(self.recipe, model, head_keys(self.model))

    def transform(self, ending: bool) -> Transform:
        return (self.end_phase if ending else self.main_phase).transform

    def inputs_and_targets(self, batch: Batch, ending: bool) -> tuple[Tensor, Tensor]:
        """Augment the images [N,C,H,W] and make their target rows [N,K]."""
        if ending:  # nothing is hidden
            return self.end_phase(batch.images, batch.labels, drawn=batch.drawn)
        augment = self.main_phase
        if self.confusion is not None:
            augment = replace(augment, soften=online_smoothing(self.confusion[0]))
        seen = begun(batch.objects)
        return augment(batch.images, batch.labels, seen=seen, drawn=batch.drawn)

    def of_batch(
        self, inputs: Tensor, targets: Tensor, step: int, ending: bool
    ) -> tuple[Tensor, Tensor]:
        """Mix each image and its target with another's, in the arms that do."""
        if ending:
            return inputs, targets
        seed = key(self.recipe.seed, step, "mix")
        return mix_batch(self.recipe.parsed_arm, inputs, targets, seed)

    def batch_sums(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Count the training errors, by the original labels."""
        wrong = outputs.argmax(dim=1) != batch.labels
        return wrong.sum()[None]

    def epoch_log(self, means: list[float]) -> dict[str, float]:
        (error,) = means
        log = {"train_top1_error": error}
        if self.learned is not None:
            log |= {"ceiling": self.learned.curve.ceiling, "k": self.learned.curve.k}
        return log

    def after_step(self, outputs: Tensor, batch: Batch, taken: Tensor) -> None:
        if self.confusion is not None:
            mine = confusions(outputs, batch.labels)
            now = self.confusion[1]
            torch.where(taken, now + self.processes.summed(mine), now, out=now)
        if isinstance(self.model.own_head, Centroids):
            self.model.own_head.update(batch.labels, taken, self.processes.summed)

    def next_epoch(self) -> None:
        if self.confusion is not None:
            latest = self.confusion[1]
            self.confusion = torch.stack([latest, torch.zeros_like(latest)])
        if self.learned is not None:
            self.learned.next_epoch(self.model)

    def finish(self, batches: MemoryBatches | StreamBatches) -> None:
        fit_head(self.model, batches, self.processes)

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = {
            "confusion": None if self.confusion is None else self.confusion.cpu()
        }
        return state if self.learned is None else state | {"learned": self.learned.state()}

    def load(self, state: dict[str, Any]) -> None:
        confusion = state["confusion"]
        self.confusion = confusion if confusion is None else confusion.to(self.processes.device)
        if self.learned is not None:
            self.learned.load(state["learned"])

    def save(self, weights: dict[str, Tensor], run: RunFolder) -> None:
        save_model(self.model.card, weights, run.model_file)


def build_supervised(recipe: Recipe, data: Data, processes: Processes) -> Supervised:
    """Build the objective with the recipe's initial model."""
    require_head_trainable(recipe, processes)
    _, height, width = data.image_shape
    augment = build_arm(recipe, data.num_classes, height, width, data.train.objects)
    learned = learned_curve(recipe, data, processes, augment.curve, augment.transform)
    return Supervised(
        recipe,
        processes,
        initial_model(recipe, data),
        weighted_over_processes(augment, processes),
        build_end_phase(recipe, data.num_classes),
        learned,
    )


def weighted_over_processes(augment: SoftAugment, processes: Processes) -> SoftAugment:
    """Make the augmentation compute its weights from the confidences of the global batch."""
    if augment.weight is None or augment.weight is per_sample:
        return augment
    return replace(augment, weight=processes.over_global_batch(augment.weight))


def build_optimizer(
    recipe: Recipe, model: nn.Module, head: frozenset[str] = frozenset()
) -> torch.optim.Optimizer:
    """Build SGD with Nesterov momentum, or AdamW, without weight decay on norms and biases.

    head: names of the parameters of the last layer. All others get the share `body_lr` of the
    learning rate, as `Schedule.set_rates` reads it. Raises UsageError where the last layer is to
    learn first and is not known.
    """
    if recipe.head_epochs and not head:
        raise UsageError(
            f"--head-epochs {recipe.head_epochs:g}: the last layer of {recipe.model} is not known, "
            "so it can't learn first; use --head-epochs 0"
        )
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    parameters = list(named.values())
    groups = _decayed(parameters, recipe.weight_decay)
    if recipe.body_lr != 1 or recipe.head_epochs:
        last = [p for name, p in named.items() if name in head]
        body = [p for name, p in named.items() if name not in head]
        groups = [
            *_decayed(last, recipe.weight_decay),
            *(group | {"share": recipe.body_lr} for group in _decayed(body, recipe.weight_decay)),
        ]
    fused = has_fused_update(parameters)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr, fused=fused)
    return torch.optim.SGD(
        groups,
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.momentum > 0,
        fused=fused,
    )


def _decayed(parameters: Sequence[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Group parameters for an optimiser: norms and biases are without weight decay."""
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
