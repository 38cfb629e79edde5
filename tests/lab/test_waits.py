"""The training loop on a made-up GPU: what it launches in each step, and that no step waits."""

from collections.abc import Iterator
from pathlib import Path
from statistics import mean

import pytest
import torch
from fakes import watched
from support import stripes
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException
from torchvision.transforms import v2

from softaug_lab.basics.processes import Processes
from softaug_lab.data.dataset import Data
from softaug_lab.models.logits import predict_logits
from softaug_lab.recipes.recipe import Recipe
from softaug_lab.runs.folder import open_run
from softaug_lab.training import reports
from softaug_lab.training.augmentation import resolve
from softaug_lab.training.loop import fit
from softaug_lab.training.objective import build_objective
from softaug_lab.training.pace import Pace, pace_of
from softaug_lab.training.prepared import Prepared
from softaug_lab.training.step import Step

BLOCK = pace_of(torch.device("cuda")).block
STEPS = 2 * BLOCK
CLASSES = ("rows", "columns", "checks")


@pytest.fixture(scope="module")
def data() -> Data:
    return Data("stripes", CLASSES, stripes(STEPS * 8, 0), stripes(30, 1))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a GPU has and fake tensors have not: memory to ask for, events, numbers, parameters."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (2**40, 2**40))
    monkeypatch.setattr(reports, "mark", lambda _: None)
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", False)
    monkeypatch.setattr(v2.MixUp, "make_params", lambda *_: {"lam": 0.4})
    box = {"box": (2, 3, 9, 10), "lam_adjusted": 0.6}
    monkeypatch.setattr(v2.CutMix, "make_params", lambda *_: box)
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    yield
    torch.__future__.set_overwrite_module_params_on_conversion(before)


def run_on_fakes(recipe: Recipe, data: Data, folder: Path) -> tuple[list[int], list[str]]:
    """Train one epoch; return each step's launches beside the model's, and all waits.

    Reports are never due, so that the first value is asked for at the epoch's end.
    """
    objective = build_objective(recipe, data, Processes(torch.device("cpu")))
    objective.processes = Processes(torch.device("cuda"))  # type: ignore[attr-defined]
    run = open_run(folder, recipe, data, {}, resume=False)
    outside: list[int] = []
    waits: list[str] = []

    with watched() as seen:
        objective.load(objective.state())  # onto the device

        class Counting(Step):
            """Notes what was launched since the last backward pass."""

            def gradients(self, prepared: Prepared) -> tuple[Tensor, Tensor]:
                # On tensors with values, one launch computes the norms of all gradients.
                norms = seen.launched.pop("aten.linalg_vector_norm.default", 0)
                outside.append(seen.launches + (2 if norms else 0))
                if not outside[1:]:
                    seen.waits.clear()  # of moving model and data there, once
                with torch.no_grad():  # autograd's engine wants a driver
                    outputs = self.wrapped(prepared.inputs)
                    loss = self.objective.loss(outputs.float(), prepared.targets)
                for parameter in self.model.parameters():
                    parameter.grad = torch.empty_like(parameter)
                seen.launched.clear()
                return outputs, loss

        with pytest.raises(DataDependentOutputException):
            fit(
                recipe,
                data,
                run,
                Processes(torch.device("cuda")),
                lambda _: None,
                objective=objective,
                make_step=Counting,
                pace=Pace(lag=10**6, block=BLOCK),
            )
        waits += seen.waits
    assert len(outside) == STEPS
    return outside, waits


@pytest.mark.parametrize(
    ("arm", "most"),
    [
        ("standard", 30),
        ("auto", 30),
        ("soft-both", 30),
        ("standard-smoothed", 30),
        ("focal", 30),
        ("online-smoothed", 30),
        ("soft-weight", 30),
        ("mixup", 30),
        ("cutmix", 30),
        ("duq", 40),  # moves its centroids
        ("simsiam", 42),  # follows the spread of its features
        ("simsiam-soft", 60),  # and weights each batch's pairs
    ],
)
def test_no_step_waits(arm: str, most: int, data: Data, tmp_path: Path, gpu: None) -> None:
    del gpu
    recipe = resolve(Recipe(arm=arm, epochs=1, batch_size=8, end_epochs=0, precision="fp32"), data)
    launches, waits = run_on_fakes(recipe, data, tmp_path / "run")
    assert waits == []
    assert mean(launches[BLOCK:]) <= most  # of the second block, with its augmentation


def test_an_evaluation_reads_its_logits_once(data: Data, gpu: None) -> None:
    del gpu
    objective = build_objective(Recipe(epochs=1), data, Processes(torch.device("cpu")))
    with watched() as seen:
        model = objective.model.to("cuda")
        seen.waits.clear()
        logits = predict_logits(model, data.test.images, batch_size=8)
    assert logits.shape == (30, 3)
    assert seen.waits == ["aten._to_copy.default [(30, 3), (30, 3)]"]
