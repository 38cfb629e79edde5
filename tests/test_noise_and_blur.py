"""Noise and blur: laws of the draws, pixels against references, and what is kept."""

import math
from typing import Any

import pytest
import torch
from scipy.fft import dctn, idctn
from scipy.stats import kstest
from torch import Generator
from torchvision.transforms.v2 import functional as tv

from softaug import Blur, DiffusionNoise, Drawn, GaussianBlur, Noise, visibility
from softaug.transforms._kernels import one_by_one
from softaug.transforms.hashed_noise import random_bits, standard_normal


def images(n: int = 6, height: int = 10, width: int = 14) -> torch.Tensor:
    return torch.rand(n, 3, height, width, generator=Generator().manual_seed(0))


def test_noise_by_seed_is_standard_normal_and_independent() -> None:
    noise = standard_normal(torch.tensor([0, 1, 2**61 + 5]), (3, 100, 100))
    assert kstest(noise.flatten().double().numpy(), "norm").pvalue > 1e-3
    flat = noise.flatten(1).double()
    assert torch.corrcoef(flat).fill_diagonal_(0).abs().max() < 4 / math.sqrt(flat.shape[1])
    neighbours = torch.corrcoef(torch.stack([flat[0, :-1], flat[0, 1:]]))[0, 1]
    assert neighbours.abs() < 4 / math.sqrt(flat.shape[1])
    assert noise.isfinite().all()


def test_every_bit_of_a_seed_counts() -> None:
    seeds = torch.tensor([0] + [1 << i for i in range(62)])
    bits = random_bits(seeds, (1, 4, 4)).flatten(1)
    assert len({tuple(row) for row in bits.tolist()}) == len(seeds)
    changed = (bits[1:] ^ bits[0]).flatten()
    ones = sum((changed >> i & 1).double().mean().item() for i in range(32)) / 32
    assert ones == pytest.approx(0.5, abs=0.02)


def test_added_noise_has_the_drawn_amplitude_and_keeps_its_share_of_variance() -> None:
    drawn: Drawn = {"amplitude": torch.tensor([0.0, 2.0, -3.0]), "seed": torch.tensor([1, 2, 2])}
    given = images(3, 80, 80)
    out, seen = Noise(sigma=0.1, std=0.25).apply(given, None, drawn)
    assert torch.equal(out[0], given[0])
    added = out - given
    assert added[1].std().item() == pytest.approx(0.2, rel=0.02)
    torch.testing.assert_close(added[2], -1.5 * added[1], rtol=1e-3, atol=1e-5)
    kept = [1, 0.0625 / (0.0625 + 0.04), 0.0625 / (0.0625 + 0.09)]
    assert visibility(seen).tolist() == pytest.approx(kept)


def test_amplitudes_are_normal_and_the_papers_noise_hardly_softens() -> None:
    drawn = Noise().draw(20_000, 8, 8, Generator().manual_seed(1))
    assert kstest(drawn["amplitude"].numpy() / 0.1, "norm").statistic < 0.02
    _, seen = Noise().apply(torch.zeros(20_000, 1, 1, 1), None, drawn)
    assert (visibility(seen) > 0.99).double().mean().item() > 0.98


def test_noise_on_uint8_is_in_units_of_white() -> None:
    given = torch.full((1, 1, 200, 200), 128, dtype=torch.uint8)
    drawn: Drawn = {"amplitude": torch.tensor([1.0]), "seed": torch.tensor([3])}
    out, _ = Noise(sigma=0.1).apply(given, None, drawn)
    assert out.dtype == torch.uint8
    assert out.float().std().item() == pytest.approx(25.5, rel=0.02)
    white, _ = Noise(sigma=0.5).apply(torch.full_like(given, 255), None, drawn)
    assert white.float().mean().item() > 150  # clamped, not wrapped around


def test_diffusion_keeps_the_variance_of_the_data() -> None:
    std = (0.2, 0.25, 0.3)
    mean = (0.4, 0.5, 0.6)
    generator = Generator().manual_seed(2)
    data = torch.randn(1, 3, 200, 200, generator=generator) * torch.tensor(std).view(1, 3, 1, 1)
    data += torch.tensor(mean).view(1, 3, 1, 1)
    for t in (0.0, 0.3, 0.8, 1.0):
        drawn: Drawn = {"t": torch.tensor([t]), "seed": torch.tensor([4])}
        out, seen = DiffusionNoise(mean=mean, std=std).apply(data, None, drawn)
        assert out.std(dim=(2, 3))[0].tolist() == pytest.approx(std, rel=0.03)
        assert visibility(seen).item() == pytest.approx(math.cos(math.pi * t / 2) ** 2, abs=1e-6)
        share = torch.corrcoef(torch.stack([out[0, 1].flatten(), data[0, 1].flatten()]))[0, 1] ** 2
        assert share.item() == pytest.approx(visibility(seen).item(), abs=0.02)
    still, _ = DiffusionNoise().apply(data, None, {"t": torch.tensor([0.0]), "seed": drawn["seed"]})
    assert torch.equal(still, data)


@pytest.mark.parametrize("transform", [DiffusionNoise(beta=3), Blur(beta=3)])
def test_strengths_follow_beta(transform: Any) -> None:
    t = transform.draw(20_000, 8, 8, Generator().manual_seed(5))["t"]
    assert kstest(t.numpy(), "beta", (1, 3)).statistic < 0.02


@pytest.mark.parametrize("transform", [DiffusionNoise(), Blur(), GaussianBlur(kernel_size=5)])
def test_probability(transform: Any) -> None:
    from dataclasses import replace

    mostly = replace(transform, probability=0.25)
    given = torch.rand(2000, 1, 6, 6, generator=Generator().manual_seed(6))
    out, seen = mostly(given, generator=Generator().manual_seed(7))
    changed = (out != given).flatten(1).any(dim=1)
    assert changed.double().mean().item() == pytest.approx(0.25, abs=0.03)
    assert (visibility(seen)[~changed] == 1).all()


@pytest.mark.parametrize("t", [0.05, 0.4, 1.0])
def test_heat_is_damped_in_the_cosine_basis(t: float) -> None:
    given = images(1)
    out, seen = Blur(power=1.5).apply(given, None, {"t": torch.tensor([t])})
    s = 0.3 * (14 / 0.3) ** t
    y, x = (math.pi * torch.arange(n, dtype=torch.float64) / n for n in (10, 14))
    damping = torch.exp(-0.5 * s**2 * (y[:, None] ** 2 + x**2)).numpy()
    for channel in range(3):
        cosine = dctn(given[0, channel].double().numpy(), norm="ortho") * damping
        expected = torch.from_numpy(idctn(cosine, norm="ortho")).float()
        torch.testing.assert_close(out[0, channel], expected, rtol=1e-4, atol=1e-5)
    assert visibility(seen).item() == pytest.approx(1 - t**1.5, abs=1e-6)


def test_blur_keeps_the_mean_and_at_last_one_colour() -> None:
    given = images(1)
    for t in (0.2, 1.0):
        out, _ = Blur().apply(given, None, {"t": torch.tensor([t])})
        torch.testing.assert_close(out.mean(dim=(2, 3)), given.mean(dim=(2, 3)))
    assert out.std(dim=(2, 3)).max() < 0.02


@pytest.mark.parametrize("size", [(40, 50), (70, 66)])  # as linear maps, and as sums of images
@pytest.mark.parametrize("kernel_size", [1, 5, 9])
def test_gaussian_is_torchvisions(kernel_size: int, size: tuple[int, int]) -> None:
    given = images(4, *size)
    assert one_by_one(given) == (size == (70, 66))
    sigma = [0.3, 1.0, 2.5, 0.0]
    out, _ = GaussianBlur(kernel_size).apply(given, None, {"sigma": torch.tensor(sigma)})
    assert torch.equal(out[3], given[3])
    for i, s in enumerate(sigma[:3]):
        expected = tv.gaussian_blur(given[i], [kernel_size, kernel_size], [s, s])
        torch.testing.assert_close(out[i], expected, rtol=1e-4, atol=1e-5)


def test_gaussian_keeps_what_heat_of_the_same_width_keeps() -> None:
    t = torch.tensor([0.1, 0.5])
    sigma = 0.3 * (14 / 0.3) ** t
    _, heat = Blur().apply(images(2), None, {"t": t})
    _, gaussian = GaussianBlur().apply(images(2), None, {"sigma": sigma})
    torch.testing.assert_close(gaussian, heat)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Noise(amplitude=-1), "amplitude must be 0 or more, got -1"),
        (lambda: Noise(std=0), "std is that of the data's pixels.*got 0"),
        (lambda: DiffusionNoise(beta=0), "beta must be finite and above 0.*got 0"),
        (lambda: DiffusionNoise(std=(0.2, 0)), r"numbers above 0, got \(0\.2, 0\)"),
        (lambda: DiffusionNoise(mean=(0, 1))(images()), r"each of the 3 channels, got \(0, 1\)"),
        (lambda: Blur(probability=3), r"probability must be in \[0, 1\], got 3"),
        (lambda: Blur(power=0), "power must be finite and above 0.*got 0"),
        (lambda: GaussianBlur(kernel_size=4), "kernel_size must be odd.*got 4"),
        (lambda: GaussianBlur(sigma=(2, 1)), r"sigma must be 0 < least.*got \(2, 1\)"),
        (lambda: GaussianBlur(kernel_size=21)(images()), "got 21 for images of 10 x 14"),
    ],
)
def test_values_out_of_range_are_named(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
