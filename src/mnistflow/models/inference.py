"""From images to outputs, probabilities and figures, without training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from mnistflow.core import devices
from mnistflow.core.tensors import Split
from mnistflow.models.losses import Loss

__all__ = [
    "LayerOutput",
    "confusion_counts",
    "evaluating",
    "layer_outputs",
    "logits_of",
    "measure",
    "placed",
]


@dataclass(frozen=True)
class LayerOutput:
    """The output of one module of a network for a batch of images."""

    name: str  # as in the names of the weights: "features.0"
    module: nn.Module
    output: Tensor  # (N, ...), a copy

    @property
    def kind(self) -> str:
        """The class of the module: ``Conv2d``."""
        return type(self.module).__name__


def placed(split: Split, device: torch.device) -> Split:
    """The split moved to ``device`` if it fits there; otherwise unchanged, to be copied batch by batch."""
    return split.to(device) if devices.has_room(device, split.images.nbytes) else split


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; afterwards each module is back in its own."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@torch.inference_mode()
def logits_of(model: nn.Module, images: Tensor, batch_size: int) -> Tensor:
    """Run a network in evaluation mode over images of any number, a batch at a time.

    Args:
        model: left in the mode it was in.
        images: (N, C, H, W) float32, normalised; on any device: a batch at a time is brought to the network's.
        batch_size: how many at once.

    Returns:
        (N, classes) float32, on the device of the network.
    """
    device = next((parameter.device for parameter in model.parameters()), images.device)
    with evaluating(model):
        return torch.cat([model(batch.to(device)) for batch in images.split(batch_size)])


@torch.inference_mode()
def layer_outputs(model: nn.Module, images: Tensor) -> list[LayerOutput]:
    """Run a network in evaluation mode and keep what its modules give on the way.

    Only modules without parts of their own count, and only where they give a tensor: what ``forward`` computes between
    them with functions is not seen.

    Args:
        model: on the device of the images; left in the mode it was in, and without hooks.
        images: (N, C, H, W) float32, normalised.

    Returns:
        One for each call of a module, in the order of the calls.
    """
    seen: list[LayerOutput] = []

    def keep(name: str, module: nn.Module, _: object, output: object) -> None:
        if isinstance(output, Tensor):
            seen.append(LayerOutput(name, module, output.clone()))  # the next module may work in place

    with evaluating(model), contextlib.ExitStack() as hooks:
        for name, module in model.named_modules():
            if next(module.children(), None) is None:
                hooks.callback(module.register_forward_hook(partial(keep, name)).remove)
        model(images)
    return seen


def measure(model: nn.Module, split: Split, loss: Loss, batch_size: int = 1000) -> tuple[float, float]:
    """Mean loss over the images of a split, and accuracy (0 to 1); ``model`` and ``split`` may be on any device."""
    logits = logits_of(model, split.images, batch_size)
    labels = split.labels.to(logits.device)
    right = int((logits.argmax(dim=1) == labels).sum())
    return float(loss(logits, labels)), right / len(split)


def confusion_counts(labels: Tensor, predictions: Tensor, classes: int) -> Tensor:
    """How many images of each label got each prediction: (classes, classes) int64 from two of (N,)."""
    return (labels * classes + predictions).bincount(minlength=classes**2).reshape(classes, classes)
