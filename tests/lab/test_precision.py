"""bfloat16 on CPUs is taken only where torch computes right numbers in it."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from softaug_lab.basics.errors import UsageError
from softaug_lab.models.card import ModelCard
from softaug_lab.models.classifier import Classifier, build
from softaug_lab.recipes.recipe import Recipe
from softaug_lab.training import precision
from softaug_lab.training.precision import autocast_dtype, narrow_convolution
from softaug_lab.training.simsiam import SimSiam

CPU = torch.device("cpu")


def model(name: str, height: int, width: int) -> Classifier:
    return build(ModelCard(name, ("a", "b"), 3, height, width), (0.0,), (1.0,))


NARROW = [("test_resnet", 6, 6), ("small", 4, 4), ("small", 64, 8)]
WIDE = [("test_resnet", 32, 32), ("small", 8, 8), ("small", 32, 32), ("small", 9, 64)]


@pytest.mark.parametrize("shape", NARROW)
def test_the_layer_that_meets_too_few_columns_is_named(shape: tuple[str, int, int]) -> None:
    tiny = model(*shape)
    states = {name: value.clone() for name, value in tiny.state_dict().items()}
    described = narrow_convolution(tiny)
    assert described is not None
    name, _, _ = described.partition(" ")
    assert isinstance(tiny.network.get_submodule(name), torch.nn.Conv2d)
    assert tiny.training
    assert all(torch.equal(states[name], value) for name, value in tiny.state_dict().items())


@pytest.mark.parametrize("shape", WIDE)
def test_others_are_not(shape: tuple[str, int, int]) -> None:
    assert narrow_convolution(model(*shape)) is None


@pytest.mark.parametrize("wrap", [lambda m: m, SimSiam], ids=["labels", "simsiam"])
def test_auto_is_fp32_and_bf16_is_refused(
    wrap: type[SimSiam], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_bf16", lambda _: True)
    tiny, large = wrap(model("small", 4, 4)), wrap(model("small", 32, 32))
    assert autocast_dtype(Recipe(), tiny, CPU) is None
    assert autocast_dtype(Recipe(), large, CPU) is torch.bfloat16
    assert autocast_dtype(Recipe(precision="fp32"), large, CPU) is None
    with pytest.raises(UsageError, match=r"moves 2 px at a time over 1 px.*--precision fp32"):
        autocast_dtype(Recipe(precision="bf16"), tiny, CPU)
    monkeypatch.setattr(precision, "has_bf16", lambda _: False)
    assert autocast_dtype(Recipe(), large, CPU) is None
    assert autocast_dtype(Recipe(precision="bf16"), large, CPU) is torch.bfloat16


def convolved(x: Tensor, weight: Tensor, stride: int, padding: int) -> tuple[Tensor, ...]:
    """The output, and the gradients of its sum of products with fixed numbers."""
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    out = F.conv2d(x, weight, None, stride, padding)
    made = torch.rand(out.shape, generator=torch.Generator().manual_seed(1)) - 0.5
    last = made.to(out.dtype).contiguous(memory_format=torch.channels_last)
    return out, *torch.autograd.grad(out, (x, weight), last)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_torch_computes_right_what_the_rule_lets_pass(kernel: int) -> None:
    """Beside fp32, after memory that holds NaN was freed for the results to lie in."""
    generator = torch.Generator().manual_seed(0)
    for height, width, stride, outputs in product((1, 2, 5, 9), (1, 2, 3, 4), (1, 2, 4), (32, 48)):
        if width < stride or (width == stride and height > width):
            continue
        x = torch.rand(8, 16, height, width, generator=generator).bfloat16() - 0.5
        x = x.contiguous(memory_format=torch.channels_last)
        weight = torch.rand(outputs, 16, kernel, kernel, generator=generator).bfloat16() - 0.5
        freed = [torch.full((weight.numel(),), torch.nan, dtype=dtype) for dtype in
                 (torch.bfloat16, torch.float32) for _ in range(2)]  # fmt: skip
        del freed
        padding = kernel // 2
        exact = convolved(x.float(), weight.float(), stride, padding)
        for ours, right in zip(convolved(x, weight, stride, padding), exact, strict=True):
            difference = (ours.float() - right).abs().max()
            assert difference <= 0.05 * right.abs().max(), (height, width, stride, outputs)
