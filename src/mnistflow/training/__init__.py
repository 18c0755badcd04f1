"""Everything that determines the weights: the training loop, optimizers, schedules, history, and their assembly.

Takes flat keyword arguments, never the params object. Imports `models` and `core`.
"""
