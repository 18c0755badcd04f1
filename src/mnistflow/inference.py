"""From images to outputs, probabilities and figures, without training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mnistflow.artifacts import Split
from mnistflow.recipes import Loss, LossName

__all__ = ["confusion_counts", "logits_of", "measure", "probabilities"]


@torch.inference_mode()
def logits_of(model: nn.Module, images: Tensor, batch_size: int) -> Tensor:
    """Run a network in evaluation mode over images of any number, a batch at a time.

    Args:
        model: on the device of the images; left in the mode it was in.
        images: (N, C, H, W) float32, normalised.
        batch_size: how many at once.

    Returns:
        (N, classes) float32, on the device of the images.
    """
    before = model.training
    model.eval()
    outputs = [model(batch) for batch in images.split(batch_size)]
    model.train(before)
    return torch.cat(outputs)


def measure(model: nn.Module, split: Split, loss: Loss, batch_size: int = 1000) -> tuple[float, float]:
    """Mean loss over the images of a split, and accuracy (0 to 1)."""
    logits = logits_of(model, split.images, batch_size)
    right = int((logits.argmax(dim=1) == split.labels).sum())
    return float(loss(logits, split.labels)), right / len(split)


def probabilities(logits: Tensor, loss: LossName) -> Tensor:
    """What a network's outputs say of each class, as numbers from 0 to 1 that sum to 1.

    Args:
        logits: (N, classes) float32.
        loss: the one the network was trained with. After ``cross_entropy`` the softmax; after ``mse`` the outputs
            are aimed at 0 and 1 themselves, so they are clipped to that range and divided by their sum (all classes
            alike where none is above 0).

    Returns:
        (N, classes) float32.
    """
    if loss == "cross_entropy":
        return logits.softmax(dim=1)
    clipped = logits.clamp(0, 1)
    total = clipped.sum(dim=1, keepdim=True)
    return torch.where(total > 0, clipped / total.clamp(min=torch.finfo(total.dtype).tiny), 1 / logits.shape[1])


def confusion_counts(labels: Tensor, predictions: Tensor, classes: int) -> Tensor:
    """How many images of each label got each prediction: (classes, classes) int64 from two of (N,)."""
    return (labels * classes + predictions).bincount(minlength=classes**2).reshape(classes, classes)
