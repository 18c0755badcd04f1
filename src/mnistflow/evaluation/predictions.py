"""What was predicted for each image of a split, read back from predictions.csv."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from mnistflow.core.files import read_csv
from mnistflow.core.tensors import Split

__all__ = ["read_predictions"]


def read_predictions(path: Path, split: Split) -> tuple[Tensor, Tensor]:
    """Read what was predicted for each image of a split.

    Args:
        path: of predictions.csv.
        split: that it was made from.

    Returns:
        Predictions, (N,) int64, and the probability of each, (N,) float32.

    Raises:
        ValueError: the file is missing or damaged, or was made from another split.
    """
    rows = read_csv(path, numbers=("index", "probability"), texts=("label", "prediction"))
    names = {name: number for number, name in enumerate(split.inputs.classes)}
    labels = [names.get(row["label"]) for row in rows]
    predictions = [names.get(row["prediction"]) for row in rows]
    if labels != split.labels.tolist() or None in predictions:
        raise ValueError(
            f"{path} does not hold predictions for the {len(split):,} images of this split; `dvc repro` recreates it"
        )
    return torch.tensor(predictions), torch.tensor([float(row["probability"] or "nan") for row in rows])
