"""What is measured of a trained network: scores, calibration, corruptions, gates, and whether two differ by chance.

Nothing is chosen by it. Imports `models`, `config` (the gates) and `core`; what only reads results needs no PyTorch.
"""
