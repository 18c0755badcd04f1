"""LeNet-5."""

from __future__ import annotations

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

__all__ = ["LeNet5"]


@register("lenet5")
class LeNet5(nn.Module):
    """Two convolutions with pooling, three dense layers (LeCun, Bottou, Bengio and Haffner 1998).

    As it is built today: a full connection from S2 to C3, and a plain linear output in place of the Euclidean RBF.

    Args:
        image_shape: channels, height, width.
        classes: how many logits come out.
        activation: after C1 and C3.
        dense_activation: after C5 and F6; None: the same.
        pooling: in S2 and S4, 2 x 2.
        padding: pixels of 0 around the image before C1; 2 turns 28 x 28 into the 32 x 32 of the paper.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        classes: int,
        *,
        activation: Activation = "relu",
        dense_activation: Activation | None = None,
        pooling: Pooling = "max",
        padding: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= padding <= 512:
            raise ValueError(f"padding: must be 0 to 512, not {padding}")
        channels, *sides = image_shape
        # What C1 (5 x 5), S2, C3 (5 x 5) and S4 leave of each side.
        height, width = (((side + 2 * padding - 4) // 2 - 4) // 2 for side in sides)
        if min(height, width) < 1:
            least = 16 - 2 * padding
            raise ShapeError(
                f"LeNet-5 with padding {padding} needs images of at least {least} x {least} pixels, "
                f"not {sides[0]} x {sides[1]}; increase the padding, or choose a model without convolutions"
            )
        dense_act = ACTIVATIONS[dense_activation or activation]
        self.features = nn.Sequential(
            nn.Conv2d(channels, 6, 5, padding=padding),  # C1
            *activated_pool(activation, pooling),  # S2
            nn.Conv2d(6, 16, 5),  # C3
            *activated_pool(activation, pooling),  # S4
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(16 * height * width, 120),  # C5
            dense_act(),
            nn.Linear(120, 84),  # F6
            dense_act(),
            nn.Linear(84, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) float32 to logits, (B, classes)."""
        logits: Tensor = self.classifier(self.features(images))  # (B, C, H, W) -> (B, 16, h, w) -> (B, classes)
        return logits
