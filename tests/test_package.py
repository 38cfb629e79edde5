"""The package from outside: light to import, its examples run, and it traces under compile."""

import doctest
import importlib
import subprocess
import sys

import pytest

LIGHT = """
import sys, time, torch
began = time.perf_counter()
import softaug
spent = time.perf_counter() - began
others = {"torchvision", "timm", "matplotlib", "scipy", "PIL", "cyclopts"}
assert not others & set(sys.modules)
assert not [name for name in sys.modules if name.startswith("softaug.lab")]
assert spent < 0.3, spent
"""

COMPILED = """
import torch, softaug
from softaug import Chain, Crop, Flip, SoftAugment, UniformCrop, per_sample

for weight in (None, per_sample):
    augment = SoftAugment(Chain([Flip(), Crop(0.3), UniformCrop(2)]), 10, weight=weight)
    drawn = augment.transform.draw(8, 16, 16, torch.Generator().manual_seed(0))

    def step(images, labels, drawn):
        images, seen = augment.transform.apply(images, None, drawn)
        return images, augment.targets(labels, seen)

    def call(images, labels, drawn):
        return augment(images, labels, drawn=drawn)

    for function in (step, call):
        compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
        for images in (torch.rand(8, 3, 16, 16), torch.ones(8, 1, 16, 16, dtype=torch.uint8)):
            for labels in (torch.arange(8), torch.rand(8, 10)):
                got, expected = (f(images, labels, drawn) for f in (compiled, function))
                assert all(map(torch.equal, got, expected))
"""


@pytest.mark.parametrize("program", [LIGHT, COMPILED], ids=["import", "compile"])
def test_in_a_fresh_process(program: str) -> None:
    # A process of its own: nothing is imported there yet, and no shapes are checked.
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["transforms", "visibility", "curves", "softening", "augment"])
def test_examples_in_docstrings(name: str) -> None:
    import torch

    module = importlib.import_module(f"softaug.{name}")
    found = doctest.testmod(module, extraglobs={"torch": torch})
    assert found.attempted > 0
    assert found.failed == 0
