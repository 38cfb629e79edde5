"""What all tests share: shapes are checked on every call, and small runs are spared their frills.

Every annotated shape of the method is checked, under pytest only. In the tests of the lab, reports
are drawn where reports are tested; elsewhere an empty SVG stands for each figure, which the tests
of the command line plot nevertheless. Intervals are resampled 500 times and noise floors drawn 200
times in the tests of metrics, 20 times elsewhere. A pace is measured by 10 steps, however short.
One Chromium serves all tests that look at pages.
"""

import importlib
import os
import shutil
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

METHOD = ("transforms", "maps", "curves", "targets", "augment")
install_import_hook([f"softaug.{name}" for name in METHOD], "checker.check")
pytest.register_assert_rewrite("contract")

torch.set_num_threads(1)
# Autograd begins here: beside a made-up CUDA device it would begin threads, and no fork could run.
torch.ones(1, requires_grad=True).sum().backward()
settings.register_profile("softaug", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("softaug")

CALIBRATION = "softaug_lab.metrics.calibration"
DRAWINGS = "softaug_lab.report.drawings"
PLOTTED = ("test_cli",)
DRAWN = ("test_report", "test_report_in_browser")
MEASURED = (
    "test_calibration", "test_classwise", "test_measure", "test_metrics", "test_recomputed",
)  # fmt: skip
FLAGS = (
    *("headless", "disable-gpu", "hide-scrollbars", "no-first-run", "disable-sync"),
    *("disable-background-networking", "disable-component-update", "disable-dev-shm-usage"),
)


@pytest.fixture(scope="module", autouse=True)
def small_runs_are_fast(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave out most of the time of a small run, where it is not what the module tests."""
    name = request.path.stem
    with pytest.MonkeyPatch.context() as patched:
        if request.path.parent.name == "lab":
            if name in PLOTTED:
                patched.setattr(f"{DRAWINGS}._svg", _blank)
            elif name not in DRAWN:
                _leave_out_figures(patched)
            patched.setattr("softaug_lab.experiments.cost.SECONDS", 0.0)
            if name not in MEASURED:
                for module in ("calibration", "classwise"):
                    target = f"softaug_lab.metrics.{module}.bootstrap_interval"
                    patched.setattr(target, _few_resamples)
                floor = partial(importlib.import_module(CALIBRATION).floor, draws=20)
                patched.setattr(f"{CALIBRATION}.floor", floor)
        yield


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin runs as copies of this process: a new one imports for 8 seconds."""
    copies = importlib.import_module("support").Copies()
    monkeypatch.setattr("softaug_lab.experiments.jobs.get_context", lambda _: copies)


@pytest.fixture
def blank_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out nearly all of the time that a page takes, where its text is what matters."""
    _leave_out_figures(monkeypatch)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium, driven by selenium; tests of it are skipped where either is missing."""
    webdriver = pytest.importorskip("selenium.webdriver")
    pytest.importorskip("axe_core_python")
    binary = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in FLAGS:
        options.add_argument(f"--{flag}")
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # which Chromium refuses to root
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)) as opened:
        opened.set_script_timeout(200)  # axe takes half a minute on a busy machine
        yield opened


def _leave_out_figures(patch: pytest.MonkeyPatch) -> None:
    for kind in ("lines", "pairs", "softening", "reliability"):
        patch.setattr(f"{DRAWINGS}.plot_{kind}", _blank)


def _blank(*figure: object, **options: object) -> str:
    del figure, options
    return "<svg></svg>"


def _few_resamples(
    statistic: Any, images: int, resamples: int, *others: Any
) -> tuple[float, float]:
    from softaug_lab.metrics.significance import bootstrap_interval

    del resamples
    return bootstrap_interval(statistic, images, 20, *others)
