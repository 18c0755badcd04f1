"""Networks: built by name, run on images, saved with the metadata that belongs to their weights.

An architecture is a file in `architectures`. Imports `core` alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor, nn

from mnistflow.core.tensors import Inputs, read_tensors, write_tensors
from mnistflow.models.architectures.architecture import ACTIVATIONS, ARCHITECTURES, ImageShape, ShapeError
from mnistflow.models.losses import LossName

__all__ = [
    "ACTIVATIONS",
    "ARCHITECTURES",
    "ImageShape",
    "ModelMetadata",
    "ShapeError",
    "build",
    "load",
    "parameter_count",
    "save",
    "start_from",
]

MAX_SIDE = 1536  # of an image with its padding: three times 512 pixels, which params.yaml allows


@dataclass(frozen=True)
class ModelMetadata:
    """Metadata of a weights file: enough to rebuild and use the network without params.yaml."""

    architecture: str
    arguments: Mapping[str, object]
    image_shape: ImageShape
    inputs: Inputs
    loss: LossName  # it decides how outputs become probabilities
    # What logits are divided by, so that probabilities are calibrated; None: they stay as they are.
    temperature: float | None = None
    # Of the probability of an answer: from it on the answer is sure; None: that is not known.
    threshold: float | None = None


def build(architecture: str, image_shape: ImageShape, classes: int, arguments: Mapping[str, object]) -> nn.Module:
    """Build a network with fresh weights from the global random state.

    Args:
        architecture: a registered name.
        image_shape: channels, height, width.
        classes: how many logits come out.
        arguments: the other keyword arguments of the registered class.

    Raises:
        ValueError: an argument cannot work, or (:class:`ShapeError`) not with images of this shape.
    """
    return ARCHITECTURES[architecture](image_shape, classes, **arguments)


def parameter_count(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def save(path: Path, model: nn.Module, metadata: ModelMetadata) -> None:
    """Write weights as safetensors, with their metadata."""
    write_tensors(path, model.state_dict(), {"model": asdict(metadata)})


def load(path: Path) -> tuple[nn.Module, ModelMetadata]:
    """Rebuild a network from what :func:`save` wrote, on the CPU, in evaluation mode.

    Raises:
        ValueError: the file is missing or damaged, or its weights are not those of the network it names.
    """
    tensors, header = read_tensors(path)
    try:
        written = dict(header["model"])  # type: ignore[call-overload]
        written["inputs"] = Inputs.from_metadata(written["inputs"])
        written["image_shape"] = tuple(written["image_shape"])
        metadata = ModelMetadata(
            **{field.name: written[field.name] for field in fields(ModelMetadata) if field.name in written}
        )
        _refuse_other_sizes(metadata, tensors)
        model = build(metadata.architecture, metadata.image_shape, len(metadata.inputs.classes), metadata.arguments)
        model.load_state_dict(tensors)
        if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
            raise ValueError("some weights are infinite or NaN")
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path} does not match its metadata: {' '.join(str(error).split())}") from error
    return model.eval(), metadata


def _refuse_other_sizes(metadata: ModelMetadata, tensors: Mapping[str, Tensor]) -> None:
    """Compare the network that metadata describe with the tensors there are, before memory is taken for it.

    Raises:
        ValueError: they have other sizes, or the images would be too large to be real.
    """
    if metadata.temperature is not None and not 0 < metadata.temperature < math.inf:
        raise ValueError(f"the temperature must be above 0, not {metadata.temperature}")
    if metadata.threshold is not None and not 0 <= metadata.threshold <= 1:
        raise ValueError(f"the threshold must be from 0 to 1, not {metadata.threshold}")
    if not all(0 < side <= MAX_SIDE for side in metadata.image_shape):
        raise ValueError(f"images of {'x'.join(map(str, metadata.image_shape))}; a side may have at most {MAX_SIDE}")
    with torch.device("meta"):
        described = build(
            metadata.architecture, metadata.image_shape, len(metadata.inputs.classes), metadata.arguments
        ).state_dict()
    for name, tensor in described.items():
        if name not in tensors:
            raise ValueError(f"{name}, of shape {tuple(tensor.shape)}, is missing")
        if tensors[name].shape != tensor.shape:
            raise ValueError(
                f"{name} has shape {tuple(tensors[name].shape)}, but the network needs {tuple(tensor.shape)}"
            )


def start_from(model: nn.Module, architecture: str, path: Path) -> None:
    """Load the weights of a file into a network of the same architecture and sizes; changes ``model`` in place.

    Raises:
        ValueError: the file is missing or damaged, or its weights belong into another network; says which.
    """
    weights, metadata = load(path)
    shape, classes = "x".join(map(str, metadata.image_shape)), len(metadata.inputs.classes)
    own = f"{metadata.architecture} for {shape} and {classes} classes"
    if metadata.architecture != architecture:
        raise ValueError(f"{path} holds the weights of {own}, not of {architecture}")
    try:
        model.load_state_dict(weights.state_dict())
    except RuntimeError as error:
        arguments = ", ".join(f"{name}={value}" for name, value in metadata.arguments.items())
        raise ValueError(
            f"{path} holds the weights of {own} ({arguments}), whose sizes differ from those of the chosen model"
        ) from error
