"""The program behind `make gpu`, rehearsed without a GPU."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
PROGRAM = [sys.executable, str(ROOT / "scripts" / "gpu_check.py")]


@pytest.mark.slow
def test_the_rehearsal_checks_all_parts_and_writes_the_page(tmp_path: Path) -> None:
    figures, page = tmp_path / "gpu.json", tmp_path / "gpu.md"
    options = ["--device", "cpu", "--quick", "--json", str(figures), "--page", str(page)]
    done = subprocess.run([*PROGRAM, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(figures.read_text())
    assert found["equal"]["cases"] == 114
    assert not found["equal"]["wrong"]
    assert not [text for text in _texts(found) if text.startswith("raises")]
    own, bare = (found["train"][f"small 16: {which}"] for which in ("softaug's own loop", "bare"))
    assert "images/s" in own
    assert bare.endswith("left out: True")
    assert page.read_text().startswith("# On a GPU\n\n`make gpu` measured this page")


def test_without_cuda_it_says_how_to_rehearse(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu_check.py"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(PROGRAM[1], run_name="__main__")
    assert stopped.value.code == 2
    assert "--device cpu --quick rehearses without one" in capsys.readouterr().err


def _texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for one in value.values() for text in _texts(one)]
    if isinstance(value, list):
        return [text for one in value for text in _texts(one)]
    return [value] if isinstance(value, str) else []
