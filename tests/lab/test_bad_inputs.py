"""A part of what scripts/bad_inputs.py tries: none hangs, fails badly, or passes though wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "bad_inputs.py"


@pytest.mark.parametrize(("area", "every", "tried"), [("API", 3, 184), ("command line", 40, 15)])
def test_inputs_get_their_verdicts(area: str, every: int, tried: int) -> None:
    command = [sys.executable, str(SCRIPT), "--area", area, "--every", str(every)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{area}: {tried} tried" in done.stdout
