"""Everything that determines the weights: the training loop, its images, optimizers, schedules, history, assembly.

Takes flat keyword arguments, never the params object. Imports `models` and `core`.
"""
