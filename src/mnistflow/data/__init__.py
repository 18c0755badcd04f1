"""Data sets as they were published, their splits, and the way from original images to normalised tensors.

A data set is a file in `datasets`. Imports `core` alone; what only lists or fetches files does so without PyTorch.
"""
