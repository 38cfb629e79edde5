"""Among the tools people already use: rows stay consistent, pictures and masks pass unharmed."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Generator, Tensor
from torch.utils.data import DataLoader, default_collate
from torchvision import tv_tensors
from torchvision.datasets import FakeData, VisionDataset
from torchvision.ops import masks_to_boxes
from torchvision.transforms import v2

from softaug import (
    Chain,
    Crop,
    Erase,
    Flip,
    SoftAugment,
    UniformCrop,
    as_seen,
    per_sample,
    smooth_by_confusion,
    visibility,
)

K = 3


def batch() -> tuple[Tensor, Tensor]:
    generator = Generator().manual_seed(0)
    return torch.rand(8, 3, 16, 16, generator=generator), torch.arange(8) % K


def test_mixup_takes_float_images_and_cutmix_uint8() -> None:
    """As README and docs/faq.md say; should torchvision's change, the sentences are to go."""
    images, labels = (255 * batch()[0]).to(torch.uint8), batch()[1]
    augment, mixup = SoftAugment(Crop(0.3), K), v2.MixUp(num_classes=K)
    with pytest.raises(RuntimeError, match="can't be cast"):
        v2.Compose([augment, mixup])(images, labels)
    mixed, rows = v2.Compose([augment, v2.ToDtype(torch.float32, scale=True), mixup])(
        images, labels
    )
    assert (mixed.dtype, mixed.max() <= 1, rows.shape) == (torch.float32, True, (8, K))
    assert v2.Compose([augment, v2.CutMix(num_classes=K)])(images, labels)[0].dtype == torch.uint8


@pytest.mark.parametrize("mixer", [v2.MixUp, v2.CutMix])
def test_before_and_after_mixup_and_cutmix(mixer: Any) -> None:
    torch.manual_seed(0)
    augment = SoftAugment(Crop(sigma=0.3), K)
    before = v2.Compose([augment, mixer(num_classes=K)])(*batch())
    after = v2.Compose([mixer(num_classes=K), augment])(*batch())
    for mixed, targets in (before, after):
        assert mixed.shape == (8, 3, 16, 16)
        assert targets.shape == (8, K)
        torch.testing.assert_close(targets.sum(dim=1), torch.ones(8))


@given(st.integers(0, 2**31), st.floats(0.05, 0.6), st.booleans())
def test_mixup_after_keeps_weights_and_mixes_targets(seed: int, sigma: float, weigh: bool) -> None:
    """MixUp mixes each sample with its neighbour by one share; solve for it, check the targets."""
    torch.manual_seed(seed)
    augment = SoftAugment(Crop(sigma=sigma), K, weight=per_sample if weigh else None)
    images, rows = augment(*batch())
    mixed, targets = v2.MixUp(num_classes=K)(images, rows)
    neighbour = images.roll(1, 0)
    difference = (images - neighbour).flatten().double()
    if not difference.any():
        return
    share = ((mixed - neighbour).flatten().double() @ difference / difference.square().sum()).item()
    expected = share * rows + (1 - share) * rows.roll(1, 0)
    torch.testing.assert_close(targets, expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(targets.sum(), rows.sum(), rtol=1e-4, atol=1e-4)


@given(st.integers(0, 2**31))
def test_cutmix_after_mixes_targets_by_area(seed: int) -> None:
    torch.manual_seed(seed)
    images, rows = SoftAugment(Crop(sigma=0.3), K)(*batch())
    numbered = torch.arange(8.0).view(8, 1, 1, 1).expand_as(images)
    mixed, targets = v2.CutMix(num_classes=K)(numbered.clone(), rows)
    share = (mixed == numbered).float().mean(dim=(1, 2, 3))[:, None]
    torch.testing.assert_close(targets, share * rows + (1 - share) * rows.roll(1, 0))


def test_a_pipeline_of_torchvision_before_and_after() -> None:
    """Image, mask and boxes go through v2 together; the mask then says what is to be seen."""
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (3, 16, 20), dtype=torch.uint8)
    mask = torch.zeros(1, 16, 20, dtype=torch.uint8)
    mask[:, 2:6, 3:9] = 1
    boxes = tv_tensors.BoundingBoxes([[3, 2, 9, 6]], format="XYXY", canvas_size=(16, 20))
    before = v2.Compose([v2.RandomHorizontalFlip(p=1.0), v2.ToDtype(torch.float32, scale=True)])
    image, mask, boxes = before(tv_tensors.Image(pixels), tv_tensors.Mask(mask), boxes)
    assert boxes.tolist() == [[11, 2, 17, 6]]
    augment = SoftAugment(Chain([Flip(), Crop(sigma=0.2)]), K)
    drawn = augment.transform.draw(1, 16, 20, Generator().manual_seed(1))
    out, target = augment(image, 1, seen=as_seen(torch.as_tensor(mask)), drawn=drawn)
    moved, _ = augment.transform.apply(mask[None], None, drawn)
    # What is left of the mask, moved by the same draw, is what the confidence was made of.
    share = moved.float().sum() / mask.float().sum()
    assert target[1].item() == pytest.approx(1 - (1 - 1 / K) * (1 - share.item()) ** 2, abs=1e-5)
    assert moved.dtype == mask.dtype
    after = v2.Compose([v2.Normalize([0.5] * 3, [0.25] * 3)])
    torch.testing.assert_close(after(out), (out - 0.5) / 0.25)


def test_boxes_move_as_the_masks_they_span() -> None:
    """As the README says: draw boxes as masks, move them, read them back; v2 moves them alike."""
    boxes = tv_tensors.BoundingBoxes(
        [[3, 2, 9, 6], [0, 0, 20, 16], [15, 10, 20, 16]], format="XYXY", canvas_size=(16, 20)
    )
    y, x = torch.arange(16)[:, None], torch.arange(20)
    left, top, right, bottom = boxes[:, :, None, None].unbind(1)
    masks = ((x >= left) & (x < right) & (y >= top) & (y < bottom)).float()
    crop = Crop(sigma=0.3)
    for seed in range(20):
        drawn = crop.draw(1, 16, 20, Generator().manual_seed(seed))
        moved, _ = crop.apply(masks[None], None, drawn)
        left_over = moved[0].flatten(1).any(dim=1)
        corners = masks_to_boxes(moved[0][left_over]) + torch.tensor([0, 0, 1, 1])
        across, down = -drawn["tx"].item(), -drawn["ty"].item()
        expected = v2.functional.affine(boxes, 0.0, [across, down], 1.0, [0.0, 0.0])
        expected = v2.functional.clamp_bounding_boxes(expected)
        width, height = (expected[:, 2:] - expected[:, :2]).unbind(1)
        assert torch.equal(left_over, (width > 0) & (height > 0))
        torch.testing.assert_close(corners, expected[left_over].float())


@pytest.mark.parametrize("transform", [Flip(), Crop(0.3), UniformCrop(3), Erase()])
def test_tv_tensors_are_tensors(transform: Any) -> None:
    images, _ = batch()
    drawn = transform.draw(8, 16, 16, Generator().manual_seed(2))
    plain, seen = transform.apply(images, None, drawn)
    wrapped, same_seen = transform.apply(tv_tensors.Image(images), None, drawn)
    assert torch.equal(torch.as_tensor(wrapped), plain)
    assert torch.equal(same_seen, seen)


class Pictures(VisionDataset):  # type: ignore[type-arg]  # generic for type checkers alone
    """A data set of torchvision's kind: `transforms` takes picture and label together."""

    def __init__(self, transforms: Any, mode: str = "RGB") -> None:
        super().__init__("", transforms=transforms)
        self.mode = mode

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Any:
        generator = np.random.default_rng(index)
        picture = Image.fromarray(generator.integers(0, 256, (10, 14, 3), np.uint8))
        assert self.transforms is not None
        return self.transforms(picture.convert(self.mode), index % K)


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 1), ("RGBA", 4)])
def test_as_the_transforms_of_a_data_set(mode: str, channels: int) -> None:
    augment = SoftAugment(Crop(sigma=0.3), K, generator=Generator().manual_seed(3))
    images, targets = default_collate([Pictures(augment, mode)[i] for i in range(12)])
    assert images.shape == (12, channels, 10, 14)
    assert images.dtype == torch.uint8
    assert targets.shape == (12, K)
    assert (targets.argmax(dim=1) == torch.arange(12) % K).double().mean().item() > 0.8
    still = SoftAugment(Crop(sigma=0.0), K)
    picture = Pictures(lambda p, _: p, mode)[0]
    assert torch.equal(Pictures(still, mode)[0][0], v2.functional.pil_to_tensor(picture))


def test_other_pictures_are_refused() -> None:
    augment = SoftAugment(Crop(), K)
    with pytest.raises(ValueError, match=r'got "P"; convert\("RGB"\) it'):
        augment(Image.new("P", (4, 4)), 0)
    with pytest.raises(TypeError, match="a tensor or a picture of PIL, got str"):
        augment("cat.png", 0)


def test_in_a_collate_fn_of_torchvisions_data() -> None:
    augment = SoftAugment(Crop(sigma=0.3), K, generator=Generator().manual_seed(4))

    def collate(samples: list[Any]) -> tuple[Tensor, Tensor]:
        return augment(*default_collate(samples))

    data = FakeData(8, (3, 16, 16), K, transform=v2.Compose([v2.ToImage()]))
    images, targets = next(iter(DataLoader(data, 8, collate_fn=collate)))
    assert images.shape == (8, 3, 16, 16)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(8))


def test_timms_loss_and_mixup_take_the_rows() -> None:
    from timm.data import Mixup
    from timm.loss import SoftTargetCrossEntropy

    torch.manual_seed(0)
    images, rows = SoftAugment(Crop(sigma=0.3), K, weight=per_sample)(*batch())
    logits = torch.randn(8, K)
    torch.testing.assert_close(
        SoftTargetCrossEntropy()(logits, rows), F.cross_entropy(logits, rows)
    )
    # On rows, timm's Mixup is right only so: otherwise it takes their entries for labels.
    mixup = Mixup(num_classes=K, label_smoothing=0.0, multi_label=True)
    mixed, targets = mixup(images, rows)
    assert mixed.shape == images.shape
    assert targets.shape == (8, K)
    torch.testing.assert_close(targets.sum(), rows.sum())


def test_timms_loader_feeds_it() -> None:
    from timm.data import create_loader

    data: Any = FakeData(8, (3, 20, 20), K)
    loader: Any = create_loader(
        data,
        input_size=(3, 16, 16),
        batch_size=8,
        is_training=True,
        use_prefetcher=False,
        num_workers=0,
        persistent_workers=False,
        device=torch.device("cpu"),
    )
    images, labels = next(iter(loader))
    out, targets = SoftAugment(Crop(sigma=0.3), K)(images, labels)
    assert out.shape == (8, 3, 16, 16)
    assert targets.shape == (8, K)


def test_a_confusion_spreads_the_lost_mass() -> None:
    confusion = torch.tensor([[0.0, 3.0, 1.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    augment = SoftAugment(Crop(), K, soften=partial(smooth_by_confusion, confusion=confusion))
    images, labels = batch()
    drawn = augment.transform.draw(8, 16, 16, Generator().manual_seed(5))
    _, targets = augment(images, labels, drawn=drawn)
    _, seen = augment.transform.apply(images, None, drawn)
    p = 1 - (1 - 1 / K) * (1 - visibility(seen)) ** 2
    first = labels == 0
    torch.testing.assert_close(targets[first][:, 1], 0.75 * (1 - p[first]))
