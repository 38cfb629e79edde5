"""Preprocessing of images for a model that softaug did not train.

n images, c channels, h w pixels.
"""

import math
from dataclasses import dataclass, replace

from jaxtyping import Float32, UInt8
from torch import Tensor

from softaug_lab.basics.errors import UsageError
from softaug_lab.data import centre_crop, fit, with_channels


@dataclass(frozen=True)
class Preprocessing:
    """Scale, crop and normalise: images in [0, 1] minus mean, divided by std.

    mean, std: one number, or one for each channel. scaled: height and width, in pixels, that the
    image is scaled to cover; size: height and width of the crop from its centre. channels, scaled
    and size are None where the images of the data stay as they are.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    channels: int | None = None
    scaled: tuple[int, int] | None = None
    size: tuple[int, int] | None = None

    def replaced(
        self, mean: tuple[float, ...] | None, std: tuple[float, ...] | None, side: int | None
    ) -> "Preprocessing":
        """Replace what the user sets (not None); raises UsageError where it does not fit."""
        mean, std = mean or self.mean, std or self.std
        channels = self.channels or max(len(mean), len(std))
        for key, values in (("--mean", mean), ("--std", std)):
            if len(values) not in (1, channels) or not all(map(math.isfinite, values)):
                expected = "one number" + (f" or {channels}" if channels > 1 else "")
                raise UsageError(f"{key} must be {expected}, got {values}")
        if min(std) <= 0:
            raise UsageError(f"--std must be above 0, got {std}")
        if side is not None and side < 1:
            raise UsageError(f"--input-size must be at least 1 pixel, got {side}")
        square = None if side is None else (side, side)
        return replace(
            self,
            mean=mean,
            std=std,
            scaled=square or self.scaled,
            size=square or self.size,
        )

    def pixels(self, images: UInt8[Tensor, "n c h w"]) -> Float32[Tensor, "n c2 h2 w2"]:
        """Scale and crop uint8 images to float32 in [0, 1], without mean and std."""
        pixels = images.float() / 255
        if self.channels is not None:
            pixels = with_channels(pixels, self.channels)
        if self.scaled is not None:
            pixels = fit(pixels, *self.scaled)
        return pixels if self.size is None else centre_crop(pixels, *self.size)
