"""Errors, whole files, keyed random numbers and processes: what every other package may need.

The modules here are the doors: `errors`, `storage`, `seeds`, `processes`. They import nothing else
of the lab.
"""
