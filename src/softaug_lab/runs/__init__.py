"""A run's folder: recipe, environment, history, checkpoints, model, results.

Imports basics, data and recipes.
"""

from softaug_lab.runs.folder import RunFolder, folder_name, open_run

__all__ = ["RunFolder", "folder_name", "open_run"]
