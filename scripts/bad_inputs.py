"""Try wrong and odd inputs, made by rule, on the library and on the command line.

    python scripts/bad_inputs.py                # all of them, about a minute
    python scripts/bad_inputs.py --every 25     # each 25th, as the tests do

Each input comes with the verdict that must come: `valid`, or `clear`: in Python a ValueError or
TypeError, on the command line exit code 2 (1 where the data or a file is at fault), in both cases
one line that names what was wrong. Prints a table of verdicts, and each input whose verdict is
another: `silent` (accepted though wrong), `refused` (though valid), `poor` (another exception or
exit code, several lines, or a line that names nothing), `hang` (more than 60 seconds). Exit code 1
if there is any.
"""

import argparse
import contextlib
import io
import json
import math
import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import softaug as sa
from softaug_lab.cli import main

SECONDS = 60
CLEAR, VALID = "clear", "valid"
NAN, INF = math.nan, math.inf


@dataclass(frozen=True)
class Input:
    """What is tried, and the verdict that must come.

    area: `API` or `command line`. run: raises where the input is refused, ExitError for a command.
    clear_by: of a clear error, a word in it (API), or the digits of its exit codes (command line).
    """

    area: str
    name: str
    verdict: str
    run: Callable[[], object]
    clear_by: str = ""


# --- the library ----------------------------------------------------------------------------

GOOD: dict[str, tuple[Any, ...]] = {
    "share": (0, 0.5, 1, 1.0, np.float32(0.25)),
    "positive": (0.1, 1, 3.5, np.float64(2)),
    "whole": (1, 3, np.int64(5)),
    "classes": (2, 1000),
    "margin": (0, 1, 4),
    "chance": (0, 0.5),
    "ceiling": (0.5, 1),
}
BAD: dict[str, tuple[Any, ...]] = {
    "share": (-0.1, 1.1, -1, 2, NAN, INF, -INF, "0.5", None, [0.5], 1j),
    "positive": (0, -1, -0.0, NAN, INF, -INF, "1", None, [1.0], 1j),
    "whole": (0, -1, 1.5, NAN, INF, "1", None, [1]),
    "classes": (1, 0, -3, 2.5, NAN, "10", None),
    "margin": (-1, 1.5, NAN, INF, "1", None, [1]),
    "chance": (-0.1, 1, 1.1, NAN, INF, "0.5", None, [0.5], 1j),
    "ceiling": (-0.1, 0, 0.05, 1.1, NAN, INF, "0.5", None, [0.5], 1j),
}
OPTIONS: tuple[tuple[Callable[..., Any], str, str], ...] = (
    (sa.Crop, "sigma", "share"),
    (sa.ResizedCrop, "sigma", "share"),
    (sa.Erase, "probability", "share"),
    (sa.Flip, "probability", "share"),
    (sa.VerticalFlip, "probability", "share"),
    (sa.Blur, "probability", "share"),
    (sa.Blur, "power", "positive"),
    (sa.Blur, "beta", "positive"),
    (sa.DiffusionNoise, "probability", "share"),
    (sa.DiffusionNoise, "beta", "positive"),
    (sa.GaussianBlur, "power", "positive"),
    (sa.GaussianBlur, "probability", "share"),
    (sa.Cutout, "side", "whole"),
    (sa.UniformCrop, "padding", "margin"),
    (sa.ResizedCrop, "size", "whole"),
    (sa.PowerCurve, "k", "positive"),
    (sa.PowerCurve, "chance", "chance"),
    (sa.PowerCurve, "ceiling", "ceiling"),
    (sa.Constant, "p", "share"),
    (sa.SoftAugment, "num_classes", "classes"),
)
REQUIRED: dict[Any, dict[str, Any]] = {
    sa.PowerCurve: {"chance": 0.1},
    sa.SoftAugment: {"transform": sa.Crop(0.1)},
    sa.ResizedCrop: {"size": 8},
}


def options() -> Iterator[Input]:
    """Numbers as options of transforms, curves and SoftAugment."""
    for build, option, kind in OPTIONS:
        for verdict, values in ((VALID, GOOD[kind]), (CLEAR, BAD[kind])):
            for value in values:
                given = {**REQUIRED.get(build, {}), option: value}
                name = f"{build.__name__}({option}={value!r})"
                yield Input("API", name, verdict, partial(build, **given), option)


FILLS: tuple[tuple[Any, str], ...] = (
    (0, VALID), (255, VALID), (12.5, VALID), ((1, 2, 3), VALID), ("mixed", VALID),
    ("colour", VALID), ("noise", VALID), ("other", VALID), ("mean", VALID), ("pink", CLEAR),
    ("", CLEAR), (NAN, CLEAR), (INF, CLEAR), (None, CLEAR), ((), CLEAR), ((1, 2), CLEAR),
    ((1, NAN, 3), CLEAR), (("a", "b", "c"), CLEAR), ({}, CLEAR), (1j, CLEAR),
)  # fmt: skip


def fills() -> Iterator[Input]:
    """What fills, given to all transforms that fill, and used on images of three channels."""
    builders: tuple[Callable[..., Any], ...] = (
        sa.Crop, sa.UniformCrop, sa.Erase, sa.Cutout, partial(sa.ResizedCrop, 8),
    )  # fmt: skip
    for build in builders:
        for fill, verdict in FILLS:
            name = f"{getattr(build, '__name__', 'ResizedCrop')}(fill={fill!r})"
            yield Input("API", name, verdict, partial(augment_with, build, fill), "fill")


def augment_with(build: Callable[..., Any], fill: Any) -> None:
    whole(sa.SoftAugment(build(fill=fill), 3)(pictures(), torch.arange(4) % 3))


def pictures() -> Tensor:
    return torch.randint(0, 256, (4, 3, 20, 24), dtype=torch.uint8)


def whole(result: tuple[Tensor, Tensor]) -> None:
    """Raise AssertionError where rows are no distributions, or pixels are not finite."""
    images, rows = result
    assert images.float().isfinite().all()
    assert rows.dtype == torch.float32
    assert ((rows >= 0) & (rows <= 1)).all()
    assert torch.allclose(rows.sum(dim=1), torch.ones(len(rows)), atol=1e-5)


IMAGES: dict[str, tuple[Callable[[], Any], str]] = {
    "uint8": (pictures, VALID),
    "float32": (lambda: pictures().float() / 255, VALID),
    "float16": (lambda: pictures().half() / 255, VALID),
    "grey": (lambda: pictures()[:, :1], VALID),
    "channels last in memory": (
        lambda: pictures().to(memory_format=torch.channels_last), VALID,
    ),
    "a batch of none": (lambda: pictures()[:0], VALID),
    "an array": (lambda: pictures().numpy(), CLEAR),
    "int16": (lambda: pictures().short(), CLEAR),
    "int32": (lambda: pictures().int(), CLEAR),
    "int8": (lambda: pictures().to(torch.int8), CLEAR),
    "int64": (lambda: pictures().long(), CLEAR),
    "bool": (lambda: pictures().bool(), CLEAR),
    "complex": (lambda: pictures().to(torch.complex64), CLEAR),
    "[N,H,W]": (lambda: pictures()[:, 0], CLEAR),
    "[N,H,W,C]": (lambda: pictures().permute(0, 2, 3, 1), CLEAR),
    "[H,W]": (lambda: pictures()[0, 0], CLEAR),
    "[N,T,C,H,W]": (lambda: pictures()[:, None], CLEAR),
    "NaN": (lambda: pictures().float() * NAN, CLEAR),
    "infinite": (lambda: pictures().float() * INF, CLEAR),
    "no pixel": (lambda: pictures()[..., :0], CLEAR),
    "a list": (lambda: [[1, 2], [3, 4]], CLEAR),
    "a text": (lambda: "images", CLEAR),
    "none": (lambda: None, CLEAR),
}  # fmt: skip
TRANSFORMS: tuple[Any, ...] = (
    sa.Crop(0.3), sa.Erase(), sa.Flip(), sa.Blur(), sa.ResizedCrop(8), sa.TrivialAugment(),
)  # fmt: skip


def images() -> Iterator[Input]:
    """Images of every kind, for each transform."""
    for transform in TRANSFORMS:
        augment = sa.SoftAugment(transform, 3)
        for name, (make, verdict) in IMAGES.items():
            labels = torch.arange(0 if name == "a batch of none" else 4) % 3
            yield Input(
                "API",
                f"SoftAugment({type(transform).__name__}): {name}",
                verdict,
                partial(augment_made, augment, make, labels),
            )


def augment_made(augment: sa.SoftAugment, make: Callable[[], Any], labels: Tensor) -> None:
    whole(augment(make(), labels))


LABELS: dict[str, tuple[Callable[[], Any], str]] = {
    "numbers": (lambda: torch.tensor([0, 1, 2, 0]), VALID),
    "int32": (lambda: torch.tensor([0, 1, 2, 0], dtype=torch.int32), VALID),
    "an array": (lambda: np.array([0, 1, 2, 0]), VALID),
    "a list": (lambda: [0, 1, 2, 0], VALID),
    "rows": (lambda: torch.eye(3)[[0, 1, 2, 0]], VALID),
    "too large": (lambda: torch.tensor([0, 1, 3, 0]), CLEAR),
    "negative": (lambda: torch.tensor([0, -1, 2, 0]), CLEAR),
    "too few": (lambda: torch.tensor([0, 1]), CLEAR),
    "too many": (lambda: torch.arange(9) % 3, CLEAR),
    "floats": (lambda: torch.tensor([0.0, 1.0, 2.0, 0.0]), CLEAR),
    "a column": (lambda: torch.tensor([[0], [1], [2], [0]]), CLEAR),
    "rows of two": (lambda: torch.eye(2)[[0, 1, 0, 1]], CLEAR),
    "rows of integers": (lambda: torch.eye(3)[[0, 1, 2, 0]].long(), VALID),
    "negative rows": (lambda: -torch.eye(3)[[0, 1, 2, 0]], CLEAR),
    "NaN in rows": (lambda: torch.full((4, 3), NAN), CLEAR),
    "one number": (lambda: 1, CLEAR),
    "texts": (lambda: ["cat", "dog", "cat", "dog"], CLEAR),
    "none": (lambda: None, CLEAR),
    "complex": (lambda: torch.zeros(4, dtype=torch.complex64), CLEAR),
}
SEEN: dict[str, tuple[Callable[[], Any], str]] = {
    "ones": (lambda: torch.ones(4, 1, 20, 24), VALID),
    "zeros": (lambda: torch.zeros(4, 1, 20, 24), VALID),
    "a mask of 255": (lambda: torch.full((4, 1, 20, 24), 255.0), CLEAR),
    "NaN": (lambda: torch.full((4, 1, 20, 24), NAN), CLEAR),
    "infinite": (lambda: torch.full((4, 1, 20, 24), INF), CLEAR),
    "negative": (lambda: -torch.ones(4, 1, 20, 24), CLEAR),
    "three channels": (lambda: torch.ones(4, 3, 20, 24), CLEAR),
    "another size": (lambda: torch.ones(4, 1, 24, 20), CLEAR),
    "too few": (lambda: torch.ones(2, 1, 20, 24), CLEAR),
    "[N,H,W]": (lambda: torch.ones(4, 20, 24), CLEAR),
}
DRAWN: dict[str, tuple[Callable[[], Any], str]] = {
    "its own": (lambda: sa.Crop(0.3).draw(4, 20, 24), VALID),
    "NaN": (lambda: {"tx": torch.full((4,), NAN), "ty": torch.zeros(4)}, CLEAR),
    "of fewer": (lambda: sa.Crop(0.3).draw(2, 20, 24), CLEAR),
    "of more": (lambda: sa.Crop(0.3).draw(9, 20, 24), CLEAR),
    "of one": (lambda: sa.Crop(0.3).draw(1, 20, 24), CLEAR),
    "scalars": (lambda: {k: v[0] for k, v in sa.Crop(0.3).draw(4, 20, 24).items()}, CLEAR),
}


def other_arguments() -> Iterator[Input]:
    """Labels, maps and draws for a soft crop."""
    labels = torch.arange(4) % 3
    augment = sa.SoftAugment(sa.Crop(0.3), 3)
    for name, (make, verdict) in LABELS.items():
        run = lambda m=make: whole(augment(pictures(), m()))  # noqa: E731
        yield Input("API", f"labels: {name}", verdict, run)
    for name, (make, verdict) in SEEN.items():
        run = lambda m=make: whole(augment(pictures(), labels, seen=m()))  # noqa: E731
        yield Input("API", f"seen: {name}", verdict, run)
    for name, (make, verdict) in DRAWN.items():
        run = lambda m=make: whole(augment(pictures(), labels, drawn=m()))  # noqa: E731
        yield Input("API", f"drawn: {name}", verdict, run)


# --- the command line -----------------------------------------------------------------------

WHOLE_TEXTS = ("x", "1.5", "-1", "", "nan", "1e3", "0x10", "1,5", "\u0663")
NUMBER_TEXTS = ("x", "nan", "inf", "-1", "", "1,5", "-inf")
WHOLE_OPTIONS = ("epochs", "batch-size", "train-images", "size", "accumulate", "readers", "buffer")
NUMBER_OPTIONS = (
    "lr", "sigma", "k", "held-out", "max-unreadable", "minutes", "weight-decay", "ema",
)  # fmt: skip
TEXTS = {
    "--augment": (
        "", " ", "crop(", "crop)", "crop(2)", "crop(-1)", "crop(nan)", "foo(1)", "crop(0.1)+",
        "+crop(0.1)", "crop(0.1)+foo", "crop(sigma=)", "crop(sigma=0.1, sigma=0.2)",
        "crop(0.1, fill='pink')", "crop(*[0.1])", "crop(**{'sigma': 0.1})", "crop.__class__",
        "__import__('os').system('touch owned')", "lambda: 0", "open('x')", "1", "crop(1j)",
        "crop(" * 300, "crop(0.1)" + "+crop(0.1)" * 3000 + "+", "crop(0.1); crop(0.2)",
        "hard(hard)", "crop(0.1, probability=2)", "\x00", "crop\n(",
    ),
    "--arm": (
        "", "sfot", "soft@", "soft@x", "soft(k=)", "soft(k=x)", "soft(k=-1)", "soft(foo=1)",
        "soft(k=1", "soft(k=1)(k=2)", "soft@0.1@0.2", "soft@9", "auto@0.1@", "soft()x", "SOFT",
    ),
    "--model": ("", "smal", "resnet81", "wrn-28", "../x", "http://host/x", "small ", "torch"),
    "--device": ("", "abacus", "cuda:x", "cuda:-1", "meta:9", "CPU "),
    "--precision": ("", "fp64", "int8", "bf17"),
    "--recipe": ("", "nowhere.yaml", "cifar100-resnet81", "/dev/null", ".", "\x00"),
    "--test": ("nowhere", ""),
}  # fmt: skip
RECIPES = {
    "a list": "[]", "a text": "hello", "a number": "3", "nothing": "", "an unknown one": "foo: 1",
    "text as a number": "epochs: many", "half an epoch": "epochs: 1.5", "NaN": "sigma: .nan",
    "a list as a number": "epochs: [1]", "aliases": "a: &a [1]\nb: [*a, *a]",
    "a tag": "arm: !!python/object/apply:os.system ['touch owned']", "broken": "a: [1,",
    "twice": "epochs: 1\nepochs: 2", "no UTF-8": "\udcff", "deep": "[" * 500,
    "a true": "epochs: true", "an empty value": "epochs:", "a date": "epochs: 2026-01-01",
}  # fmt: skip


def requests(data: Path, scratch: Path) -> Iterator[Input]:
    """Wrong options of the commands that train, and recipes that are none."""
    for verb in ("train", "compare", "pretrain"):
        for option in (*WHOLE_OPTIONS, *NUMBER_OPTIONS):
            for text in WHOLE_TEXTS if option in WHOLE_OPTIONS else NUMBER_TEXTS:
                if (option, text) not in ALLOWED:
                    yield request([verb, str(data), f"--{option}={text}"], scratch)
    for option, texts in TEXTS.items():
        for text in texts:
            yield request(["train", str(data), f"{option}={text}"], scratch)
    for name, content in RECIPES.items():
        file = scratch / f"{name}.yaml"
        file.write_bytes(content.encode(errors="surrogateescape"))
        yield request(["train", str(data), "--recipe", str(file)], scratch, f"recipe: {name}")


ALLOWED = {("k", "inf"), ("seed", "-1")}


def request(
    command: list[str], scratch: Path, name: str = "", verdict: str = CLEAR, codes: str = "2"
) -> Input:
    """A command that must fail, or succeed, and leave no run behind when it fails."""
    text = name or " ".join(part[:60] for part in command).replace(str(scratch), "")
    if verdict == CLEAR and command[0] in ("train", "compare", "pretrain"):
        command = [*command, "--run", str(scratch / "run")]
    return Input("command line", text, verdict, partial(call, command, scratch), codes)


class ExitError(Exception):
    """How a command ended: its exit code, and the last lines that it said."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(said)
        self.code = code


def call(command: list[str], scratch: Path) -> None:
    """Run a command; raises ExitError where it fails, AssertionError where it leaves a run."""
    said = io.StringIO()
    shutil.rmtree(scratch / "run", ignore_errors=True)
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            main(command)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
        if code:
            assert not (scratch / "run" / "metrics.jsonl").exists(), "a model was trained"
            assert not Path("owned").exists(), "a stranger's command was run"
            raise ExitError(code, said.getvalue()) from None


def folders(scratch: Path) -> Iterator[Input]:
    """The messy folders of the tests, previewed."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "lab"))
    from test_messy_folders import READ, REFUSED

    rows: list[tuple[str, Any]] = [*READ.items(), *REFUSED.items()]
    for i, (name, row) in enumerate(rows):
        root = scratch / "messy" / str(i)
        root.mkdir(parents=True)
        row[0](root)
        command = ["preview", str(root), "--out", str(scratch / "preview.png")]
        verdict = VALID if name in READ else CLEAR
        yield request(command, scratch, f"folder: {name}", verdict, "12")


def models(run: Path, picture: Path, scratch: Path) -> Iterator[Input]:
    """Forged model files, records and images, for `predict` and `evaluate`."""
    whole_file = (run / "model.safetensors").read_bytes()
    length = int.from_bytes(whole_file[:8], "little")
    header = json.loads(whole_file[8 : 8 + length])
    card = json.loads(header["__metadata__"]["softaug"])
    forged: dict[str, bytes] = {
        "empty": b"",
        "text": b"no model",
        "cut": whole_file[: len(whole_file) // 2],
        "a header too long": (2**60).to_bytes(8, "little") + whole_file[8:],
        "no card": _with_metadata(whole_file, {}),
        "a card of text": _with_metadata(whole_file, {"softaug": "hello"}),
        "a card of a list": _with_metadata(whole_file, {"softaug": "[]"}),
    }
    changes: dict[str, Any] = {
        "temperature": (0, -1, NAN, "1", [], INF),
        "classes": ([], ["a"], "ab", [1, 2], None, ["a", "a"]),
        "model": ("nowhere", "../x", "", 3, None),
        "channels": (0, -1, 3.5, "x", None, 7),
        "height": (0, -8, 10**9, NAN, "8", None),
        "pretrained": (1, "yes", None),
    }
    for field, values in changes.items():
        for value in values:
            text = json.dumps({**card, field: value})
            forged[f"{field} = {value!r}"] = _with_metadata(whole_file, {"softaug": text})
    for name, content in forged.items():
        for verb in ("predict", "evaluate"):
            place = scratch / f"forged-{len(name)}-{abs(hash(name))}-{verb}"
            place.mkdir()
            (place / "model.safetensors").write_bytes(content)
            rest = [str(picture)] if verb == "predict" else [str(picture.parent.parent.parent)]
            command = [verb, str(place), *rest]
            yield request(command, scratch, f"{verb}, forged model: {name}", CLEAR, "12")
    for name in ("nowhere.png", "", ".", "/dev/null", "\x00.png", "a" * 5000):
        yield request(["predict", str(run), name], scratch, f"predict {name[:20]!r}", CLEAR, "12")
    yield request(["predict", str(run), str(picture)], scratch, "predict a picture", VALID)


def _with_metadata(file: bytes, metadata: dict[str, str]) -> bytes:
    length = int.from_bytes(file[:8], "little")
    header = {**json.loads(file[8 : 8 + length]), "__metadata__": metadata}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + file[8 + length :]


# --- verdicts -------------------------------------------------------------------------------


class HangError(BaseException):
    """The input took longer than SECONDS."""


def verdict(given: Input) -> tuple[str, str]:
    """Try an input; return its verdict and what was said."""

    def stop(*_: object) -> None:
        raise HangError

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        given.run()
    except HangError:
        return "hang", ""
    except ExitError as error:
        return _of_exit(error, given.clear_by), str(error)
    except (ValueError, TypeError) as error:
        clear = given.area == "API" and "\n" not in str(error) and given.clear_by in str(error)
        return CLEAR if clear else "poor", f"{type(error).__name__}: {error}"
    except Exception as error:  # whatever comes is a finding
        return "poor", f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
    return VALID, ""


def _of_exit(error: ExitError, codes: str) -> str:
    lines = str(error).strip().splitlines()
    last = lines[-1] if lines else ""
    clear = (
        str(error.code) in codes
        and last.startswith("softaug: ")
        and "--debug shows where" not in last
        and "Traceback" not in str(error)
    )
    return CLEAR if clear else "poor"


def of_library() -> list[Input]:
    """Make every input of the library."""
    return [*options(), *fills(), *images(), *other_arguments()]


def of_command_line(scratch: Path) -> list[Input]:
    """Make every input of the command line; files are written to `scratch`."""
    data = scratch / "data"
    for part, count in (("train", 8), ("test", 4)):
        for name, shade in (("cat", 0), ("dog", 100)):
            folder = data / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (8, 8), (shade + i, 50, 200)).save(folder / f"{i}.png")
    run = scratch / "trained"
    call(["train", str(data), "--epochs", "1", "--batch-size", "4", "--run", str(run)], scratch)
    picture = data / "test" / "cat" / "0.png"
    return [*requests(data, scratch), *folders(scratch), *models(run, picture, scratch)]


def try_inputs(every: int, area: str) -> int:
    """Try each `every`-th input, print the findings, and return how many there are."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    counts: Counter[tuple[str, str]] = Counter()
    findings = 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SOFTAUG_DATA"] = f"{folder}/cache"
        os.chdir(folder)
        chosen = of_library() if area != "command line" else []
        chosen += of_command_line(Path(folder)) if area != "API" else []
        for given in chosen[::every]:
            found, said = verdict(given)
            if found != given.verdict:
                if {found, given.verdict} == {VALID, CLEAR}:
                    found = "silent" if found == VALID else "refused"
                findings += 1
                print(
                    f"{found:8} {given.area}: {given.name}\n         {said.strip()[-300:]}",
                    flush=True,
                )
            counts[given.area, found] += 1
    for place in ("API", "command line"):
        of_area = {name: n for (where, name), n in sorted(counts.items()) if where == place}
        tried = sum(of_area.values())
        print(f"{place}: {tried} tried, " + ", ".join(f"{n} {name}" for name, n in of_area.items()))
    return findings


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="try each K-th input")
    areas = ("API", "command line")
    parser.add_argument("--area", default="", choices=areas, help="one area alone")
    options_given = parser.parse_args()
    sys.exit(try_inputs(options_given.every, options_given.area) > 0)
