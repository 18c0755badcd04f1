"""Measurements of a trained network: scores, calibration, corruptions, gates, and significance of differences.

Nothing is chosen by it. Imports `models`, `config` (the gates) and `core`; what only reads results needs no PyTorch.
"""
