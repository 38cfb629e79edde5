"""Make a data set of spectrograms: short made-up sounds in noise, told apart by their course.

    python scripts/make_sounds.py FOLDER [--sounds 1000] [--seed 0]

Each sound lasts a second at 8 kHz: a tone with overtones and a random pitch, loudness and length,
in white noise. Its class is how the pitch or the loudness moves. FOLDER gets `train/CLASS/` and
`test/CLASS/` with spectrograms as .npy files, float32 [48,64] in [0, 1]: 48 frequencies from high
to low, 64 steps of time, 60 dB from 0 to 1. The same seed writes the same files.
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

RATE, FREQUENCIES, STEPS, DECIBELS = 8000, 48, 64, 60.0
# What the pitch (in octaves around its middle) and the loudness do from 0 to 1 of the sound.
COURSES: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "steady": lambda t: (0 * t, 1 + 0 * t),
    "rising": lambda t: (t - 0.5, 1 + 0 * t),
    "falling": lambda t: (0.5 - t, 1 + 0 * t),
    "arch": lambda t: (0.5 - (2 * t - 1).abs(), 1 + 0 * t),
    "valley": lambda t: ((2 * t - 1).abs() - 0.5, 1 + 0 * t),
    "warble": lambda t: (0.2 * (10 * math.pi * t).sin(), 1 + 0 * t),
    "pulses": lambda t: (0 * t, (12 * math.pi * t).sin().gt(0).float()),
    "fading": lambda t: (0 * t, (-4 * t).exp()),
}


def uniform(low: float, high: float, generator: Generator) -> float:
    """Draw a number from low to high."""
    return low + (high - low) * torch.rand((), generator=generator).item()


def sound(course: Callable[[Tensor], tuple[Tensor, Tensor]], generator: Generator) -> Tensor:
    """Draw one second of a sound with this course, [8000]."""
    length = int(uniform(0.5, 0.9, generator) * RATE)
    octaves, loudness = course(torch.linspace(0, 1, length))
    pitch = uniform(350, 800, generator) * 2**octaves
    phase = 2 * math.pi * (pitch / RATE).cumsum(dim=0)
    tone = sum(
        (n * phase).sin() * uniform(0.2, 1, generator) / n * (n * pitch < RATE / 2)
        for n in range(1, 5)
    )
    assert isinstance(tone, Tensor)
    signal = 0.3 * torch.randn(RATE, generator=generator)
    start = int(uniform(0, RATE - length, generator))
    signal[start : start + length] += uniform(0.4, 1.2, generator) * loudness * tone
    return signal


def spectrogram(signal: Tensor) -> Tensor:
    """Compute the level of frequencies over time, [48,64] in [0, 1]."""
    size = 2 * (FREQUENCIES - 1)
    found = torch.stft(
        signal, size, RATE // STEPS, window=torch.hann_window(size), return_complex=True
    )
    level = 20 * found.abs().clamp(min=1e-6).log10()[:, :STEPS].flip(0)
    return ((level + DECIBELS / 2) / DECIBELS).clamp(0, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sounds", type=int, default=1000, help="to train on; as many to test on")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    generator = Generator().manual_seed(options.seed)
    for part in ("train", "test"):
        for i in range(options.sounds):
            name = list(COURSES)[i % len(COURSES)]
            path = options.folder / part / name / f"{i:05}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, spectrogram(sound(COURSES[name], generator)).numpy())


if __name__ == "__main__":
    main()
