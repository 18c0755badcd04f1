"""The architectures known by name, and what they share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar

from torch import Tensor, nn

__all__ = [
    "ACTIVATIONS",
    "ARCHITECTURES",
    "Activation",
    "ImageShape",
    "Pooling",
    "ShapeError",
    "pool",
    "register",
]

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

Pooling = Literal["max", "average", "subsample"]


class Subsample(nn.Module):
    """The first pixel of each 2 x 2: halves height and width without looking at what it leaves out."""

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H // 2, W // 2)."""
        height, width = (side // 2 * 2 for side in images.shape[2:])
        return images[:, :, :height:2, :width:2]


def pool(kind: Pooling) -> nn.Module:
    """The layer that makes one pixel of 2 x 2: of the largest, of their mean, or of the first."""
    return {"max": nn.MaxPool2d(2), "average": nn.AvgPool2d(2), "subsample": Subsample()}[kind]


def activated_pool(activation: Activation, pooling: Pooling) -> list[nn.Module]:
    """An activation and 2 x 2 pooling, in the order that computes less: the largest is the largest after ReLU too."""
    layers = [ACTIVATIONS[activation](), pool(pooling)]
    return layers[::-1] if (activation, pooling) in (("relu", "max"), ("relu", "subsample")) else layers


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
