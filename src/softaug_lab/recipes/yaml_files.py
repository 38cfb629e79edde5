"""Read recipe files: options of `train` and `compare` as YAML; `shipped/` has the paper's."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from softaug_lab.basics.errors import UsageError, unknown_name
from softaug_lab.recipes.plain_yaml import load_yaml
from softaug_lab.recipes.recipe import Recipe

FINE_TUNING = "finetune"  # the recipe with the defaults of training from weights of others
SHIPPED = {path.stem: path for path in sorted((Path(__file__).parent / "shipped").glob("*.yaml"))}
# A recipe's fields, the arms of a comparison, two options of the data, and the recipe to extend.
KEYS = {field.name for field in fields(Recipe)} - {"weights_sha256"}
KEYS |= {"arms", "size", "stream", "recipe"}


def read_recipe(name: str) -> tuple[dict[str, Any], Path]:
    """Read the options in a recipe file, and return them with its path.

    name: of a shipped recipe, or the path of any other. A file with the key `recipe` extends that
    shipped recipe and overrides its options.
    Raises UsageError for an unknown name, a file that is no recipe, and an unknown field.
    """
    path = SHIPPED.get(name, Path(name))
    if path.suffix not in (".yaml", ".yml"):
        raise unknown_name("recipe", name, SHIPPED)
    try:
        options = load_yaml(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not readable as a recipe ({error})") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: no YAML ({' '.join(str(error).split())})") from error
    if not isinstance(options, dict):
        raise UsageError(f"{path}: expected fields of a recipe, such as epochs: 20")
    for key, value in options.items():
        if key not in KEYS:
            raise UsageError(f"{path}: {unknown_name('field', str(key), KEYS)}")
        if isinstance(value, dict) or (isinstance(value, list) and key != "arms"):
            raise UsageError(f"{path}: {key}: expected one value, got {value}")
    base = options.pop("recipe", None)
    if base is not None and base not in SHIPPED:
        raise UsageError(f"{path}: {unknown_name('recipe', str(base), SHIPPED)}")
    return (read_recipe(base)[0] if base else {}) | options, path
