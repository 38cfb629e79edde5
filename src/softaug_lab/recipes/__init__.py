"""Experiments as plain data: recipes, arms, augmentation expressions and recipe files.

Imports only `softaug_lab.basics`, and torch only when an augmentation is built.
"""

from softaug_lab.recipes import panels
from softaug_lab.recipes.arms import (
    ARMS,
    AUTO,
    DEFAULT_ARMS,
    SELF_SUPERVISED,
    SUPERVISED,
    Arm,
    Role,
    main_arm,
    member_of,
    read_arm,
    rivals,
    role_of,
    same_augmentation,
    sweep_arms,
    swept,
)
from softaug_lab.recipes.fine_tuning import are_few_photos
from softaug_lab.recipes.recipe import (
    SIGMA,
    WHOLE,
    Augmentation,
    K,
    Recipe,
    as_auto,
    expression_of,
    transform_of,
)
from softaug_lab.recipes.yaml_files import FINE_TUNING, SHIPPED, read_recipe

__all__ = [
    "ARMS",
    "AUTO",
    "DEFAULT_ARMS",
    "FINE_TUNING",
    "SELF_SUPERVISED",
    "SHIPPED",
    "SIGMA",
    "SUPERVISED",
    "WHOLE",
    "Arm",
    "Augmentation",
    "K",
    "Recipe",
    "Role",
    "are_few_photos",
    "as_auto",
    "expression_of",
    "main_arm",
    "member_of",
    "panels",
    "read_arm",
    "read_recipe",
    "rivals",
    "role_of",
    "same_augmentation",
    "sweep_arms",
    "swept",
    "transform_of",
]
