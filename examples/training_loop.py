"""A plain PyTorch loop with soft augmentation: two lines of it are softaug's.

    python examples/training_loop.py [--epochs 10]

The images are the embedded part of Fashion-MNIST; replace them by your own DataLoader.
"""

import argparse

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

import softaug
from softaug_lab.data import load
from softaug_lab.models.small import small_resnet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--images", type=int, default=8000, help="training images, at most 8,000")
    options = parser.parse_args()

    torch.manual_seed(0)
    data = load("demo", train_images=options.images)
    loader = DataLoader(
        TensorDataset(data.train.images / 255, data.train.labels), batch_size=128, shuffle=True
    )
    model = small_resnet(channels=1, num_classes=10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.1, total_steps=options.epochs * len(loader)
    )

    augment = softaug.SoftAugment(softaug.Crop(sigma=0.15), num_classes=10)

    for epoch in range(options.epochs):
        model.train()
        for images, labels in loader:
            images, targets = augment(images, labels)
            loss = F.cross_entropy(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.inference_mode():
            predicted = model(data.test.images / 255).argmax(dim=1)
        error = (predicted != data.test.labels).float().mean()
        print(f"epoch {epoch + 1}: top-1 error {error:.1%}")


if __name__ == "__main__":
    main()
