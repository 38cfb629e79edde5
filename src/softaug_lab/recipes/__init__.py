"""One experiment as plain data: recipes, arms, expressions, YAML files; without torch."""

from softaug_lab.recipes.arms import (
    ARMS,
    SELF_SUPERVISED,
    SIX_ARMS,
    SUPERVISED,
    Arm,
    member_of,
    read_arm,
    sweep_arms,
    swept,
)
from softaug_lab.recipes.recipe import Augmentation, Recipe, transform_of
from softaug_lab.recipes.yaml_files import SHIPPED, read_recipe

__all__ = [
    "ARMS",
    "SELF_SUPERVISED",
    "SHIPPED",
    "SIX_ARMS",
    "SUPERVISED",
    "Arm",
    "Augmentation",
    "Recipe",
    "member_of",
    "read_arm",
    "read_recipe",
    "sweep_arms",
    "swept",
    "transform_of",
]
