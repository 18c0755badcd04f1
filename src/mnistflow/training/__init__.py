"""What decides weights: the loop, its optimizers and schedules, its history, and how one training is put together.

Takes flat keyword arguments, never the params object. Imports `models` and `core`.
"""
