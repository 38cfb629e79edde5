"""Classifiers from uint8 images to logits: ours, timm's, and those that others trained."""

from softaug_lab.models.card import SMALL_IMAGE, ModelCard
from softaug_lab.models.classifier import Classifier, build, load_model, save_model, take_head
from softaug_lab.models.foreign.classes import Columns, class_columns, read_classes
from softaug_lab.models.foreign.load import kind, load_foreign, read_logits

__all__ = [
    "SMALL_IMAGE",
    "Classifier",
    "Columns",
    "ModelCard",
    "build",
    "class_columns",
    "kind",
    "load_foreign",
    "load_model",
    "read_classes",
    "read_logits",
    "save_model",
    "take_head",
]
