"""From images to outputs, probabilities and figures, without training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnistflow.artifacts import Split
from mnistflow.files import read_csv
from mnistflow.recipes import Loss, LossName

__all__ = [
    "LayerOutput",
    "confusion_counts",
    "evaluating",
    "last_inputs",
    "layer_outputs",
    "logits_of",
    "measure",
    "principal_components",
    "probabilities",
    "read_predictions",
]


@dataclass(frozen=True)
class LayerOutput:
    """What one module of a network made of some images."""

    name: str  # as in the names of the weights: "features.0"
    module: nn.Module
    output: Tensor  # (N, ...), a copy

    @property
    def kind(self) -> str:
        """The class of the module: ``Conv2d``."""
        return type(self.module).__name__


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
        model: on the device of the images; left in the mode it was in.
        images: (N, C, H, W) float32, normalised.
        batch_size: how many at once.

    Returns:
        (N, classes) float32, on the device of the images.
    """
    with evaluating(model):
        return torch.cat([model(batch) for batch in images.split(batch_size)])


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


@torch.inference_mode()
def last_inputs(model: nn.Module, images: Tensor, batch_size: int) -> Tensor | None:
    """What the last dense layer of a network is given: the images as the network sees them before it names them.

    Args:
        model: on the device of the images; left in the mode it was in, and without hooks.
        images: (N, C, H, W) float32, normalised.
        batch_size: how many at once.

    Returns:
        (N, inputs) float32; None where the network has no dense layer.
    """
    seen: list[Tensor] = []

    def keep(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        seen.append(arguments[0].flatten(1))

    batches: list[Tensor] = []
    with evaluating(model), contextlib.ExitStack() as hooks:
        for module in model.modules():
            if isinstance(module, nn.Linear):
                hooks.callback(module.register_forward_pre_hook(keep).remove)
        for batch in images.split(batch_size):
            model(batch)
            batches += seen[-1:]
            seen.clear()
    return torch.cat(batches) if batches else None


def principal_components(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The directions in which values vary most (Pearson 1901, Hotelling 1933), and where each lies along them.

    A direction has a sign of its own choosing; here its largest part is positive, so that figures stay the same.

    Args:
        values: (N, features), at least one.
        count: of directions.

    Returns:
        (N, count) float64, 0 on average, and the share of the whole variance that each holds, (count,) float64 from 0
        to 1; both 0 where there are no such directions.
    """
    centred = values.double() - values.double().mean(dim=0)
    left, sizes, directions = torch.linalg.svd(centred, full_matrices=False)
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True)).squeeze(1)
    places = left * sizes * largest.sign()
    total = sizes.square().sum()
    shares = sizes.square() / total if total > 0 else torch.zeros_like(sizes)
    missing = max(0, count - len(sizes))
    return F.pad(places, (0, missing))[:, :count], F.pad(shares, (0, missing))[:count]


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
            f"{path} does not hold predictions for the {len(split):,} images of this split; `dvc repro` makes it anew"
        )
    return torch.tensor(predictions), torch.tensor([float(row["probability"] or "nan") for row in rows])
