"""Metrics: logits and labels in, plain numbers with floors, intervals and p values out.

Imports `softaug_lab.basics` alone.
"""

from softaug_lab.metrics.bins import BINS, Bin, reliability_diagram
from softaug_lab.metrics.calibration import paired_bootstrap_ece
from softaug_lab.metrics.glossary import GLOSSARY
from softaug_lab.metrics.levels import (
    FILL_GROUPS,
    HEADLINE_PERCENT,
    HEADLINE_SHARE,
    KINDS,
    LOST_SHARES,
    VIEW_ERRORS,
)
from softaug_lab.metrics.ood import detect, detect_by
from softaug_lab.metrics.proper import sample_nll, top_confidence, top_k_error
from softaug_lab.metrics.record import Metrics, basic_metrics, measure, mixed_metrics
from softaug_lab.metrics.selective import Risk, paired_bootstrap_aurc, risk_coverage
from softaug_lab.metrics.significance import (
    Estimate,
    holm,
    paired_bootstrap,
    paired_t,
    seeds_needed,
)
from softaug_lab.metrics.table import BY_KEY, COMPARED, METRICS, NEAR, Metric, recorded
from softaug_lab.metrics.temperature import fit_temperature, scale

__all__ = [
    "BINS",
    "BY_KEY",
    "COMPARED",
    "FILL_GROUPS",
    "GLOSSARY",
    "HEADLINE_PERCENT",
    "HEADLINE_SHARE",
    "KINDS",
    "LOST_SHARES",
    "METRICS",
    "NEAR",
    "VIEW_ERRORS",
    "Bin",
    "Estimate",
    "Metric",
    "Metrics",
    "Risk",
    "basic_metrics",
    "detect",
    "detect_by",
    "fit_temperature",
    "holm",
    "measure",
    "mixed_metrics",
    "paired_bootstrap",
    "paired_bootstrap_aurc",
    "paired_bootstrap_ece",
    "paired_t",
    "recorded",
    "reliability_diagram",
    "risk_coverage",
    "sample_nll",
    "scale",
    "seeds_needed",
    "top_confidence",
    "top_k_error",
]
