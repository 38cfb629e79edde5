"""Noise without a state: random numbers that a seed for each sample determines."""

import math

import numpy as np
import torch
from jaxtyping import Float, Int, Int64, UInt8
from torch import Generator, Tensor


def draw_seeds(n: int, generator: Generator | None) -> Int[Tensor, "n"]:
    """Draw one seed for each sample, int64 [n] on the CPU, for noise that is computed later."""
    return torch.randint(2**62, (n,), generator=generator, device="cpu")


def standard_normal(
    seed: Int[Tensor, "n"], shape: tuple[int, int, int]
) -> Float[Tensor, "n c h w"]:
    """Normal noise of mean 0 and std 1 that depends on each sample's seed and nothing else.

    seed: int64 [n], 0 or more; shape: C, H, W. The noise is a hash of the seed and a counter: what
    is drawn is one number, and the noise is the same in every batch and however often it is
    computed, on other devices up to rounding.
    """
    # 24 bits, centred: odd multiples of 2^-24, which float32 holds and which are never -1 or 1.
    bits = (random_bits(seed, shape) >> 8) & 0xFFFFFF
    uniform = (bits * 2 + (1 - 2**24)).float() / 2**24
    return math.sqrt(2) * uniform.erfinv()


def random_bits(seed: Int[Tensor, "n"], shape: tuple[int, int, int]) -> Int[Tensor, "n c h w"]:
    """32 random bits for every pixel, int32, by the hash of `standard_normal`."""
    counter = torch.arange(math.prod(shape), dtype=torch.int32, device=seed.device)
    x = _mixed(counter * _signed(0x9E3779B9) + seed.to(torch.int32)[:, None])
    return _mixed(x ^ (seed >> 32).to(torch.int32)[:, None]).view(-1, *shape)


def random_bytes(seed: Int[Tensor, "n"], shape: tuple[int, int, int]) -> UInt8[Tensor, "n c h w"]:
    """A random byte for every pixel, uint8 in 0 ... 255, by one round of the same hash.

    A hash of 32 bits gives four bytes, so that a pixel costs an eighth of one of `random_bits`. Two
    samples share bytes if their seeds, folded to 32 bits, are close: one pair in a million.
    """
    count = math.prod(shape)
    counter = torch.arange(-(-count // 4), dtype=torch.int32, device=seed.device)
    folded = (seed ^ (seed >> 32)).to(torch.int32)[:, None]
    words = _mixed(counter * _signed(0x9E3779B9) + folded)
    made = words.flatten().view(torch.uint8).view(len(seed), 4 * len(counter))
    return made[:, :count].reshape(len(seed), *shape)


def random_bytes_by_numpy(
    seed: Int64[np.ndarray, "n"], shape: tuple[int, int, int]
) -> UInt8[np.ndarray, "n c h w"]:
    """`random_bytes` on a CPU, where NumPy takes a half of torch's time, and less for few seeds."""
    count = math.prod(shape)
    folded = (seed ^ (seed >> 32)).astype(np.uint32)[:, None]
    words = np.arange(-(-count // 4), dtype=np.uint32) * 0x9E3779B9 + folded
    shifted = np.empty_like(words)
    for places, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, None)):
        words ^= np.right_shift(words, places, out=shifted)
        if factor:
            words *= factor
    made: UInt8[np.ndarray, "n c h w"] = words.view(np.uint8)[:, :count].reshape(len(seed), *shape)
    return made


def _mixed(x: Int[Tensor, "n m"]) -> Int[Tensor, "n m"]:
    """The finaliser of MurmurHash3 (Appleby, public domain), in the memory of x, int32.

    Products wrap. Shifts to the right repeat the sign, and the masks remove it.
    """
    x ^= (x >> 16) & 0xFFFF
    x *= _signed(0x85EBCA6B)
    x ^= (x >> 13) & 0x7FFFF
    x *= _signed(0xC2B2AE35)
    x ^= (x >> 16) & 0xFFFF
    return x


def _signed(bits: int) -> int:
    """A number of 32 bits, of which the highest is set, as the int32 with the same bits."""
    return bits - 2**32
