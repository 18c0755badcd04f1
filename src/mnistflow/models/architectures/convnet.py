"""Convolutions with pooling, then dense layers: the plain convolutional network of tutorials."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from mnistflow.models.architectures.architecture import (
    ACTIVATIONS,
    Activation,
    ImageShape,
    Pooling,
    ShapeError,
    activated_pool,
    register,
)

__all__ = ["ConvNet"]


@register("convnet")
class ConvNet(nn.Module):
    """Each convolution is followed by its activation and 2 x 2 pooling; of any depth.

    Args:
        image_shape: channels, height, width.
        classes: how many logits come out.
        kernels: how many each convolution has, from the image on.
        kernel_size: their height and width.
        hidden: the width of each dense layer before the output.
        activation: after each convolution and each hidden layer.
        pooling: 2 x 2.
        dropout: the probability with which a hidden unit is silenced in training.
        log_softmax: whether the outputs are log-probabilities. Cross-entropy, which takes its own, sees no difference.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        classes: int,
        *,
        kernels: list[int],
        kernel_size: int = 5,
        hidden: list[int],
        activation: Activation = "relu",
        pooling: Pooling = "max",
        dropout: float = 0.0,
        log_softmax: bool = False,
    ) -> None:
        super().__init__()
        for name, widths in (("kernels", kernels), ("hidden", hidden)):
            if not all(1 <= width <= 100_000 for width in widths):
                raise ValueError(f"{name}: every number must be 1 to 100,000, not {widths}")
        if not kernels:
            raise ValueError("kernels: must have at least one entry; for no convolutions, use architecture: mlp")
        if not 1 <= kernel_size <= 99:
            raise ValueError(f"kernel_size: must be 1 to 99, not {kernel_size}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout: must be at least 0 and less than 1, not {dropout}")
        channels, height, width = image_shape
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise([channels, *kernels]):
            height, width = ((side - kernel_size + 1) // 2 for side in (height, width))
            layers += [nn.Conv2d(fan_in, fan_out, kernel_size), *activated_pool(activation, pooling)]
        if min(height, width) < 1:
            raise ShapeError(
                f"{len(kernels)} convolutions of {kernel_size} x {kernel_size}, each followed by pooling, leave "
                f"nothing of images of {image_shape[1]} x {image_shape[2]} pixels; use fewer or smaller kernels, "
                "or larger images"
            )
        layers.append(nn.Flatten())
        features = kernels[-1] * height * width
        for fan_in, fan_out in pairwise([features, *hidden]):
            layers += [nn.Linear(fan_in, fan_out), ACTIVATIONS[activation]()]
            if dropout:
                layers.append(nn.Dropout(dropout))
        layers.append(nn.Linear(hidden[-1] if hidden else features, classes))
        if log_softmax:
            layers.append(nn.LogSoftmax(dim=1))
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) float32 to logits, (B, classes)."""
        logits: Tensor = self.layers(images)
        return logits
