"""The entry point of the command line: runs a command, turns errors into one line and a code."""

import io
import os
import sys
from importlib.util import find_spec

from softaug_lab.basics.errors import SoftaugError
from softaug_lab.basics.machine import (
    keep_freed_memory,
    sleep_while_waiting,
    wait_without_spinning,
)

# The packages of the extra softaug[lab], as they are imported.
NEEDED = (
    "cyclopts", "jinja2", "matplotlib", "PIL", "pyarrow", "rich", "safetensors", "scipy", "timm",
    "torchvision", "yaml",
)  # fmt: skip

# Commands that train, if only a few steps to take the time.
TRAINING = ("advise", "train", "compare", "sweep", "tune", "pretrain")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line.

    Exit codes: 0; 1 for a failure; 2 for a wrong request, and where packages are missing; 130
    after Ctrl-C, 143 after SIGTERM, and 141 where nobody reads the output any more.
    """
    if any(find_spec(name) is None for name in NEEDED):
        # Without rich, which may be what is missing.
        message = "the command line needs more packages: pip install 'softaug[lab]'"
        sys.stderr.write(f"softaug: {message}\n")
        raise SystemExit(2)
    tokens = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in tokens
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may know ASCII alone
    try:
        _call([token for token in tokens if token != "--debug"])
        sys.stdout.flush()
    except BrokenPipeError:
        # Who reads the output, such as `head`, has enough. Python would flush once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except Exception as error:
        if debug:
            raise
        _fail(*_message_and_code(error))


def _call(tokens: list[str]) -> None:
    from softaug_lab.cli.commands import app, import_commands
    from softaug_lab.cli.terminal import log_to_terminal, say

    log_to_terminal()
    keep_freed_memory()
    if tokens and tokens[0] in TRAINING and not {"-h", "--help"} & set(tokens):
        said = wait_without_spinning()
        if said is not None:
            say(said)
    if tokens and tokens[0] == "predict":
        sleep_while_waiting()  # its own decoders need the cores on which threads would spin
    if not tokens or tokens[0].startswith("-"):
        import_commands()  # the list of commands shows the first line of each docstring
    app(tokens, exit_on_error=False, print_error=False, result_action="return_value")


def _message_and_code(error: Exception) -> tuple[str, int]:
    from cyclopts import CycloptsError

    if isinstance(error, CycloptsError):
        hint = " See softaug --help" if str(error).endswith((".", "?")) else "; see softaug --help"
        return f"{error}{hint}", 2
    if isinstance(error, SoftaugError):
        return str(error), error.exit_code
    reason = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {reason}; --debug shows where", 1


def _fail(message: str, code: int) -> None:
    from softaug_lab.cli.terminal import quiet, say

    quiet(False)  # processes other than the first are quiet, but must report their failure
    say(message, style="red")
    raise SystemExit(code)
