"""What frozen features are worth: a linear layer on them, and their nearest neighbours.

n images, d features, k classes.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

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
from softaug_lab.evaluation.predictions import predict_logits
from softaug_lab.metrics import top_k_error
from softaug_lab.models import Classifier, build, load_model, save_model, take_head
from softaug_lab.recipes import Recipe
from softaug_lab.runs import RunFolder

NEIGHBOURS, TEMPERATURE = 200, 0.1
EPOCHS, BATCH, LR, STEPS_AT = 100, 512, 10.0, (60, 80)  # of the linear probe
BLOCK = 1_000  # images whose neighbours are looked for at a time
Featured = Callable[[Classifier, Tensor], Tensor]  # a model without its head, images: features


@dataclass(frozen=True, eq=False)
class Probe:
    """What a backbone's features are worth on some data.

    head: the linear layer on its features; logits: the test images'; knn_error: by `knn_logits`;
    neighbours: how many.
    """

    head: nn.Linear
    logits: Float[Tensor, "n k"]
    knn_error: float
    neighbours: int


def probe(model: Classifier, data: Data, featured: Featured, seed: int) -> Probe:
    """Probe a backbone, whose last layer is not used, on the training and test images of data.

    Raises UsageError for a network without a last layer, SoftaugError for features that are not
    finite.
    """
    take_head(model)
    train, test = (featured(model, part.images) for part in (data.train, data.test))
    bad = int((~torch.cat([train, test]).isfinite()).any(dim=1).sum())
    if bad:
        raise SoftaugError(f"features of {bad} images of {data.name} are not finite")
    head = linear_probe(train, data.train.labels, data.num_classes, seed)
    # More neighbours than a class has images would mostly be of other classes.
    neighbours = max(1, min(NEIGHBOURS, len(train) // data.num_classes))
    near = knn_logits(train, data.train.labels, test, data.num_classes, neighbours)
    with torch.inference_mode():
        logits = head(test)
    return Probe(head, logits.clone(), top_k_error(near, data.test.labels), neighbours)


def check_run(run: RunFolder) -> None:
    """Refuse, before any work, an ensemble: it has the features of several backbones."""
    if members := [file.parent for file in run.model_files if file != run.model_file]:
        raise UsageError(
            f"{run.folder}: an ensemble has no features of its own; probe one of its "
            f"{len(members)} members, such as {members[0]}"
        )


def check_probed(model: Classifier, data: Data) -> None:
    """Refuse, before any work, data whose features cannot be had."""
    card = model.card
    shape = (card.channels, card.height, card.width)
    if data.image_shape != shape:
        raise UsageError(
            f"the model takes images {list(shape)} [C,H,W], {data.name} has "
            f"{list(data.image_shape)}; --size {min(card.height, card.width)} may mend it"
        )
    refuse_stream(data)


def refuse_stream(data: Data) -> None:
    """A probe needs the features of all training images at once."""
    if data.stream is not None:
        raise UsageError("a probe holds the features of all images; leave out --stream")


def linear_probe(
    features: Float[Tensor, "n d"], labels: Int64[Tensor, "n"], num_classes: int, seed: int = 0
) -> nn.Linear:
    """Train a linear layer from features to logits, and nothing else.

    100 epochs of SGD with momentum 0.9 and no weight decay, batches of 512, learning rate 10 in
    proportion to the batch, a tenth of it from epoch 60 and a hundredth from 80 (Liu et al. 2023),
    on features as they are, without augmentation. How large features are depends on the network,
    and with it which learning rate is right; so they are centred and divided by one number, that
    their mean square norm be 1. The layer that is returned has both within.
    """
    centre = features.mean(dim=0)
    scale = (features - centre).square().sum(dim=1).mean().sqrt()
    scale = torch.where(scale > 0, scale, 1.0)  # where all features are the same
    inputs = (features - centre) / scale
    head = nn.Linear(features.shape[1], num_classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    batch = min(BATCH, len(inputs))
    optimizer = torch.optim.SGD(head.parameters(), lr=LR * batch / BATCH, momentum=0.9)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, STEPS_AT)
    for epoch in range(EPOCHS):
        order = torch.randperm(len(inputs), generator=keyed(seed, epoch, "probe"))
        for some in order[: len(order) // batch * batch].split(batch):
            optimizer.zero_grad()
            F.cross_entropy(head(inputs[some]), labels[some]).backward()
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
    """The log of each class's votes among the nearest training images.

    Nearest by the cosine s; a neighbour has exp(s / temperature) votes. Source: Wu et al. 2018,
    "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", arXiv 1805.01978,
    section 3.4.
    """
    train, test = F.normalize(train, dim=1), F.normalize(test, dim=1)
    votes = []
    for some in test.split(BLOCK):
        near = (some @ train.T).topk(neighbours, dim=1)
        weights = (near.values / temperature).exp()
        blank = torch.zeros(len(some), num_classes)
        votes.append(blank.scatter_add(1, labels[near.indices], weights).log())
    return torch.cat(votes)


def features_of(model: Classifier, images: Tensor, processes: Processes) -> Float[Tensor, "n d"]:
    """A model's features of images; the processes of a run share the work."""
    own = images[processes.share(len(images))]
    return processes.gather(predict_logits(model.to(processes.device), own))


def cached_features(
    model: Classifier, images: Tensor, processes: Processes, folder: Path
) -> Float[Tensor, "n d"]:
    """`features_of`, kept in a folder under a digest of the model's weights and the images."""
    digest = sha256()
    for part in (*model.state_dict().values(), images):
        digest.update(part.cpu().contiguous().numpy())
    file = folder / f"features-{digest.hexdigest()[:16]}.npy"
    try:
        return torch.from_numpy(np.load(file, allow_pickle=False))
    except (OSError, ValueError, EOFError):  # absent or broken: made again
        found = features_of(model, images, processes)
    content = io.BytesIO()
    np.save(content, found.numpy(), allow_pickle=False)
    write_atomically(file, content.getvalue())
    return found


def untrained(recipe: Recipe, model: Classifier) -> Classifier:
    """The backbone of a model as it was before training, as a reference: of the recipe's seed."""
    mean, std = (tuple(b.flatten().tolist()) for b in (model.mean, model.std))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(recipe.seed, 0, "weights"))
        return build(model.card, mean, std)


def probe_run(run: RunFolder, data: Data, featured: Featured) -> tuple[Probe, Probe]:
    """Probe what a run has trained, and the same backbone untrained.

    Raises as `probe` does, and SoftaugError where the run has trained nothing yet.
    """
    recipe = run.recipe()
    trained = load_model(run.backbone_file if run.backbone_file.exists() else run.model_file)
    check_probed(trained, data)
    start = untrained(recipe, trained)
    return probe(trained, data, featured, recipe.seed), probe(start, data, featured, recipe.seed)


def probe_figures(found: Probe, before: Probe, data: Data) -> dict[str, Any]:
    """Errors beside those of the linear probe, by the names they have in an evaluation."""
    return {
        "knn_error": found.knn_error,
        "neighbours": found.neighbours,
        "untrained_error": top_k_error(before.logits, data.test.labels),
        "untrained_knn_error": before.knn_error,
    }


def save_probed(run: RunFolder, head: nn.Linear) -> None:
    """Write the model of a run: what it pre-trained, with a probe for its last layer."""
    model = load_model(run.backbone_file)
    name, _ = take_head(model)
    own = {f"{name}.{end}": value for end, value in head.state_dict().items()}
    save_model(model.card, model.state_dict() | own, run.model_file)
