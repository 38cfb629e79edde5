"""Training on labels, as an objective of the loop: an arm's augmentation, targets, mix and loss."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from softaug import SoftAugment, Transform
from softaug_lab.basics.processes import Processes
from softaug_lab.basics.seeds import key
from softaug_lab.recipes import Arm, Recipe, read_arm
from softaug_lab.training.batches import Batch
from softaug_lab.training.other_methods import confusions, loss_of, mixed, online_smoothing


@dataclass
class Supervised:
    """The objective of a recipe with labels.

    main_phase, end_phase: the augmentations. confusion: of the epoch before, by which an online arm
    smooths, and of this one so far, [2,K,K]; None for other arms.
    """

    recipe: Recipe
    processes: Processes
    main_phase: SoftAugment
    end_phase: SoftAugment
    arm: Arm = field(init=False)
    lr: float = field(init=False)
    loss: Callable[[Tensor, Tensor], Tensor] = field(init=False)
    confusion: Tensor | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.arm, self.lr = read_arm(self.recipe.arm), self.recipe.lr
        self.loss = loss_of(self.arm)
        if self.arm.targets == "online":
            even = torch.ones(self.main_phase.num_classes, self.main_phase.num_classes)
            self.confusion = torch.stack([even, torch.zeros_like(even)])

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return build_optimizer(self.recipe, model)

    def transform(self, ending: bool) -> Transform:
        return (self.end_phase if ending else self.main_phase).transform

    def prepare(self, batch: Batch, step: int, ending: bool) -> tuple[Tensor, Tensor]:
        device = self.processes.device
        augment = self.end_phase if ending else self.main_phase
        if self.confusion is not None and not ending:
            augment = replace(augment, soften=online_smoothing(self.confusion[0].to(device)))
        images, labels = batch.images.to(device), batch.labels.to(device)
        inputs, targets = augment(images, labels, drawn=batch.drawn)
        if ending:
            return inputs, targets
        return mixed(self.arm, inputs, targets, key(self.recipe.seed, step, "mix"))

    def figures(self, outputs: Tensor, batch: Batch) -> Tensor:
        wrong = outputs.argmax(dim=1) != batch.labels.to(outputs.device)
        return wrong.sum()[None]

    def told(self, means: list[float]) -> dict[str, float]:
        (wrong,) = means
        return {"train_top1_error": wrong}

    def taken(self, outputs: Tensor, batch: Batch) -> None:
        if self.confusion is not None:
            own = confusions(outputs, batch.labels.to(outputs.device))
            self.confusion[1] += self.processes.total(own)

    def next_epoch(self) -> None:
        if self.confusion is not None:
            now = self.confusion[1]
            self.confusion = torch.stack([now, torch.zeros_like(now)])

    def state(self) -> dict[str, Any]:
        return {"confusion": self.confusion}

    def load(self, state: dict[str, Any]) -> None:
        self.confusion = state["confusion"]


def build_optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW; no weight decay on norms and biases."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    # One kernel for all that a step does to a weight, where torch has it; not for sharded weights.
    fused = all(p.device.type in ("cpu", "cuda") and not isinstance(p, DTensor) for p in parameters)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr, fused=fused)
    return torch.optim.SGD(
        groups,
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.momentum > 0,
        fused=fused,
    )
