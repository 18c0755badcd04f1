"""The architectures known by name, and what they share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar

from torch import nn

__all__ = ["ACTIVATIONS", "ARCHITECTURES", "Activation", "ImageShape", "ShapeError", "register"]

ImageShape = tuple[int, int, int]  # channels, height, width


class ShapeError(ValueError):
    """A network that cannot take images of this shape."""


Activation = Literal["identity", "relu", "sigmoid", "tanh", "leaky_relu", "prelu", "gelu"]

ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "leaky_relu": nn.LeakyReLU,
    "prelu": nn.PReLU,
    "gelu": nn.GELU,
}

ARCHITECTURES: dict[str, type[nn.Module]] = {}

M = TypeVar("M", bound=type[nn.Module])


def register(name: str) -> Callable[[M], M]:
    """Class decorator: make an architecture known under the name that ``architecture:`` in params.yaml gives.

    The class takes ``image_shape`` and ``classes``, which the data decide; its keyword-only parameters are the other
    keys of a block. ``__init__`` raises ValueError for a value that cannot work, and :class:`ShapeError` for images
    that are too small, before any work is done. ``forward`` takes (N, C, H, W) float32 and returns the logits,
    (N, classes).
    """

    def add(cls: M) -> M:
        assert name not in ARCHITECTURES, name
        ARCHITECTURES[name] = cls
        return cls

    return add
