"""Advice before any training: faults of a data set, a recipe for it, and what it can show.

Imports basics, data and recipes.
"""

from softaug_lab.advice.advise import Advice, advise
from softaug_lab.advice.choose import Choice, choose

__all__ = ["Advice", "Choice", "advise", "choose"]
