"""Models that softaug did not train, and files of logits, to be evaluated like its own models."""

from softaug_lab.models.foreign.classes import Columns, class_columns, read_classes
from softaug_lab.models.foreign.exported import exported_file
from softaug_lab.models.foreign.load import ForeignModel, load_foreign, model_kind
from softaug_lab.models.foreign.logits import read_logits
from softaug_lab.models.foreign.preprocessing import Preprocessing

__all__ = [
    "Columns",
    "ForeignModel",
    "Preprocessing",
    "class_columns",
    "exported_file",
    "load_foreign",
    "model_kind",
    "read_classes",
    "read_logits",
]
