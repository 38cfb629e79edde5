"""A local web page that shows an augmentation, and a model under it, while sliders are moved.

Imports basics, data, models, recipes and training. `Explorer` computes what the page shows,
`Server` serves both to this machine alone.
"""

from softaug_lab.explore.explorer import Explorer
from softaug_lab.explore.server import Server

__all__ = ["Explorer", "Server"]
