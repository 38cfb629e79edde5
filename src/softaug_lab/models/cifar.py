"""CIFAR networks that timm lacks, written from their papers: WideResNet and PyramidNet.

Both are pre-activation networks: batch norm and ReLU come before each convolution, and blocks only
add to the path from the first convolution to the last norm.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx


def wide_resnet(channels: int, num_classes: int, depth: int = 28, width: int = 10) -> nn.Module:
    """Build WRN-28-10 without dropout: 36,479,194 parameters at 3 channels and 10 classes.

    Source: Zagoruyko and Komodakis 2016, "Wide Residual Networks", arXiv 1605.07146.
    """
    blocks, layers, inputs = (depth - 4) // 6, [], 16
    for group, outputs in enumerate((16 * width, 32 * width, 64 * width)):
        for block in range(blocks):
            stride = 2 if group > 0 and block == 0 else 1
            layers.append(_WideBlock(inputs, outputs, stride))
            inputs = outputs
    return _assemble(channels, layers, inputs, num_classes)


def pyramid_net(
    channels: int, num_classes: int, depth: int = 272, widening: int = 200
) -> nn.Module:
    """Build PyramidNet-272 of bottlenecks with ShakeDrop: 26,049,562 parameters at 10 classes.

    Each of the n blocks is wider than the one before by widening / n. The probability that
    ShakeDrop leaves a block unchanged falls linearly from 1 to 1/2 at the last block.

    Widths are rounded down, as in the paper, whose table gives 26.0 million parameters;
    implementations that round to the nearest have 26,210,842.

    Source: Han et al. 2017, "Deep Pyramidal Residual Networks", arXiv 1610.02915; Yamada et al.
    2018, "ShakeDrop", arXiv 1802.02375.
    """
    blocks, layers, inputs = (depth - 2) // 9, [], 16
    total = 3 * blocks
    for number in range(1, total + 1):
        width = 16 + widening * number // total
        stride = 2 if number in (blocks + 1, 2 * blocks + 1) else 1
        keep = 1 - 0.5 * number / total
        layers.append(_PyramidBlock(inputs, width, stride, keep))
        inputs = 4 * width
    return _assemble(channels, layers, inputs, num_classes, norm_first=True)


class ShakeDrop(nn.Module):
    """ShakeDrop: in training, scale a branch by one random factor forward, another backward.

    Forward factor: b + alpha - b alpha. Backward: b + beta - b beta. b is 1 with probability
    `keep`, else 0; alpha is uniform in [-1, 1], beta in [0, 1]. All three are drawn for each image,
    from torch's global generator. In evaluation the factor is the mean, `keep`.

    Source: Yamada et al. 2018, "ShakeDrop", arXiv 1802.02375.
    """

    def __init__(self, keep: float) -> None:
        super().__init__()
        self.keep = keep

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training:
            return branch * self.keep
        b, alpha, beta = torch.rand(3, len(branch), 1, 1, 1, device=branch.device)
        forward, backward = (torch.where(b < self.keep, 1.0, x) for x in (2 * alpha - 1, beta))
        scaled: Tensor = _Scale.apply(branch, forward.to(branch), backward.to(branch))
        return scaled


class _Scale(torch.autograd.Function):
    """Multiply by one factor forward and by another backward."""

    @staticmethod
    def forward(ctx: FunctionCtx, branch: Tensor, forward: Tensor, backward: Tensor) -> Tensor:
        ctx.save_for_backward(backward)
        return branch * forward

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (factor,) = ctx.saved_tensors
        return gradient * factor, None, None


class _WideBlock(nn.Module):
    """Two 3x3 convolutions; where the width changes, the shortcut starts after the first ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.activation = _norm(inputs, relu=True)
        self.body = nn.Sequential(
            _conv(inputs, outputs, 3, stride), _norm(outputs, relu=True), _conv(outputs, outputs, 3)
        )
        self.shortcut = None if inputs == outputs else _conv(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        active = self.activation(x)
        shortcut = x if self.shortcut is None else self.shortcut(active)
        total: Tensor = shortcut + self.body(active)
        return total


class _PyramidBlock(nn.Module):
    """1x1, 3x3 and 1x1 convolutions to 4 times the width; the shortcut is padded with zeros."""

    def __init__(self, inputs: int, width: int, stride: int, keep: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _norm(inputs, relu=False),
            _conv(inputs, width, 1),
            _norm(width, relu=True),
            _conv(width, width, 3, stride),
            _norm(width, relu=True),
            _conv(width, 4 * width, 1),
            _norm(4 * width, relu=False),
            ShakeDrop(keep),
        )
        self.stride, self.padding = stride, 4 * width - inputs

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.stride == 1 else F.avg_pool2d(x, 2, ceil_mode=True)
        total: Tensor = F.pad(shortcut, (0, 0, 0, 0, 0, self.padding)) + self.body(x)
        return total


def _assemble(
    channels: int,
    blocks: Sequence[nn.Module],
    outputs: int,
    num_classes: int,
    norm_first: bool = False,
) -> nn.Module:
    """Put the blocks between a stem for 32 px and a linear layer, with He's initial weights."""
    network = nn.Sequential(
        _conv(channels, 16, 3),
        *([_norm(16, relu=False)] if norm_first else []),
        *blocks,
        _norm(outputs, relu=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(outputs, num_classes),
    )
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def _conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Module:
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)


def _norm(channels: int, relu: bool) -> nn.Module:
    norm = nn.BatchNorm2d(channels)
    return nn.Sequential(norm, nn.ReLU(inplace=True)) if relu else norm
