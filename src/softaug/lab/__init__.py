"""Experiments: data, models, training, evaluation, comparison; the method never knows them."""
