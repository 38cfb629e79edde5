"""The networks of the CIFAR recipes: as large as their papers say, and ShakeDrop by its laws."""

import pytest
import torch

from softaug_lab.models.card import ModelCard
from softaug_lab.models.cifar import ShakeDrop, pyramid_net, wide_resnet
from softaug_lab.models.classifier import build

N = 100_000  # images, for means


def count(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "ten", "hundred"),
    [
        ("resnet18", 11_173_962, 11_220_132),
        ("resnet50", 23_520_842, 23_705_252),
        ("wrn-28-10", 36_479_194, 36_536_884),
        ("pyramidnet-272-shakedrop", 26_049_562, 26_127_412),
        ("efficientnet_b0", 4_020_358, 4_135_648),
    ],
)
def test_networks_are_as_large_as_the_literature_has_them(
    name: str, ten: int, hundred: int
) -> None:
    for expected, classes in ((ten, 10), (hundred, 100)):
        card = ModelCard(name, tuple(f"class {i}" for i in range(classes)), 3, 32, 32)
        with torch.device("meta"):  # weights without values
            assert count(build(card, (0.0,), (1.0,))) == expected


def test_pyramid_net_is_counted_by_hand() -> None:
    """A norm has 2 numbers for each channel; widths grow by 200 / 90 and are rounded down."""
    inputs, total = 16, 3 * 9 * 16 + 2 * 16
    for number in range(1, 91):
        width = int(16 + 200 * number / 90)
        total += 2 * inputs + inputs * width + 2 * width + 9 * width * width + 2 * width
        total += width * 4 * width + 2 * 4 * width
        inputs = 4 * width
    total += 2 * inputs + inputs * 10 + 10
    assert count(pyramid_net(3, 10)) == total
    assert round(total / 1e6, 1) == 26.0  # million, as Han et al. 2017 say


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 28, 36), (3, 33, 31)])
def test_any_small_image_is_taken(shape: tuple[int, int, int]) -> None:
    images = torch.rand(2, *shape)
    for network in (wide_resnet(shape[0], 7, 10, 1), pyramid_net(shape[0], 7, 29, 12)):
        assert network(images).shape == (2, 7)
        network(images).sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_blocks_are_kept_less_and_less() -> None:
    kept = [m.keep for m in pyramid_net(3, 10).modules() if isinstance(m, ShakeDrop)]
    assert len(kept) == 90
    assert kept == pytest.approx([1 - 0.5 * number / 90 for number in range(1, 91)])


def shaken(kept: float, n: int = N) -> tuple[torch.Tensor, torch.Tensor]:
    """The factors of n images, forward and backward."""
    torch.manual_seed(0)
    branch = torch.ones(n, 2, 1, 3, requires_grad=True)
    out = ShakeDrop(kept)(branch)
    out.sum().backward()
    assert branch.grad is not None
    for factors in (out, branch.grad):
        assert torch.equal(factors, factors[:, :1, :, :1].expand_as(factors))
    return out.detach()[:, 0, 0, 0], branch.grad[:, 0, 0, 0]


@pytest.mark.parametrize("kept", [1.0, 0.7, 0.5, 0.0])
def test_shake_drop_scales_by_its_law(kept: float) -> None:
    """A branch that is not kept has alpha in [-1, 1] forward, and beta in [0, 1] backward."""
    forward, backward = shaken(kept)
    whole = forward == 1
    assert torch.equal(whole, backward == 1)
    assert whole.double().mean().item() == pytest.approx(kept, abs=0.01)
    # alpha: mean 0, variance 1/3; beta: mean 1/2, variance 1/12.
    assert forward.mean().item() == pytest.approx(kept, abs=0.01)
    assert backward.mean().item() == pytest.approx(kept + (1 - kept) / 2, abs=0.01)
    if kept < 1:
        alpha, beta = forward[~whole], backward[~whole]
        assert alpha.min() >= -1
        assert beta.min() >= 0
        assert alpha.var().item() == pytest.approx(1 / 3, abs=0.01)
        assert beta.var().item() == pytest.approx(1 / 12, abs=0.01)
        assert torch.stack([alpha, beta]).corrcoef()[0, 1].abs() < 0.02


def test_shake_drop_is_its_mean_in_evaluation() -> None:
    branch = torch.randn(4, 3, 2, 2, requires_grad=True)
    out = ShakeDrop(0.7).eval()(branch)
    assert torch.equal(out, branch * 0.7)
    out.sum().backward()
    assert branch.grad is not None
    assert torch.equal(branch.grad, torch.full_like(branch, 0.7))


def test_shake_drop_draws_from_the_global_generator() -> None:
    assert all(torch.equal(a, b) for a, b in zip(shaken(0.5, 9), shaken(0.5, 9), strict=True))
    torch.manual_seed(1)
    assert not torch.equal(ShakeDrop(0.5)(torch.ones(9, 1, 1, 1))[:, 0, 0, 0], shaken(0.5, 9)[0])


def test_shake_drop_keeps_half_precision() -> None:
    branch = torch.ones(5, 1, 2, 2, dtype=torch.bfloat16, requires_grad=True)
    out = ShakeDrop(0.5)(branch)
    out.sum().backward()
    assert out.dtype == torch.bfloat16
    assert branch.grad is not None
    assert branch.grad.dtype == torch.bfloat16
