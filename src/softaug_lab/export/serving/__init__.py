"""Serving examples: programs that are written beside an exported model as serve.py."""
