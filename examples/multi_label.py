"""Several labels for an image: soft targets for a binary loss, in a plain PyTorch loop.

    python examples/multi_label.py [--targets hard | soft | base-rates] [--epochs 8] [--seed 0]

The images are collages of the embedded part of Fashion-MNIST: four places of 28 px, each with a
piece of clothing or, in two of five, with nothing. The labels say which of the ten classes are
there. Prints the mean average precision, the binary cross-entropy and the calibration error of all
labels, for whole images and for images of which 40 % left the frame.
"""

import argparse
from functools import partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.utils.data import DataLoader, TensorDataset

import softaug
from softaug_lab.data import ImageSet, load
from softaug_lab.models.small import small_resnet

CLASSES, BINS = 10, 15


def collages(part: ImageSet, n: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Draw images [n,1,56,56] in [0, 1] and their multi-hot labels [n,10]."""
    chosen = torch.randint(len(part), (n, 4), generator=generator)
    there = torch.rand(n, 4, generator=generator) < 0.6
    pieces = part.images[chosen, 0] / 255 * there[..., None, None]
    rows = pieces.view(n, 2, 2, 28, 28).transpose(2, 3).reshape(n, 1, 56, 56)
    hot = F.one_hot(part.labels[chosen], CLASSES) * there[..., None]
    return rows, hot.amax(dim=1).float()


def average_precision(scores: Tensor, labels: Tensor) -> float:
    """Compute the mean over classes of the precision at each image that has the class."""
    ranked = labels.gather(0, scores.argsort(dim=0, descending=True))
    places = torch.arange(1, len(ranked) + 1)[:, None]
    precision = ranked.cumsum(dim=0) / places
    return ((precision * ranked).sum(dim=0) / ranked.sum(dim=0)).mean().item()


def calibration_error(probability: Tensor, labels: Tensor) -> float:
    """Compute how far the share of labels that are there is from their probability (ECE)."""
    bins = (probability * BINS).long().clamp(max=BINS - 1).flatten()
    gaps = torch.zeros(BINS).index_add_(0, bins, (labels - probability).flatten())
    return (gaps.abs().sum() / labels.numel()).item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", choices=("hard", "soft", "base-rates"), default="base-rates")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--images", type=int, default=4000, help="to train on; half of it to test")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    demo, generator = load("demo"), Generator().manual_seed(options.seed)
    images, labels = collages(demo.train, options.images, generator)
    loader = DataLoader(TensorDataset(images, labels), batch_size=128, shuffle=True)
    model = small_resnet(channels=1, num_classes=CLASSES)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.05, total_steps=options.epochs * len(loader)
    )

    prior = labels.mean(dim=0) if options.targets == "base-rates" else None
    soften = partial(softaug.smooth_multilabel, prior=prior)
    augment = softaug.SoftAugment(
        softaug.Crop(sigma=0.2, fill="noise"),  # another image would bring its own labels
        num_classes=CLASSES,
        curve=softaug.PowerCurve(k=2, chance=0.5),
        soften=soften if options.targets != "hard" else False,
    )

    for _ in range(options.epochs):
        model.train()
        for batch, hot in loader:
            inputs, targets = augment(batch, hot)
            loss = F.binary_cross_entropy_with_logits(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()

    model.eval()
    n = options.images // 2
    images, labels = collages(demo.test, n, Generator().manual_seed(0))
    shift = {"tx": torch.full((n,), 13), "ty": torch.full((n,), 13), "seed": torch.arange(n)}
    shift["tx"] *= 2 * torch.randint(2, (n,), generator=generator) - 1
    cut, _ = softaug.Crop(fill=0.5).apply(images, None, shift)
    for name, shown in (("whole", images), ("cut off", cut)):
        with torch.inference_mode():
            logits = torch.cat([model(part) for part in shown.split(500)])
        print(
            f"{options.targets:10} {options.seed} {name:7} "
            f"mAP {average_precision(logits, labels):.3f}  "
            f"BCE {F.binary_cross_entropy_with_logits(logits, labels):.3f}  "
            f"ECE {calibration_error(logits.sigmoid(), labels):.3f}"
        )


if __name__ == "__main__":
    main()
