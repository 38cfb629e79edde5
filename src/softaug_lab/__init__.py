"""Experiments with softaug: data, training, evaluation, comparison, report, command line."""
