"""Image classifiers from uint8 images to logits: our networks, timm's, and models of others.

Imports the lab's basics and data.
"""

from softaug_lab.models.card import SMALL_IMAGE, ModelCard
from softaug_lab.models.classifier import (
    Classifier,
    build,
    build_from,
    head_keys,
    headless,
    load_model,
    take_head,
)
from softaug_lab.models.exported import (
    CONFIG,
    DESCRIPTION,
    ONNX,
    PROGRAM,
    PROGRAM_DESCRIPTION,
    WEIGHTS,
    describe,
)
from softaug_lab.models.foreign import (
    Columns,
    class_columns,
    exported_file,
    load_foreign,
    model_kind,
    read_classes,
    read_logits,
)
from softaug_lab.models.heads import Centroids, Gaussians, Process
from softaug_lab.models.logits import (
    batch_slices,
    eval_mode,
    predict_batches,
    predict_logits,
    predict_shared,
)
from softaug_lab.models.model_file import save_model
from softaug_lab.models.network import OWN_MODELS, has_small_stem, require_known
from softaug_lab.models.own_score import own_score
from softaug_lab.models.weights import Weights, WeightsAtHand, read_weights, weights_at_hand

__all__ = [
    "CONFIG",
    "DESCRIPTION",
    "ONNX",
    "OWN_MODELS",
    "PROGRAM",
    "PROGRAM_DESCRIPTION",
    "SMALL_IMAGE",
    "WEIGHTS",
    "Centroids",
    "Classifier",
    "Columns",
    "Gaussians",
    "ModelCard",
    "Process",
    "Weights",
    "WeightsAtHand",
    "batch_slices",
    "build",
    "build_from",
    "class_columns",
    "describe",
    "eval_mode",
    "exported_file",
    "has_small_stem",
    "head_keys",
    "headless",
    "load_foreign",
    "load_model",
    "model_kind",
    "own_score",
    "predict_batches",
    "predict_logits",
    "predict_shared",
    "read_classes",
    "read_logits",
    "read_weights",
    "require_known",
    "save_model",
    "take_head",
    "weights_at_hand",
]
