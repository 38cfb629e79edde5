"""The built wheel in two environments that hold nothing but what its metadata requires."""

import os
import subprocess
import sys
import zipfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent

TWO_LINES = """
import torch, torch.nn.functional as F
from softaug import Crop, SoftAugment
images, labels = torch.rand(8, 3, 32, 32), torch.arange(8)
images, targets = SoftAugment(Crop(sigma=0.3), num_classes=10)(images, labels)
loss = F.cross_entropy(torch.zeros(8, 10), targets)
assert torch.isfinite(loss)
import softaug_lab.basics.errors  # it is in the wheel, what it requires is not
from softaug import TrivialAugment
try:
    TrivialAugment()(torch.rand(8, 3, 32, 32))
except ImportError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(folder), str(ROOT)], check=True)
    return next(folder.glob("softaug-*.whl"))


def environment(wheel: Path, folder: Path, extras: set[str]) -> list[str]:
    """A command that runs Python with the wheel and links to its requirements, and no other.

    The requirements are those of the wheel's own metadata, and theirs, as they are installed here.
    """
    folder.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    own = Distribution.at(next(folder.glob("softaug-*.dist-info")))
    asked = [(Requirement(text), extras) for text in own.requires or ()]
    linked: set[str] = set()
    while asked:
        requirement, wanted = asked.pop()
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in (wanted or {""})):
            continue
        try:
            found = distribution(requirement.name)
        except PackageNotFoundError:
            pytest.fail(f"{requirement} is not installed here")
        if found.name not in linked:
            linked.add(found.name)
            asked += [(Requirement(text), requirement.extras) for text in found.requires or ()]
            for name in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
                if not (folder / name).exists():
                    (folder / name).symlink_to(str(found.locate_file(name)))
    start = f"import runpy, sys; sys.path.insert(0, {str(folder)!r}); sys.argv[0:1] = []; "
    return [sys.executable, "-I", "-S", "-c", start]


def run(
    command: list[str], code: str, *arguments: str, cwd: Path
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command[:-1], command[-1] + code, *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )


COMMAND_LINE = "sys.argv.insert(0, 'softaug'); from softaug_lab.cli import main; main()"


def test_the_wheel_alone_is_the_method(wheel: Path, tmp_path: Path) -> None:
    python = environment(wheel, tmp_path / "site", extras=set())
    requires = Distribution.at(next((tmp_path / "site").glob("softaug-*.dist-info"))).requires
    assert len([text for text in requires or () if "extra ==" not in text]) <= 4
    done = run(python, f"exec({TWO_LINES!r})", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "TrivialAugment needs torchvision: pip install 'softaug[lab]'\n"
    done = run(python, COMMAND_LINE, "train", "demo", cwd=tmp_path)
    assert done.returncode == 2
    expected = "softaug: the command line needs more packages: pip install 'softaug[lab]'\n"
    assert done.stderr == expected


@pytest.mark.slow
def test_the_wheel_with_the_lab_trains_and_reports(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {"softaug/py.typed", "softaug_lab/recipes/shipped/cifar.yaml"} <= set(names)
    page = {
        f"softaug_lab/explore/page/{name}" for name in ("index.html", "explore.css", "explore.js")
    }
    assert page <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert any(name.endswith("FASHION-MNIST-LICENSE") for name in names)
    assert not any(name.startswith("tests") for name in names)
    python = environment(wheel, tmp_path / "site", extras={"lab"})
    options = ["--train-images", "100", "--epochs", "1", "--run", "run"]
    done = run(python, COMMAND_LINE, "train", "demo", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
