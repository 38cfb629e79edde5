"""Among torchvision's own transforms, rows stay consistent."""

from typing import Any

import pytest
import torch
from torchvision.transforms import v2

from softaug import Crop, SoftAugment

K = 3


@pytest.mark.parametrize("mixer", [v2.MixUp, v2.CutMix])
def test_before_and_after_mixup_and_cutmix(mixer: Any) -> None:
    torch.manual_seed(0)
    images, labels = torch.rand(8, 3, 16, 16), torch.arange(8) % K
    augment = SoftAugment(Crop(sigma=0.3), K)
    before = v2.Compose([augment, mixer(num_classes=K)])(images, labels)
    after = v2.Compose([mixer(num_classes=K), augment])(images, labels)
    for mixed, targets in (before, after):
        assert mixed.shape == images.shape
        assert targets.shape == (8, K)
        torch.testing.assert_close(targets.sum(dim=1), torch.ones(8))


def test_mixup_of_soft_targets_is_the_mixture_of_soft_targets() -> None:
    torch.manual_seed(0)
    images, labels = torch.rand(8, 3, 16, 16), torch.arange(8) % K
    soft_images, rows = SoftAugment(Crop(sigma=0.3), K)(images, labels)
    mixed, targets = v2.MixUp(num_classes=K)(soft_images, rows)
    # MixUp mixes each sample with its neighbour by one share; solve for it and check the targets.
    neighbour = soft_images.roll(1, 0)
    difference = (soft_images - neighbour).flatten()
    share = ((mixed - neighbour).flatten() @ difference / (difference @ difference)).item()
    torch.testing.assert_close(
        targets, share * rows + (1 - share) * rows.roll(1, 0), rtol=1e-3, atol=1e-4
    )
