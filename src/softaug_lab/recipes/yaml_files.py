"""Recipe files: options of `train` and `compare` as YAML; those of the paper are in recipes/."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from softaug_lab.basics.errors import UsageError, unknown_name
from softaug_lab.recipes.recipe import Recipe

SHIPPED = {path.stem: path for path in sorted((Path(__file__).parent / "shipped").glob("*.yaml"))}
# Fields of a recipe, the arms of a comparison, how images are read, and the recipe to begin from.
KEYS = {field.name for field in fields(Recipe)} | {"arms", "size", "stream", "recipe"}


def read_recipe(name: str) -> tuple[dict[str, Any], Path]:
    """What a recipe file says, and where it is: a shipped one by its name, any other by its path.

    A file with the key `recipe` begins from that one, and says what differs.
    Raises UsageError for an unknown name, a file that is no recipe, and an unknown field.
    """
    path = SHIPPED.get(name, Path(name))
    if path.suffix not in (".yaml", ".yml"):
        raise unknown_name("recipe", name, SHIPPED)
    try:
        said = yaml.safe_load(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not readable as a recipe ({error})") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: no YAML ({' '.join(str(error).split())})") from error
    if not isinstance(said, dict):
        raise UsageError(f"{path}: expected fields of a recipe, such as epochs: 20")
    for key, value in said.items():
        if key not in KEYS:
            raise UsageError(f"{path}: {unknown_name('field', str(key), KEYS)}")
        if isinstance(value, dict) or (isinstance(value, list) and key != "arms"):
            raise UsageError(f"{path}: {key}: expected one value, got {value}")
    begun = said.pop("recipe", None)
    if begun is not None and begun not in SHIPPED:
        raise UsageError(f"{path}: {unknown_name('recipe', str(begun), SHIPPED)}")
    return (read_recipe(begun)[0] if begun else {}) | said, path
