"""Blur: heat dissipation, until one colour is left, and torchvision's Gaussian blur."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from softaug.checks import check_positive, check_rising, check_unit
from softaug.transforms._kernels import one_by_one
from softaug.transforms.base import Drawn, Images, Seen, call, draws
from softaug.transforms.noise import beta_distributed, check_beta
from softaug.transforms.pixels import as_float, empty, in_dtype_of, resample, scaled_map

LEAST = 0.3  # pixels: the standard deviation of the mildest blur


@dataclass(frozen=True)
class Blur:
    """Blur by heat dissipation, and multiply the map by 1 - t^power.

    In the cosine basis (DCT-II) each frequency f, in radians a pixel, is damped by
    exp(-f^2 s^2 / 2); s runs from 0.3 pixels at t = 0 to the longer side at t = 1, in equal ratios.
    t in [0, 1] follows Beta(1, beta): the larger beta, the milder. An image that is not blurred has
    t = 0 and stays as it is.

    power: above 0, 1 in the paper; probability: that an image is blurred at all (a third in the
    paper, beside noise and clean images).
    Source: Heinonen et al. 2025, "Data mollification", arXiv 2406.01494; Rissanen et al. 2023,
    "Generative Modelling with Inverse Heat Dissipation", arXiv 2206.13397.
    """

    power: float = 1.0
    beta: float = 2.0
    probability: float = 1.0

    def __post_init__(self) -> None:
        check_beta("Blur", self.beta, self.probability)
        check_positive("Blur", "power", self.power, "the paper: 1")

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        return {"t": beta_distributed(n, self.beta, self.probability, generator)}

    def apply(self, images: Images, seen: Seen | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        t = draws(drawn, "t", images, torch.float32)
        height, width = images.shape[-2:]
        s = LEAST * (max(height, width) / LEAST) ** t
        blurred = resample(as_float(images), _heat(s, height), _heat(s, width))
        blurred = torch.where(t[:, None, None, None] == 0, as_float(images), blurred)
        return in_dtype_of(images, blurred), scaled_map(images, seen, 1 - t**self.power)

    __call__ = call


@dataclass(frozen=True)
class GaussianBlur:
    """Blur by a Gaussian of random width, with torchvision's pixels and the map of `Blur`.

    sigma: least and largest standard deviation in pixels, uniform between them; kernel_size: odd,
    in pixels; probability: that an image is blurred at all. A Gaussian of standard deviation s is
    heat that has spread as far, so t = log(s / 0.3) / log(side / 0.3), at least 0, and the map is
    multiplied by 1 - t^power.
    Source: as `Blur`; the standard values are those of Chen et al. 2020 (SimCLR), arXiv 2002.05709.
    """

    kernel_size: int = 9
    sigma: tuple[float, float] = (0.1, 2.0)
    power: float = 1.0
    probability: float = 1.0

    def __post_init__(self) -> None:
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError(
                f"GaussianBlur: kernel_size must be odd and above 0, got {self.kernel_size}"
            )
        check_rising("GaussianBlur", "sigma", self.sigma)
        check_positive("GaussianBlur", "power", self.power, "the paper: 1")
        check_unit("GaussianBlur", "probability", self.probability)

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        if self.kernel_size // 2 >= min(height, width):
            raise ValueError(
                f"GaussianBlur: kernel_size must be below twice the side, got {self.kernel_size} "
                f"for images of {height} x {width} pixels"
            )
        uniform = torch.rand(2, n, generator=generator, device="cpu")
        low, high = self.sigma
        sigma = low + (high - low) * uniform[0]
        return {"sigma": torch.where(uniform[1] < self.probability, sigma, 0.0)}

    def apply(self, images: Images, seen: Seen | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        sigma = draws(drawn, "sigma", images, torch.float32)
        height, width = images.shape[-2:]
        # sigma is 0 where an image is not blurred; another value keeps the arithmetic finite there.
        s = torch.where(sigma > 0, sigma, 1.0)
        kernels = _gaussian(s, self.kernel_size)
        # The cost of a sum grows with the kernel, that of a linear map with the image.
        if one_by_one(images) and 5 * self.kernel_size < max(height, width):
            blurred = _blurred_one_by_one(as_float(images), kernels, sigma > 0)
        else:
            axes = (_along(side, kernels) for side in (height, width))
            blurred = resample(as_float(images), *axes)
            blurred = torch.where((sigma > 0)[:, None, None, None], blurred, as_float(images))
        t = (s / LEAST).log() / math.log(max(height, width) / LEAST)
        t = torch.where(sigma > 0, t.clamp(0, 1), 0.0)
        return in_dtype_of(images, blurred), scaled_map(images, seen, 1 - t**self.power)

    __call__ = call


def _heat(s: Float[Tensor, "n"], side: int) -> Float[Tensor, "n side side"]:
    """Heat dissipation along one axis, as a linear map from pixels to pixels."""
    frequency = torch.arange(side, device=s.device) * (math.pi / side)  # radians a pixel
    position = torch.arange(side, device=s.device) + 0.5
    basis = (frequency[:, None] * position).cos() * math.sqrt(2 / side)
    basis = torch.where(frequency[:, None] == 0, math.sqrt(1 / side), basis)
    damping = (-0.5 * (frequency * s[:, None]) ** 2).exp()
    return basis.T @ (damping[:, :, None] * basis)


def _gaussian(s: Float[Tensor, "n"], kernel_size: int) -> Float[Tensor, "n k"]:
    """Sampled Gaussians, each of sum 1."""
    reach = kernel_size // 2
    offset = torch.arange(-reach, reach + 1, device=s.device)
    kernel = (-0.5 * (offset / s[:, None]) ** 2).exp()
    return kernel / kernel.sum(dim=1, keepdim=True)


def _along(side: int, kernels: Float[Tensor, "n k"]) -> Float[Tensor, "n {side} {side}"]:
    """Kernels along one axis, mirrored at the outermost pixels, as linear maps of the pixels."""
    n, kernel_size = kernels.shape
    offset = torch.arange(kernel_size, device=kernels.device) - kernel_size // 2
    source = (torch.arange(side, device=kernels.device)[:, None] + offset).abs()
    source = side - 1 - (side - 1 - source).abs()
    weights = torch.zeros(n, side, side, device=kernels.device)
    index = source.expand(n, -1, -1)
    return weights.scatter_add(2, index, kernels[:, None].expand(-1, side, -1))


def _blurred_one_by_one(
    pixels: Float[Tensor, "n c h w"], kernels: Float[Tensor, "n k"], chosen: Bool[Tensor, "n"]
) -> Float[Tensor, "n c h w"]:
    """Blur the chosen images as sums of themselves, shifted."""
    out = empty(pixels).copy_(pixels)
    reach = kernels.shape[1] // 2
    samples = chosen.nonzero()[:, 0].tolist()
    for sample, kernel in zip(samples, kernels[chosen].tolist(), strict=True):
        spread = F.pad(pixels[sample], [reach] * 4, mode="reflect")
        for axis in (-1, -2):
            size = pixels.shape[axis]
            first, *others = (spread.narrow(axis, at, size) for at in range(len(kernel)))
            spread = first * kernel[0]
            for other, weight in zip(others, kernel[1:], strict=True):
                spread.add_(other, alpha=weight)
        out[sample] = spread
    return out
