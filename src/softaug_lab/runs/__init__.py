"""A run's folder: recipe, environment, history, checkpoints, model, results, TensorBoard events.

Imports basics, data and recipes.
"""

from softaug_lab.runs.events import event_files
from softaug_lab.runs.folder import RunFolder, folder_name, open_run

__all__ = ["RunFolder", "event_files", "folder_name", "open_run"]
