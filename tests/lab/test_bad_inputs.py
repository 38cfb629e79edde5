"""A part of what scripts/bad_inputs.py tries: none hangs, fails badly, or passes though wrong."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "bad_inputs.py"


def test_each_40th_input_gets_its_verdict() -> None:
    tried = subprocess.run(
        [sys.executable, str(SCRIPT), "--every", "40"], capture_output=True, text=True
    )
    assert tried.returncode == 0, tried.stdout + tried.stderr
    assert "API: 14 tried" in tried.stdout
