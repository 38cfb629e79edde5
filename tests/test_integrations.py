"""The page of integrations: each section's code runs, where its libraries are installed."""

import ast
import copy
import pickle
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Generator
from torch.utils.data import DataLoader, TensorDataset, default_collate

from softaug import Crop, SoftAugment

PAGE = Path(__file__).parent.parent / "docs" / "integrations.md"
BEGINNING, *SECTIONS = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)
K = 10


def code(text: str) -> str:
    return "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))


def packages(program: str) -> set[str]:
    """The top-level packages that a program imports."""
    found = set()
    for node in ast.walk(ast.parse(program)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).partition(".")[0])
    return found


@pytest.mark.filterwarnings("default")  # those of other libraries
@pytest.mark.parametrize(
    "section", [s for s in SECTIONS if code(s)], ids=lambda s: s.partition("\n")[0]
)
def test_the_code_of_a_section_runs(
    section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = code(BEGINNING) + code(section)
    missing = sorted(name for name in packages(program) if find_spec(name) is None)
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    monkeypatch.chdir(tmp_path)
    exec(compile(program, str(PAGE), "exec"), {"__name__": "integrations"})


def augmentation() -> SoftAugment:
    return SoftAugment(Crop(sigma=0.3), K, generator=Generator().manual_seed(0))


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(16, 3, 8, 8), torch.arange(16) % K


def test_switched_off_it_passes_images_and_gives_hard_rows() -> None:
    augment, (images, labels) = augmentation(), batch()
    augment.mixup_enabled = False
    same, rows = augment(images, labels)
    assert torch.equal(same, images)
    assert torch.equal(rows, F.one_hot(labels, K).float())
    augment.mixup_enabled = True
    assert not torch.equal(augment(images, labels)[0], images)


def test_only_the_switch_may_be_set() -> None:
    with pytest.raises(AttributeError, match="cannot assign to field 'num_classes'"):
        augmentation().num_classes = 3


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_a_copy_draws_the_same_and_keeps_the_switch(copied: Any) -> None:
    augment = augmentation()
    twin = copied(augment)
    images, labels = batch()
    assert torch.equal(augment(images, labels)[0], twin(images, labels)[0])
    augment.mixup_enabled = False
    assert copied(augment).mixup_enabled is False
    with pytest.raises(AttributeError):
        twin.num_classes = 3


class Collate:
    """What spawned workers can be sent; they cannot be sent a lambda."""

    def __init__(self, augment: SoftAugment) -> None:
        self.augment = augment

    def __call__(self, samples: list[Any]) -> Any:
        return self.augment(*default_collate(samples))


def test_spawned_workers_receive_it() -> None:
    loader = DataLoader(
        TensorDataset(*batch()),
        8,
        collate_fn=Collate(augmentation()),
        num_workers=1,
        multiprocessing_context="spawn",
    )
    assert [rows.shape for _, rows in loader] == [(8, K)] * 2


def test_rows_that_timms_mixup_spoiled_are_named() -> None:
    from timm.data import Mixup

    augment = augmentation()
    images, spoiled = Mixup(num_classes=K)(*augment(*batch()))
    with pytest.raises(ValueError, match=r"N = 16 .* got \[160, 10\].*Mixup"):
        augment(images, spoiled)
