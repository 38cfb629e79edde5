"""The SimSiam objective: pre-training without labels, each pair of views weighted by confidence.

Source: Chen and He 2021, "Exploring Simple Siamese Representation Learning", arXiv 2011.10566,
section 3 and appendix D; weights of pairs: Liu et al. 2023. n pairs, d features of the projection.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from softaug import Curve, Transform, mean_one, visibility
from softaug_lab.basics.processes import Processes
from softaug_lab.basics.seeds import key
from softaug_lab.data import Data, begun
from softaug_lab.models import SMALL_IMAGE, Classifier, save_model, take_head
from softaug_lab.recipes import Recipe
from softaug_lab.runs import RunFolder
from softaug_lab.training.augmentation import build_arm
from softaug_lab.training.batches import Batch, MemoryBatches, StreamBatches
from softaug_lab.training.initial import initial_model
from softaug_lab.training.two_views import TwoViews
from softaug_lab.training.update import has_fused_update

MAX_FEATURES = 2048  # of a projection
COLLAPSED = 0.2  # features have collapsed below this share of the full spread, 1 / sqrt(d)
log = logging.getLogger(__name__)


class SimSiam(nn.Module):
    """Map two views of images, uint8 [N,2,C,H,W], to p1, p2, z1 and z2, [N,4,D].

    D is four times the encoder's features, at most 2048: the paper's 2048 for ResNet-18 (512
    features) and ResNet-50 (2048). The projection has two layers for images up to 64 px, three
    above; the prediction's hidden layer has D/4 features.
    """

    def __init__(self, encoder: Classifier) -> None:
        super().__init__()
        self.encoder = encoder
        self.head_name, self.head = take_head(encoder)
        features, card = self.head.in_features, encoder.card
        self.head.requires_grad_(False)  # a head for labels, not trained here
        d = min(MAX_FEATURES, 4 * features)
        layers = 2 if max(card.height, card.width) <= SMALL_IMAGE else 3
        inner = [_layer(features if i == 0 else d, d) for i in range(layers - 1)]
        outer = nn.Linear(d if inner else features, d, bias=False)
        self.projection = nn.Sequential(*inner, outer, nn.BatchNorm1d(d, affine=False))
        self.prediction = nn.Sequential(_layer(d, d // 4), nn.Linear(d // 4, d))

    def forward(self, views: Tensor) -> Tensor:
        z1, z2 = (self.projection(self.encoder(view)) for view in views.unbind(dim=1))
        p1, p2 = self.prediction(z1), self.prediction(z2)
        # Without the stop-gradient on the targets, all features would collapse (section 4).
        return torch.stack([p1, p2, z1.detach(), z2.detach()], dim=1)


def _layer(inputs: int, outputs: int) -> nn.Module:
    linear = nn.Linear(inputs, outputs, bias=False)
    return nn.Sequential(linear, nn.BatchNorm1d(outputs), nn.ReLU(inplace=True))


def pair_loss(outputs: Float[Tensor, "n 4 d"], weights: Float[Tensor, "n 2"]) -> Float[Tensor, ""]:
    """SimSiam's loss, w1 D(p1, z2)/2 + w2 D(p2, z1)/2, summed over pairs.

    D is the negative cosine similarity (eqs. 1, 2).
    """
    p1, p2, z1, z2 = outputs.unbind(dim=1)
    similarity = torch.stack([F.cosine_similarity(p1, z2), F.cosine_similarity(p2, z1)], dim=1)
    return -(weights * similarity).sum() / 2


def pair_weights(
    confidence: Float[Tensor, "n 2"], rule: str, normalise: Callable[[Tensor], Tensor] = mean_one
) -> Float[Tensor, "n 2"]:
    """Compute the weights of the two halves of each pair's loss from its views' confidences.

    rule: `product`, the probability that both views are good if each is good with its own
    confidence; `minimum`, the confidence of the worse view; `own`, for each half the confidence of
    the view that it predicts from, as with a target softened by its input, so that a target that
    shows little still counts fully.
    normalise: applied over the (global) batch, so that the weights of either half have mean 1 and
    softer arms take no smaller steps, since SimSiam is sensitive to its learning rate (Liu et al.
    2023).

    Arms use the product by default, because D(p1, z2) needs both views alike: an empty view is as
    useless a target as it is an input. docs/self-supervised.md measures all three.
    """
    first, second = confidence.unbind(dim=1)
    weights = {
        "product": (first * second, first * second),
        "minimum": (torch.minimum(first, second), torch.minimum(first, second)),
        "own": (first, second),
    }[rule]
    return torch.stack([normalise(half) for half in weights], dim=1)


def spread(z: Float[Tensor, "*views n d"]) -> Float[Tensor, ""]:
    """Compute the standard deviation of l2-normalised features, averaged over channels and views.

    1 / sqrt(d) for features spread over the whole sphere, 0 for collapsed ones (Chen and He 2021,
    fig. 2).
    """
    return z.std(dim=-2, correction=0).mean()


def alignment(first: Float[Tensor, "n d"], second: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Compute the mean squared distance of two views' l2-normalised features, 0 (equal) to 4.

    Source: Wang and Isola 2020, arXiv 2005.10242, eq. 1 at alpha 2.
    """
    return (first - second).square().sum(dim=1).mean()


def potential(z: Float[Tensor, "*views n d"]) -> Float[Tensor, ""]:
    """Average exp(-2 |a - b|^2) over pairs of l2-normalised features; its log is the uniformity.

    The pairs are within each view. Source: Wang and Isola 2020, arXiv 2005.10242, eq. 2 at t = 2.
    Needs n >= 2.
    """
    close = (4 * (z @ z.mT) - 4).exp()
    n = z.shape[-2]
    return (close.mean() * n - close.diagonal(dim1=-2, dim2=-1).mean()) / (n - 1)


@dataclass
class Siamese:
    """The objective of a recipe without labels."""

    recipe: Recipe
    processes: Processes
    model: SimSiam
    views: TwoViews
    curve: Curve
    lr: float = field(init=False)
    penalty: Callable[[Tensor, Tensor], Tensor] | None = field(init=False, default=None)
    warned: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.lr = self.recipe.lr * self.recipe.batch_size / 256  # section 3, baseline settings

    @property
    def one_by_one(self) -> bool:
        return False

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        trained = [p for p in model.parameters() if p.requires_grad]
        decay = self.recipe.weight_decay
        fused = has_fused_update(trained)
        if self.recipe.optimizer == "adamw":
            return torch.optim.AdamW(trained, lr=self.lr, weight_decay=decay, fused=fused)
        return torch.optim.SGD(
            trained, lr=self.lr, momentum=self.recipe.momentum, weight_decay=decay, fused=fused
        )

    def transform(self, ending: bool) -> Transform:
        del ending  # a recipe without labels has no end phase
        return self.views

    def inputs_and_targets(self, batch: Batch, ending: bool) -> tuple[Tensor, Tensor]:
        """Make the two views of each image, uint8 [N,2,C,H,W], and their confidences [N,2]."""
        del ending
        views, seen = self.views.apply(batch.images, begun(batch.objects), batch.drawn)
        return views, self.curve(visibility(seen.flatten(0, 1))).view(-1, 2)

    def of_batch(
        self, inputs: Tensor, targets: Tensor, step: int, ending: bool
    ) -> tuple[Tensor, Tensor]:
        """Make the weights of the pairs [N,2], of mean 1 in a batch, from the confidences."""
        del step, ending
        arm = self.recipe.parsed_arm
        if not arm.weighted:
            return inputs, torch.ones_like(targets)
        normalise = self.processes.over_global_batch(mean_one)
        return inputs, pair_weights(targets, arm.pair, normalise)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return pair_loss(outputs, targets)

    def batch_sums(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Weight this process's spread, alignment, potential and full spread by its images."""
        del batch
        z = F.normalize(outputs[:, 2:].float(), dim=2).transpose(0, 1)  # [2,N,D]
        full = z.new_full((), z.shape[2] ** -0.5)
        return len(outputs) * torch.stack([spread(z), alignment(*z), potential(z), full])

    def epoch_log(self, means: list[float]) -> dict[str, float]:
        """Name the means for the log, and warn once of collapsed features."""
        spread, alignment, potential, full = means
        if spread < COLLAPSED * full and not self.warned:
            self.warned = True
            log.warning(
                "%s: the features have collapsed: their spread is %.4f, %.4f would fill the "
                "sphere; try a lower --lr (now %g), a larger --batch-size or milder crops",
                self.recipe.arm, spread, full, self.recipe.lr,
            )  # fmt: skip
        return {
            "spread": spread,
            "full_spread": full,
            "alignment": alignment,
            # An epoch that skipped every step has no potential.
            "uniformity": math.log(potential) if potential > 0 else math.nan,
        }

    def after_step(self, outputs: Tensor, batch: Batch, taken: Tensor) -> None: ...

    def next_epoch(self) -> None: ...

    def finish(self, batches: MemoryBatches | StreamBatches) -> None: ...

    def state(self) -> dict[str, Any]:
        return {}

    def load(self, state: dict[str, Any]) -> None: ...

    def save(self, weights: dict[str, Tensor], run: RunFolder) -> None:
        """Write the backbone with its initial last layer, which only labels would train."""
        model, prefix = self.model, "encoder."
        trained = {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}
        head = {f"{model.head_name}.{n}": weights[f"head.{n}"] for n in model.head.state_dict()}
        save_model(model.encoder.card, trained | head, run.backbone_file)


def build_siamese(recipe: Recipe, data: Data, processes: Processes) -> Siamese:
    """Build the objective with the recipe's initial model."""
    _, height, width = data.image_shape
    augment = build_arm(recipe, data.num_classes, height, width, data.train.objects)
    assert augment.curve is not None
    model = initial_siamese(recipe, data)
    return Siamese(recipe, processes, model, TwoViews(augment.transform), augment.curve)


def initial_siamese(recipe: Recipe, data: Data) -> SimSiam:
    """Build the encoder that supervised training would begin from, with heads of the same seed."""
    encoder = initial_model(recipe, data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(recipe.seed, 0, "heads"))
        return SimSiam(encoder)
