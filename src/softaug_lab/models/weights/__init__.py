"""Weights of others to begin with: files, folders and repositories, matched to a network's keys."""

from softaug_lab.models.weights.at_hand import WeightsAtHand, weights_at_hand
from softaug_lab.models.weights.hub import require_pretrained
from softaug_lab.models.weights.match import fitted
from softaug_lab.models.weights.source import Weights, read_weights
from softaug_lab.models.weights.tensors import read_tensors

__all__ = [
    "Weights",
    "WeightsAtHand",
    "fitted",
    "read_tensors",
    "read_weights",
    "require_pretrained",
    "weights_at_hand",
]
