"""Pre-training without labels: SimSiam, with pairs of views that weigh as much as can be seen.

Source: Chen and He 2021, "Exploring Simple Siamese Representation Learning", arXiv 2011.10566,
section 3 and appendix D; the weight of a pair: Liu et al. 2023, whose soft crop stands in this
place. n pairs, d features of the projection.
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
from softaug_lab.data import Data
from softaug_lab.models import SMALL_IMAGE, Classifier, save_model, take_head
from softaug_lab.recipes import Recipe, read_arm
from softaug_lab.runs import RunFolder
from softaug_lab.training.augmentation import build_arm
from softaug_lab.training.batches import Batch
from softaug_lab.training.loop import initial_model, optimise
from softaug_lab.training.progress import Progress
from softaug_lab.training.two_views import TwoViews

WIDEST = 2048  # features of a projection
COLLAPSED = 0.2  # of the spread 1 / sqrt(d) of features that fill the sphere
log = logging.getLogger(__name__)


class SimSiam(nn.Module):
    """Two views of images, uint8 [N,2,C,H,W], to p1, p2, z1 and z2, [N,4,D].

    D is four times the features of the encoder, at most 2048: the paper's 2048 for ResNet-18 (512
    features) and ResNet-50 (2048). The projection has two layers for images up to 64 px, above
    three; the prediction's hidden layer has D/4.
    """

    def __init__(self, encoder: Classifier) -> None:
        super().__init__()
        self.encoder = encoder
        self.head_name, self.head = take_head(encoder)
        features, card = self.head.in_features, encoder.card
        self.head.requires_grad_(False)  # it waits for labels
        d = min(WIDEST, 4 * features)
        layers = 2 if max(card.height, card.width) <= SMALL_IMAGE else 3
        inner = [_layer(features if i == 0 else d, d) for i in range(layers - 1)]
        outer = nn.Linear(d if inner else features, d, bias=False)
        self.projection = nn.Sequential(*inner, outer, nn.BatchNorm1d(d, affine=False))
        self.prediction = nn.Sequential(_layer(d, d // 4), nn.Linear(d // 4, d))

    def forward(self, views: Tensor) -> Tensor:
        z1, z2 = (self.projection(self.encoder(view)) for view in views.unbind(dim=1))
        p1, p2 = self.prediction(z1), self.prediction(z2)
        # Stop-gradient: what is predicted stands still, or all features would collapse (section 4).
        return torch.stack([p1, p2, z1.detach(), z2.detach()], dim=1)


def _layer(inputs: int, outputs: int) -> nn.Module:
    linear = nn.Linear(inputs, outputs, bias=False)
    return nn.Sequential(linear, nn.BatchNorm1d(outputs), nn.ReLU(inplace=True))


def pair_loss(outputs: Float[Tensor, "n 4 d"], weights: Float[Tensor, "n 2"]) -> Float[Tensor, ""]:
    """w1 D(p1, z2)/2 + w2 D(p2, z1)/2, summed over pairs; D is the negative cosine (eqs. 1, 2)."""
    p1, p2, z1, z2 = outputs.unbind(dim=1)
    similarity = torch.stack([F.cosine_similarity(p1, z2), F.cosine_similarity(p2, z1)], dim=1)
    return -(weights * similarity).sum() / 2


def pair_weights(
    confidence: Float[Tensor, "n 2"], rule: str, normalise: Callable[[Tensor], Tensor] = mean_one
) -> Float[Tensor, "n 2"]:
    """The weights of the two halves of each pair's loss, from the confidences of its views.

    product: both views must be seen for the one to tell of the other; it is the chance that both
    are good where each is good with its own. minimum: a pair is worth what its worse view is.
    own: the half that predicts from a view weighs by that view alone, as a target softened by the
    input would; a target that shows little then still counts in full.
    normalise: over the (global) batch, so that the weights of either half have mean 1 and a softer
    arm takes no smaller steps: SimSiam depends much on its learning rate (Liu et al. 2023).

    The product is the rule of the arms, for its reason: D(p1, z2) is symmetric in what it needs,
    and a view of nothing is no more a thing to predict than one to predict from. How the three
    compare is measured in docs/self-supervised.md.
    """
    first, second = confidence.unbind(dim=1)
    weights = {
        "product": (first * second, first * second),
        "minimum": (torch.minimum(first, second), torch.minimum(first, second)),
        "own": (first, second),
    }[rule]
    return torch.stack([normalise(one) for one in weights], dim=1)


def spread(z: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """The standard deviation of l2-normalised features, its mean over channels.

    1 / sqrt(d) where they fill the sphere, 0 where they have collapsed (Chen and He 2021, fig. 2).
    """
    return F.normalize(z, dim=1).std(dim=0, correction=0).mean()


def alignment(first: Float[Tensor, "n d"], second: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """The mean squared distance of l2-normalised features of two views, 0 (alike) to 4.

    Source: Wang and Isola 2020, arXiv 2005.10242, eq. 1 at alpha 2.
    """
    difference = F.normalize(first, dim=1) - F.normalize(second, dim=1)
    return difference.square().sum(dim=1).mean()


def potential(z: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """The mean of exp(-2 |a - b|^2) over pairs of l2-normalised features; its log is uniformity.

    Source: Wang and Isola 2020, eq. 2 at t 2. Features of n >= 2 images.
    """
    z = F.normalize(z, dim=1)
    close = (4 * (z @ z.T) - 4).exp()
    n = len(z)
    return (close.sum() - close.diagonal().sum()) / (n * (n - 1))


@dataclass
class Siamese:
    """The objective of a recipe without labels."""

    recipe: Recipe
    processes: Processes
    views: TwoViews
    curve: Curve
    lr: float = field(init=False)
    warned: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.arm = read_arm(self.recipe.arm)
        self.lr = self.recipe.lr * self.recipe.batch_size / 256  # section 3, baseline settings

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        trained = [p for p in model.parameters() if p.requires_grad]
        decay = self.recipe.weight_decay
        if self.recipe.optimizer == "adamw":
            return torch.optim.AdamW(trained, lr=self.lr, weight_decay=decay)
        return torch.optim.SGD(
            trained, lr=self.lr, momentum=self.recipe.momentum, weight_decay=decay
        )

    def transform(self, ending: bool) -> Transform:
        del ending  # a recipe without labels has no end phase
        return self.views

    def prepare(self, batch: Batch, step: int, ending: bool) -> tuple[Tensor, Tensor]:
        del step, ending
        views, seen = self.views.apply(batch.images.to(self.processes.device), None, batch.drawn)
        confidence = self.curve(visibility(seen.flatten(0, 1))).view(-1, 2)
        if not self.arm.weighted:
            return views, torch.ones_like(confidence)
        normalise = self.processes.over_global_batch(mean_one)
        return views, pair_weights(confidence, self.arm.pair, normalise)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return pair_loss(outputs, targets)

    def figures(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Of the projection, over the images that this process has of the batch."""
        del batch
        _, _, first, second = outputs.float().unbind(dim=1)
        means = [
            (spread(first) + spread(second)) / 2,
            alignment(first, second),
            (potential(first) + potential(second)) / 2,
            first.new_tensor(first.shape[1]) ** -0.5,
        ]
        return len(outputs) * torch.stack(means)

    def told(self, means: list[float]) -> dict[str, float]:
        """Warns, once, of features that have collapsed."""
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
            # Where every step was left out there is no number.
            "uniformity": math.log(potential) if potential > 0 else math.nan,
        }

    def taken(self, outputs: Tensor, batch: Batch) -> None: ...

    def next_epoch(self) -> None: ...

    def state(self) -> dict[str, Any]:
        return {}

    def load(self, state: dict[str, Any]) -> None: ...


def pretrain(
    recipe: Recipe,
    data: Data,
    run: RunFolder,
    processes: Processes,
    watch: Callable[[Progress], None],
) -> None:
    """Pre-train a recipe's model without labels, going on from its checkpoint if there is one.

    The backbone of the last epoch is then in the folder; its last layer, which labels would train,
    is that of the start. Raises as `train.optimise` does.
    """
    _, height, width = data.image_shape
    augment = build_arm(recipe, data.num_classes, height, width)
    assert augment.curve is not None
    objective = Siamese(recipe, processes, TwoViews(augment.transform), augment.curve)
    model = initial_siamese(recipe, data)
    card, prefix = model.encoder.card, "encoder."
    weights = optimise(objective, model, recipe, data, run, processes, watch)
    if processes.main:
        own = {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}
        head = {f"{model.head_name}.{n}": weights[f"head.{n}"] for n in model.head.state_dict()}
        save_model(card, own | head, run.backbone_file)
    processes.wait()


def initial_siamese(recipe: Recipe, data: Data) -> SimSiam:
    """The encoder of the recipe's seed, as in training with labels, and heads of the same seed."""
    encoder = initial_model(recipe, data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(recipe.seed, 0, "heads"))
        return SimSiam(encoder)
