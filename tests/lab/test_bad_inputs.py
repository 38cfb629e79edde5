"""A part of what scripts/bad_inputs.py tries: none hangs, fails badly, or passes though wrong."""

import contextlib
import importlib.util
import subprocess
import sys
from pathlib import Path

from support import ended, fork

SCRIPT = Path(__file__).parents[2] / "scripts" / "bad_inputs.py"


def test_inputs_of_the_library_get_their_verdicts() -> None:
    # A process of its own, where shapes are not checked before the library looks at them.
    command = [sys.executable, str(SCRIPT), "--area", "API", "--every", "3"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "API: 184 tried" in done.stdout


def test_inputs_of_the_command_line_get_their_verdicts(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("bad_inputs", SCRIPT)
    assert spec
    assert spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)

    def try_inputs() -> None:
        with contextlib.redirect_stdout(sys.stderr):
            raise SystemExit(script.try_inputs(40, "command line"))

    said = tmp_path / "said"
    assert ended(fork(try_inputs, said)) == 0, said.read_text()
    assert "command line: 16 tried" in said.read_text()
