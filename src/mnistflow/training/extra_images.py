"""Images that a recipe adds to those of the data set."""

from __future__ import annotations

import numpy as np
import torch
from torch import Generator

from mnistflow.core.tensors import Split
from mnistflow.models.losses import OUTLIER

__all__ = ["extended"]


def extended(split: Split, generator: Generator, *, drawn_digits: int, outliers: int) -> Split:
    """A training split with made images after its own.

    Args:
        split: of square images whose classes are the ten digits, on any device.
        generator: on the CPU; decides which images are made.
        drawn_digits: how many of :func:`mnistflow.training.drawn_digits.drawn_digits`.
        outliers: how many of :func:`mnistflow.training.outliers.outliers`, labelled :data:`OUTLIER`.

    Returns:
        The split; the same one where nothing is added. The index of an added image is -1.
    """
    if not (drawn_digits or outliers):
        return split
    from mnistflow.training import drawn_digits as digits  # here, because most recipes need no OpenCV
    from mnistflow.training import outliers as others

    seed = int(torch.randint(2**31, (), generator=generator))
    raw = split.raw_images()
    drawn, labels = digits.drawn_digits(drawn_digits, seed, size=raw.shape[-1])
    made = torch.from_numpy(np.concatenate([drawn, others.outliers(raw, outliers, seed)]))
    labels = np.concatenate([labels, np.full(outliers, OUTLIER)])
    device = split.images.device
    return Split(
        torch.cat([split.images, split.inputs.normalise(made).to(device)]),
        torch.cat([split.labels, torch.from_numpy(labels).to(device)]),
        torch.cat([split.indices, torch.full((len(made),), -1)]),
        split.inputs,
    )
