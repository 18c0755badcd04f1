"""Data sets as published, their splits, and the preprocessing from original images to normalised tensors.

A data set is a file in `datasets`. Imports `core` alone; what only lists or fetches files does so without PyTorch.
"""
