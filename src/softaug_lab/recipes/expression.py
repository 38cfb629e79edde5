"""Parse augmentations from text, `crop(0.3)+erase(0.2, fill=noise)`, or from a YAML list of parts.

Python's parser reads the text and TRANSFORMS resolves its names; nothing in it is executed.
"""

import ast
import difflib
import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import softaug
from softaug import Chain, Hard, Transform
from softaug.transforms.base import size_after
from softaug_lab.basics.errors import UsageError

# The words for the public transforms: `random_resized_crop` for RandomResizedCrop. Of these, chains
# and `hard` have a notation of their own, and `Borrowed` takes an object that no text can name.
WORDS = {"RandAugment": "randaugment", "TrivialAugment": "trivialaugment"}
TRANSFORMS: dict[str, Callable[..., Transform]] = {
    WORDS.get(name, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()): getattr(softaug, name)
    for name in sorted(softaug.transforms.__all__)
    if hasattr(getattr(softaug, name), "draw")
    and name not in ("Borrowed", "Chain", "Hard", "Transform")
}
# The first argument of crops in an expression: their own first one, the size, is that of the data.
FIRST = {"resized_crop": "sigma", "random_resized_crop": "scale"}


def parse(
    text: str, height: int, width: int, named: Mapping[str, Transform] | None = None
) -> Transform:
    """Build the transform that an expression describes, for images of this size.

    Parts joined by `+` (or listed in brackets) are applied one after another. A part is a name in
    TRANSFORMS with its arguments in brackets, by position or by name: numbers, pairs and words.
    `hard(...)` takes parts and leaves targets unchanged by what these parts destroy. named: further
    names and their transforms.
    Raises UsageError that points at the wrong part.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        part = text.strip()[(error.offset or 1) - 1 :] or text
        raise _wrong(text, part, f"not readable ({error.msg})") from error
    transform = _build(text, tree, height, width, named or {})
    after = size_after(transform, height, width)
    if after != (height, width):
        raise UsageError(
            f"augmentation {text!r} makes images of {after[1]} x {after[0]} px from "
            f"{width} x {height}; leave out the size"
        )
    return transform


def from_file(text: str) -> str:
    """Return an expression unchanged, or the expression that a YAML file's list describes.

    A list holds parts as text (`crop(0.3)`) or names with their arguments (`erase: {area: 0.2}`).
    """
    if not text.endswith((".yaml", ".yml")):
        return text
    import yaml

    from softaug_lab.recipes.plain_yaml import load_yaml

    try:
        parts = load_yaml(Path(text).read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{text}: not readable ({error})") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{text}: no YAML ({' '.join(str(error).split())})") from error
    if not isinstance(parts, list) or not parts:
        raise UsageError(f"{text}: expected a list of parts, such as - crop(0.3)")
    return "+".join(_as_text(text, part) for part in parts)


def _as_text(path: str, part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and len(part) == 1:
        ((name, options),) = part.items()
        if isinstance(options, dict):
            options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
            return f"{name}({', '.join(f'{key}={value!r}' for key, value in options.items())})"
        if isinstance(options, int | float):
            return f"{name}({options})"
    raise UsageError(
        f"{path}: expected parts such as crop(0.3) or erase: {{area: 0.2}}, got {part!r}"
    )


def _build(
    text: str, node: ast.expr, height: int, width: int, named: Mapping[str, Transform]
) -> Transform:
    parts = [_build_part(text, part, height, width, named) for part in _parts(node)]
    if not parts:
        raise UsageError("an augmentation needs at least one part, such as crop(0.3)")
    return parts[0] if len(parts) == 1 else Chain(parts)


def _parts(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [*_parts(node.left), *_parts(node.right)]
    if isinstance(node, ast.List | ast.Tuple):
        return [part for element in node.elts for part in _parts(element)]
    return [node]


def _build_part(
    text: str, node: ast.expr, height: int, width: int, named: Mapping[str, Transform]
) -> Transform:
    if isinstance(node, ast.Name) and node.id in named:
        return named[node.id]
    call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
    if not isinstance(call.func, ast.Name):
        raise _wrong(text, node, "expected a transform, such as crop(0.3)")
    name = call.func.id
    if name == "hard":
        if len(call.args) != 1 or call.keywords:
            raise _wrong(text, node, "hard takes parts, such as hard(randaugment+flip)")
        return Hard(_build(text, call.args[0], height, width, named))
    if name not in TRANSFORMS:
        known = [*TRANSFORMS, "hard", *named]
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(known)}"
        raise _wrong(text, node, f"unknown transform {name!r}; {hint}")
    make = TRANSFORMS[name]
    positional = [_value(text, argument) for argument in call.args]
    for keyword in call.keywords:
        if keyword.arg is None:
            raise _wrong(text, keyword.value, "expected NAME=VALUE")
    options = {str(keyword.arg): _value(text, keyword.value) for keyword in call.keywords}
    if len(options) < len(call.keywords):
        raise _wrong(text, node, f"{name}: each option can stand once")
    if name in FIRST:
        if positional:
            options = {FIRST[name]: positional.pop(0), **options}
        options.setdefault("size", (height, width))
    try:
        inspect.signature(make).bind(*positional, **options)
        return make(*positional, **options)
    except TypeError as error:
        accepted = ", ".join(inspect.signature(make).parameters)
        reason = f"{name}: {error}; it takes {accepted}"
        raise _wrong(text, node, reason) from error
    except ValueError as error:
        raise _wrong(text, node, str(error)) from error


def _value(text: str, node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return node.id  # a word, such as noise
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        reason = "expected a number, a pair or a word"
        raise _wrong(text, node, reason) from error


def _wrong(text: str, part: ast.expr | str, reason: str) -> UsageError:
    """Make an error that quotes the wrong part of the text."""
    text = text.strip()
    shown = part if isinstance(part, str) else ast.get_source_segment(text, part)
    return UsageError(f"augmentation {text!r}, at {shown!r}: {reason}")
