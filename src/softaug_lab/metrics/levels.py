"""Shares of an image that the occlusion test hides, and the one that tables and tests report."""

OCCLUSION_SHARES = (0.0, 0.2, 0.4, 0.6, 0.8)
HEADLINE_SHARE = 0.4  # one of OCCLUSION_SHARES
HEADLINE_PERCENT = f"{100 * HEADLINE_SHARE:g} %"  # as text: "40 %"

# The top-1 errors at HEADLINE_SHARE, by their metric's key, with the name of the fill that hides.
OCCLUDED_ERRORS = {"occluded_error": "mean", "occluded_black": "black"}
