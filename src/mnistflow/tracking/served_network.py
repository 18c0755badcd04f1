"""What MLflow loads for a model of this project: ONNX Runtime over its graph.

A copy of this file is kept with each model: it loads where this project is not installed, with or without a GPU.
"""

from __future__ import annotations

import numpy as np
import onnxruntime
from numpy.typing import NDArray

__all__ = ["Network"]


class Network:
    """Raw images in, probabilities out."""

    def __init__(self, graph: str) -> None:
        self._session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])

    def predict(self, images: NDArray[np.uint8], params: object = None) -> NDArray[np.float32]:  # noqa: ARG002 - MLflow's
        """(N, H, W) uint8, 0 is background, to (N, classes) float32 whose rows sum to 1."""
        (probabilities,) = self._session.run(
            ["probabilities"], {"images": np.ascontiguousarray(images, dtype=np.uint8)}
        )
        return np.asarray(probabilities, dtype=np.float32)


def _load_pyfunc(path: str) -> Network:
    """The name that MLflow looks for (https://mlflow.org/docs/latest/api_reference/python_api/mlflow.pyfunc.html)."""
    return Network(path)
