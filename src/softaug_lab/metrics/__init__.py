"""Logits and labels to numbers, each with how sure it is."""

from softaug_lab.metrics.measure import Figures, figures
from softaug_lab.metrics.ood import detect
from softaug_lab.metrics.proper import sample_nll, top_confidence, top_k_error
from softaug_lab.metrics.selective import Risk, risk_coverage
from softaug_lab.metrics.significance import (
    holm,
    paired_bootstrap,
    paired_bootstrap_ece,
    paired_t,
    seeds_needed,
)
from softaug_lab.metrics.temperature import fit_temperature, scale

__all__ = [
    "Figures",
    "Risk",
    "detect",
    "figures",
    "fit_temperature",
    "holm",
    "paired_bootstrap",
    "paired_bootstrap_ece",
    "paired_t",
    "risk_coverage",
    "sample_nll",
    "scale",
    "seeds_needed",
    "top_confidence",
    "top_k_error",
]
