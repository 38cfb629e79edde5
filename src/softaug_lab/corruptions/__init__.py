"""The 19 corruptions of ImageNet-C, computed or read from files. Imports basics and data."""

from softaug_lab.corruptions.apply import corrupt, names_for, require_size
from softaug_lab.corruptions.constants import (
    BENCHMARKS,
    COMMON,
    EXTRA,
    GROUPS,
    SEVERITIES,
    benchmark,
)
from softaug_lab.corruptions.files import open_corrupted
from softaug_lab.corruptions.source import CorruptedSet, Source, computed

__all__ = [
    "BENCHMARKS",
    "COMMON",
    "EXTRA",
    "GROUPS",
    "SEVERITIES",
    "CorruptedSet",
    "Source",
    "benchmark",
    "computed",
    "corrupt",
    "names_for",
    "open_corrupted",
    "require_size",
]
