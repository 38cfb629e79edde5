"""The command line. Parses options, calls one function of the lab, prints; may import all of it."""

from softaug_lab.cli.app import main

__all__ = ["main"]
