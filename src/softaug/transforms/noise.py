"""Noise: added to the image, or mixed into it until only noise is left."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from softaug.checks import check_numbers, check_positive, check_unit
from softaug.transforms.base import Drawn, Images, Seen, call, draws
from softaug.transforms.hashed_noise import draw_seeds, standard_normal
from softaug.transforms.pixels import as_float, in_dtype_of, per_channel, scaled_map, white


@dataclass(frozen=True)
class Noise:
    """Add normal noise of a random amplitude: x + a e, and keep s^2 / (s^2 + a^2 sigma^2).

    a is normal with standard deviation `amplitude`, one for each image; e is normal with standard
    deviation `sigma` for each pixel; s is `std`. The map is multiplied by the share of the variance
    that is the image's own.

    amplitude, sigma: 0 or more; std: above 0, the standard deviation of the data's pixels, 1 for
    normalised images. All in units where white is 1 (a unit is 255 for uint8 images).

    At the paper's amplitude and sigma, 0.1 and 0.1, the noise is faint (a standard deviation of
    0.01) and hardly softens: at std 0.25 more than 0.99 is kept by 98 of 100 images. The rule of a
    follow-up for noise on the whole image (Siedel et al. 2025) is as mild: confidences of 0.993 and
    more.
    Source: Liu et al. 2023, table 6.
    """

    amplitude: float = 0.1
    sigma: float = 0.1
    std: float = 0.25

    def __post_init__(self) -> None:
        check_numbers("Noise", "amplitude, sigma and std", self.amplitude, self.sigma, self.std)
        for name in ("amplitude", "sigma"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"Noise: {name} must be 0 or more, got {getattr(self, name)}")
        if not 0 < self.std < math.inf:
            raise ValueError(
                "Noise: std is that of the data's pixels, expected a number above 0, "
                f"got {self.std}"
            )

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        amplitude = self.amplitude * torch.randn(n, generator=generator, device="cpu")
        return {"amplitude": amplitude, "seed": draw_seeds(n, generator)}

    def apply(self, images: Images, seen: Seen | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        noise_std = self.sigma * draws(drawn, "amplitude", images, torch.float32)
        scaled = white(images) * noise_std[:, None, None, None]
        noisy = as_float(images) + scaled * _noise(images, drawn)
        kept = self.std**2 / (self.std**2 + noise_std**2)
        return in_dtype_of(images, noisy), scaled_map(images, seen, kept)

    __call__ = call


@dataclass(frozen=True)
class DiffusionNoise:
    """Mix the image with noise at constant variance: cos(pi t/2) x + sin(pi t/2) e.

    x is the image less `mean`, in units of `std`; e is standard normal. The map is multiplied by
    cos^2(pi t/2), the share of the variance that is the image's own. t in [0, 1] follows
    Beta(1, beta): the larger beta, the milder.

    mean, std: of the data's pixels, numbers or one for each channel, in units where white is 1 (a
    unit is 255 for uint8 images); 0 and 1 for normalised images.
    probability: that noise is added at all (a third in the paper, beside blur and clean images).
    Source: Heinonen et al. 2025, "Data mollification", arXiv 2406.01494.
    """

    beta: float = 2.0
    mean: float | Sequence[float] = 0.5
    std: float | Sequence[float] = 0.25
    probability: float = 1.0

    def __post_init__(self) -> None:
        check_beta("DiffusionNoise", self.beta, self.probability)
        values = self.std if isinstance(self.std, Sequence) else (self.std,)
        check_numbers("DiffusionNoise", "std", *values)
        if not all(0 < value < math.inf for value in values):
            raise ValueError(
                "DiffusionNoise: std is that of the data's pixels, expected numbers above 0, "
                f"got {self.std}"
            )

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        t = beta_distributed(n, self.beta, self.probability, generator)
        return {"t": t, "seed": draw_seeds(n, generator)}

    def apply(self, images: Images, seen: Seen | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        angle = draws(drawn, "t", images, torch.float32) * (math.pi / 2)
        mean, std = (white(images) * _of_data(v, images) for v in (self.mean, self.std))
        signal, noise = (part[:, None, None, None] for part in (angle.cos(), angle.sin()))
        mixed = mean + signal * (as_float(images) - mean) + noise * std * _noise(images, drawn)
        # Without noise the image must stay as it is, to the last bit.
        mixed = torch.where(angle[:, None, None, None] == 0, as_float(images), mixed)
        return in_dtype_of(images, mixed), scaled_map(images, seen, angle.cos() ** 2)

    __call__ = call


def beta_distributed(
    n: int, beta: float, probability: float, generator: Generator | None
) -> Float[Tensor, "n"]:
    """Draw strengths t in [0, 1] from Beta(1, beta); t is 0 with 1 less the probability."""
    uniform = torch.rand(2, n, generator=generator, device="cpu")
    t = 1 - (1 - uniform[0]) ** (1 / beta)
    return torch.where(uniform[1] < probability, t, 0.0)


def check_beta(owner: str, beta: float, probability: float) -> None:
    check_positive(owner, "beta", beta, "the paper: 2")
    check_unit(owner, "probability", probability)


def _noise(images: Images, drawn: Drawn) -> Float[Tensor, "n c h w"]:
    _, channels, height, width = images.shape
    return standard_normal(draws(drawn, "seed", images), (channels, height, width))


def _of_data(values: float | Sequence[float], images: Images) -> Tensor:
    """The data's mean or std as a tensor [1,C,1,1] (C = 1 for one value)."""
    if isinstance(values, Sequence) and len(values) == 1:
        (values,) = values
    dtype = as_float(images[:0]).dtype
    return per_channel("DiffusionNoise: mean and std", values, images, dtype)
