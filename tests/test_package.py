"""The package from outside: light to import, its examples run, and it traces under compile."""

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

LIGHT = """
import sys, time, torch
began = time.process_time()
from softaug import SoftAugment
spent = time.process_time() - began
others = {"torchvision", "timm", "matplotlib", "scipy", "PIL", "cyclopts"}
assert not others & set(sys.modules)
assert not [name for name in sys.modules if name.startswith("softaug_lab")]
assert spent < 0.3, spent
"""

HELP = """
import sys
from softaug_lab.cli.app import main
for command in ([], ["train"], ["compare"]):
    main([*command, "--help"])
assert "torch" not in sys.modules
"""

COMPILED = """
import torch, softaug
from softaug import Chain, Crop, Flip, SoftAugment, UniformCrop, per_sample

for weight in (None, per_sample):
    augment = SoftAugment(Chain([Flip(), Crop(0.3), UniformCrop(2)]), 10, weight=weight)
    drawn = augment.transform.draw(8, 16, 16, torch.Generator().manual_seed(0))

    def step(images, labels, drawn):
        images, seen = augment.transform.apply(images, None, drawn)
        return images, augment.targets(labels, softaug.visibility(seen))

    def call(images, labels, drawn):
        return augment(images, labels, drawn=drawn)

    for function in (step, call):
        compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
        for images in (torch.rand(8, 3, 16, 16), torch.ones(8, 1, 16, 16, dtype=torch.uint8)):
            for labels in (torch.arange(8), torch.rand(8, 10)):
                got, expected = (f(images, labels, drawn) for f in (compiled, function))
                assert all(map(torch.equal, got, expected))
"""


@pytest.mark.parametrize(
    "program", [LIGHT, pytest.param(COMPILED, marks=pytest.mark.slow)], ids=["import", "compile"]
)
def test_in_a_fresh_process(program: str) -> None:
    # A process of its own: nothing is imported there yet, and no shapes are checked.
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_needs_no_torch() -> None:
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_examples_in_docstrings() -> None:
    import torch

    import softaug

    names = [m.name for m in pkgutil.walk_packages(softaug.__path__, "softaug.")]
    attempted = 0
    for name in names:
        if not name.endswith("__main__"):
            found = doctest.testmod(importlib.import_module(name), extraglobs={"torch": torch})
            assert found.failed == 0, name
            attempted += found.attempted
    assert attempted > 5


@pytest.mark.parametrize(
    ("example", "printed"),
    [
        ("training_loop.py", r"epoch 1: top-1 error [\d.]+%\n"),
        (
            "multi_label.py",
            r"(base-rates 0 (whole  |cut off) mAP 0\.\d+  BCE [\d.]+  ECE [\d.]+\n){2}",
        ),
    ],
)
def test_the_examples_run(example: str, printed: str) -> None:
    program = [sys.executable, str(ROOT / "examples" / example)]
    options = ["--epochs", "1", "--images", "500"]
    done = subprocess.run([*program, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(printed, done.stdout)
