"""Handwritten-digit recognition as a pipeline: DVC runs it, MLflow records it, PyTorch does the arithmetic."""
