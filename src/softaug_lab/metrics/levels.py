"""The views of test images that lack a part: kinds, shares lost, and which of them tables report.

A view is *cut off* (the frame moved, so that a share of the image left it) or *hidden* (a rectangle
covers a share of it). The rest of the picture shows a fill, *usual* or *unseen* in training.
"""

KINDS = ("cut_off", "hidden")
FILL_GROUPS = ("usual", "unseen")
LOST_SHARES = (0.2, 0.4, 0.6, 0.8)
HEADLINE_SHARE = 0.4  # one of LOST_SHARES
HEADLINE_PERCENT = f"{100 * HEADLINE_SHARE:g} %"  # as text: "40 %"

# Top-1 errors at HEADLINE_SHARE by unseen fills, by their metric's key, with the kind of view.
VIEW_ERRORS = {"cut_off_error": "cut_off", "hidden_error": "hidden"}
