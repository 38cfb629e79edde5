"""Probe frozen features: train a linear layer on them, and classify by nearest neighbours.

n training images, m test images, d features, k classes.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from softaug_lab.basics.errors import SoftaugError, UsageError
from softaug_lab.basics.processes import Processes
from softaug_lab.basics.seeds import key, keyed
from softaug_lab.basics.storage import write_atomically
from softaug_lab.data import Data
from softaug_lab.evaluation.record import ProbeErrors
from softaug_lab.metrics import top_k_error
from softaug_lab.models import (
    Classifier,
    build,
    build_from,
    load_model,
    predict_shared,
    read_weights,
    save_model,
    take_head,
)
from softaug_lab.recipes import Recipe
from softaug_lab.runs import RunFolder

NEIGHBOURS, TEMPERATURE = 200, 0.1
# Of the linear probe: epochs, batch size, learning rate, and the epochs that divide it by 10.
EPOCHS, BATCH, LR, MILESTONES = 100, 512, 10.0, (60, 80)
BLOCK = 1_000  # test images that are compared with all training images at once
Features = Callable[[Classifier, Tensor], Tensor]  # features [N,D] of a model without its head


@dataclass(frozen=True, eq=False)
class Probe:
    """A backbone's features, measured on one set of data.

    head: the linear layer trained on the features; logits: its output for the test images;
    knn_error: top-1 error by `knn_logits` of the test images; neighbours: how many of them vote.
    """

    head: nn.Linear
    logits: Float[Tensor, "m k"]
    knn_error: float
    neighbours: int


def probe_run(run: RunFolder, data: Data, features: Features) -> tuple[Probe, Probe]:
    """Probe the backbone that a run has trained, and the same backbone untrained.

    Raises as `probe_backbone` does, and SoftaugError where the run has trained nothing yet.
    """
    recipe = run.recipe()
    trained = load_model(run.backbone_file if run.backbone_file.exists() else run.model_file)
    require_probed_data(trained, data)
    start = untrained(recipe, trained)
    return (
        probe_backbone(trained, data, features, recipe.seed),
        probe_backbone(start, data, features, recipe.seed),
    )


def probe_backbone(model: Classifier, data: Data, features: Features, seed: int) -> Probe:
    """Probe a backbone on training and test images; its own last layer is removed.

    Raises UsageError for a network without a last layer, SoftaugError for features that are not
    finite.
    """
    take_head(model)
    train, test = (features(model, part.images) for part in (data.train, data.test))
    bad = int((~torch.cat([train, test]).isfinite()).any(dim=1).sum())
    if bad:
        raise SoftaugError(f"features of {bad} images of {data.name} are not finite")
    head = linear_probe(train, data.train.labels, data.num_classes, seed)
    # With more neighbours than a class has images, most would be of other classes.
    neighbours = max(1, min(NEIGHBOURS, len(train) // data.num_classes))
    votes = knn_logits(train, data.train.labels, test, data.num_classes, neighbours)
    with torch.inference_mode():
        logits = head(test)
    return Probe(head, logits.clone(), top_k_error(votes, data.test.labels), neighbours)


def probe_errors(trained: Probe, start: Probe, data: Data) -> ProbeErrors:
    """Errors of the trained and of the untrained backbone, beside those of the linear probe."""
    return ProbeErrors(
        knn_error=trained.knn_error,
        neighbours=trained.neighbours,
        untrained_error=top_k_error(start.logits, data.test.labels),
        untrained_knn_error=start.knn_error,
    )


def require_one_backbone(run: RunFolder) -> None:
    """Raise UsageError, before any work, for an ensemble, which has several backbones."""
    if members := [file.parent for file in run.model_files if file != run.model_file]:
        raise UsageError(
            f"{run.folder}: an ensemble has no features of its own; probe one of its "
            f"{len(members)} members, such as {members[0]}"
        )


def require_probed_data(model: Classifier, data: Data) -> None:
    """Raise UsageError, before any work, for data whose features the model cannot compute."""
    card = model.card
    shape = (card.channels, card.height, card.width)
    if data.image_shape != shape:
        raise UsageError(
            f"the model takes images {list(shape)} [C,H,W], {data.name} has "
            f"{list(data.image_shape)}; --size {min(card.height, card.width)} may mend it"
        )
    refuse_stream(data)


def refuse_stream(data: Data) -> None:
    """Raise UsageError for streamed data: a probe needs the features of all images at once."""
    if data.stream is not None:
        raise UsageError("a probe holds the features of all images; leave out --stream")


def linear_probe(
    features: Float[Tensor, "n d"], labels: Int64[Tensor, "n"], num_classes: int, seed: int = 0
) -> nn.Linear:
    """Train a linear layer from features to logits, and nothing else.

    100 epochs of SGD with momentum 0.9 and no weight decay, batches of 512, learning rate 10 in
    proportion to the batch, a tenth of it from epoch 60 and a hundredth from 80 (Liu et al. 2023),
    on features as they are, without augmentation. The size of the features, and with it the right
    learning rate, depends on the network; so the features are centred and divided by one number
    that makes their mean square norm 1. Both are folded into the layer that is returned.
    """
    centre = features.mean(dim=0)
    scale = (features - centre).square().sum(dim=1).mean().sqrt()
    scale = torch.where(scale > 0, scale, 1.0)  # where all features are the same
    inputs = (features - centre) / scale
    head = nn.Linear(features.shape[1], num_classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    batch_size = min(BATCH, len(inputs))
    optimizer = torch.optim.SGD(head.parameters(), lr=LR * batch_size / BATCH, momentum=0.9)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, MILESTONES)
    for epoch in range(EPOCHS):
        order = torch.randperm(len(inputs), generator=keyed(seed, epoch, "probe"))
        for rows in order[: len(order) // batch_size * batch_size].split(batch_size):
            optimizer.zero_grad()
            F.cross_entropy(head(inputs[rows]), labels[rows]).backward()
            optimizer.step()
        schedule.step()
    with torch.no_grad():
        head.weight /= scale
        head.bias.sub_(head.weight @ centre)
    return head.requires_grad_(False)


def knn_logits(
    train: Float[Tensor, "n d"],
    labels: Int64[Tensor, "n"],
    test: Float[Tensor, "m d"],
    num_classes: int,
    neighbours: int,
    temperature: float = TEMPERATURE,
) -> Float[Tensor, "m k"]:
    """Log of each class's votes among the nearest training images.

    Nearest by the cosine s; a neighbour has exp(s / temperature) votes. Source: Wu et al. 2018,
    "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", arXiv 1805.01978,
    section 3.4.
    """
    train, test = F.normalize(train, dim=1), F.normalize(test, dim=1)
    votes = []
    for rows in test.split(BLOCK):
        nearest = (rows @ train.T).topk(neighbours, dim=1)
        weights = (nearest.values / temperature).exp()
        blank = torch.zeros(len(rows), num_classes)
        votes.append(blank.scatter_add(1, labels[nearest.indices], weights).log())
    return torch.cat(votes)


def features_of(model: Classifier, images: Tensor, processes: Processes) -> Float[Tensor, "n d"]:
    """Compute a model's features of images; the processes of a run share the work."""
    return predict_shared(model.to(processes.device), images, processes)


def cached_features(
    model: Classifier,
    images: Tensor,
    processes: Processes,
    folder: Path,
    compute: Callable[[Classifier, Tensor, Processes], Tensor] = features_of,
) -> Float[Tensor, "n d"]:
    """Cache `features_of` in a folder, keyed by a digest of the model's weights and the images."""
    digest = sha256()
    for part in (*model.state_dict().values(), images):
        digest.update(part.cpu().contiguous().numpy())
    file = folder / f"features-{digest.hexdigest()[:16]}.npy"
    try:
        return torch.from_numpy(np.load(file, allow_pickle=False))
    except (OSError, ValueError, EOFError):  # absent or broken: computed again
        features = compute(model, images, processes)
    content = io.BytesIO()
    np.save(content, features.numpy(), allow_pickle=False)
    write_atomically(file, content.getvalue())
    return features


def untrained(recipe: Recipe, model: Classifier) -> Classifier:
    """Build a model's backbone as it was before training: its seed's, or that of its weights."""
    mean, std = (tuple(b.flatten().tolist()) for b in (model.mean, model.std))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(recipe.seed, 0, "weights"))
        if recipe.weights is None:
            return build(model.card, mean, std)
        weights = read_weights(recipe.weights, download=False, sha256=recipe.weights_sha256)
        return build_from(weights, model.card, mean, std)[0]


def save_probed(run: RunFolder, head: nn.Linear) -> None:
    """Write the model of a run: its pre-trained backbone with a probe as the last layer."""
    model = load_model(run.backbone_file)
    name, _ = take_head(model)
    head_weights = {f"{name}.{end}": value for end, value in head.state_dict().items()}
    save_model(model.card, model.state_dict() | head_weights, run.model_file)
