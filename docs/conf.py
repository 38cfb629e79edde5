"""How Sphinx builds the documentation; it needs no network.

.venv/bin/sphinx-build -W -b html docs build/docs
"""

import re
from typing import Any

from sphinx.application import Sphinx

import softaug

project = "softaug"
release = softaug.__version__
copyright = "the authors of softaug"  # noqa: A001  Sphinx's own name for it
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = f"softaug {release}"
html_copy_source = False
html_show_sourcelink = False
exclude_patterns = ["cards.yaml"]
default_role = "code"  # docstrings write `code`
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 80
myst_heading_anchors = 3
smartquotes_action = "qe"  # no dash for the -- of an option


def as_restructured_text(
    _app: Sphinx, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]
) -> None:
    """Our docstrings are plain text: paragraphs, hanging lines, `code` and examples."""
    paragraphs = "\n".join(lines).strip().split("\n\n")
    lines[:] = "\n\n".join(_paragraph(paragraph) for paragraph in paragraphs).splitlines()


def _paragraph(text: str) -> str:
    if text.lstrip().startswith(">>>"):
        return text + "\n"
    # A line begins anew where the next one hangs from it, or where it explains a parameter.
    text = re.sub(r"\n(?=\S.*\n[ ]+\S)", "\n\n", text)
    text = re.sub(r"(?<=\.)\n(?=(\w+(, \w+)*|\w+ in [\[(].*): |Raises |Returns )", "\n\n", text)
    parts = [" ".join(part.split()) for part in text.split("\n\n")]
    return "\n\n".join(_escaped(part) for part in parts)


def _escaped(text: str) -> str:
    """What is not within `code` without the marks that reStructuredText would read."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(
        piece if piece.startswith("`") else re.sub(r"([*|\\]|_\b)", r"\\\1", piece)
        for piece in pieces
    )


def readable_signature(
    _app: Sphinx, _what: str, _name: str, _object: Any, _options: Any, signature: str, returned: str
) -> tuple[str, str]:
    """Without the addresses of functions and the homes of types."""
    if signature:
        signature = signature.replace("~collections.abc.", "")
        signature = re.sub(r"<function (\w+)[^>]*>", r"\1", signature)
    return signature, returned


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-signature", readable_signature)
    app.connect("autodoc-process-docstring", as_restructured_text)
