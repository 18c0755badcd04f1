"""Handwritten-digit recognition as a pipeline: DVC runs it, MLflow records it, PyTorch does the arithmetic."""

__all__ = ["__version__"]

__version__ = "0.1.0"
