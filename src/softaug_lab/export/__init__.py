"""Export of trained models to ONNX, torch.export, timm and Hugging Face folders.

Imports `softaug` and the lab's basics, metrics, models, recipes, runs and evaluation.
"""

from softaug_lab.export.forms import FORMS
from softaug_lab.export.write import export_run

__all__ = ["FORMS", "export_run"]
