"""Which package may import which: imports point downward, and there is no circle."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src"
# What each package of the lab may import; a new package gets its row here.
ALLOWED = {
    name: set(others.split())
    for name, others in {
        "basics": "",
        "data": "basics",
        "metrics": "basics",
        "recipes": "basics",
        "models": "basics data",
        "corruptions": "basics data",
        "runs": "basics data recipes",
        "report": "basics recipes corruptions metrics",
        "training": "basics data models recipes runs metrics",
        "evaluation": "basics data metrics models corruptions recipes runs",
        "experiments": "basics data metrics models recipes runs training evaluation",
        "tuning": "basics data metrics models recipes runs training evaluation experiments",
        "explore": "basics data models recipes training",
        "advice": "basics data recipes",
        "export": "basics metrics models recipes runs evaluation",
        "cli": "basics data metrics models corruptions recipes runs training evaluation "
        "experiments report tuning explore advice export",
    }.items()
}
# Modules that others import beside a package's door: those of basics are doors themselves (recipes
# and help take their errors without torch), and Ray is an extra that may be missing.
OTHER_DOORS = {"softaug_lab.experiments.ray"}


def modules(package: str) -> dict[str, Path]:
    """The modules of a package by their dotted names."""
    files = sorted((SOURCE / package).rglob("*.py"))
    names = [".".join(file.relative_to(SOURCE).with_suffix("").parts) for file in files]
    return {name.removesuffix(".__init__"): file for name, file in zip(names, files, strict=True)}


METHOD, LAB = modules("softaug"), modules("softaug_lab")
EVERY = METHOD | LAB


def exported(file: Path) -> set[str]:
    """The names in a module's `__all__`."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


DOORS = {name: exported(file) for name, file in EVERY.items() if file.name == "__init__.py"}


def imported(file: Path, at_import: bool = False) -> Iterator[str]:
    """Our modules that a file imports; at_import: only those outside of functions and checks."""
    tree = ast.parse(file.read_text())
    for node in tree.body if at_import else ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("softaug"):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                is_module = full in EVERY and alias.name not in DOORS.get(node.module, ())
                yield full if is_module else node.module
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("softaug"))


def package_of(name: str) -> str:
    """The package of a module of the lab, or an empty string."""
    return name.split(".")[1] if name.startswith("softaug_lab.") else ""


@pytest.mark.parametrize("name", LAB)
def test_a_package_imports_from_the_doors_below_it(name: str) -> None:
    package = package_of(name)
    for other in imported(LAB[name]):
        below = package_of(other)
        if other not in LAB or below == package:
            continue
        assert below in ALLOWED[package], f"{name} imports {other}"
        is_door = other.count(".") == 1 or below == "basics" or other in OTHER_DOORS
        assert is_door, f"{name} imports {other}, expected softaug_lab.{below}"


def test_every_package_has_a_row_and_the_rows_have_no_circle() -> None:
    assert {package_of(name) for name in LAB} - {""} == set(ALLOWED)
    TopologicalSorter(ALLOWED).prepare()


def test_no_private_name_crosses_a_module() -> None:
    for name, file in EVERY.items():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("softaug"):
                private = [
                    a.name for a in node.names if a.name.startswith("_") and a.name != "_kernels"
                ]
                assert not private, f"{name} imports {private} from {node.module}"


def test_modules_have_no_circle() -> None:
    """A door is not counted for its package's own modules, which import each other directly."""
    TopologicalSorter(
        {name: set(imported(file, True)) - {name} for name, file in EVERY.items()}
    ).prepare()


def test_the_method_knows_no_lab() -> None:
    for name, file in METHOD.items():
        if name != "softaug.__main__":
            assert not [other for other in imported(file) if other.startswith("softaug_lab")], name


def test_every_door_says_what_its_package_is_for() -> None:
    for name in ALLOWED:
        text = ast.get_docstring(
            ast.parse((SOURCE / "softaug_lab" / name / "__init__.py").read_text())
        )
        assert text, name
        assert "TODO" not in text, name


def functions(file: Path) -> Iterator[tuple[str, int, int]]:
    """Name, number of lines and depth of nesting of each function."""
    nesting = (ast.For, ast.While, ast.If, ast.With, ast.Try)

    def depth(node: ast.AST) -> int:
        inner = [depth(child) for child in ast.iter_child_nodes(node)]
        elif_ = (
            isinstance(node, ast.If)
            and len(node.orelse) == 1
            and isinstance(node.orelse[0], ast.If)
        )
        deepest = max(inner, default=0)
        if elif_ and isinstance(node, ast.If):
            body = max((depth(child) for child in node.body), default=0)
            return max(body + 1, depth(node.orelse[0]))
        return deepest + isinstance(node, nesting)

    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1, depth(node)


@pytest.mark.parametrize("name", LAB)
def test_functions_can_be_seen_at_once(name: str) -> None:
    for function, lines, depth in functions(LAB[name]):
        assert lines <= 60, f"{name}.{function} has {lines} lines"
        assert depth <= 4, f"{name}.{function} nests {depth} levels"
