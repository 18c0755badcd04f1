"""A network for short trainings: few operations an image, and few steps until it is good."""

from __future__ import annotations

from torch import Tensor, nn

from mnistflow.models.architectures.architecture import ImageShape, ShapeError, register

__all__ = ["Fast"]


@register("fast")
class Fast(nn.Module):
    """Three convolutions, the first with stride 2 in place of pooling, and two dense layers.

    Batch normalisation (Ioffe and Szegedy 2015) follows each convolution, behind the pooling where there is one; ReLU
    after each but the last layer. Multiples of 16 are fastest: processors multiply in blocks of so many.

    Args:
        image_shape: channels, height, width.
        classes: how many logits come out.
        widths: kernels of the convolutions, 5 x 5 at every second pixel, 3 x 3, and 3 x 3 without padding.
        hidden: the width of the first dense layer.
    """

    def __init__(self, image_shape: ImageShape, classes: int, *, widths: list[int], hidden: int) -> None:
        super().__init__()
        if len(widths) != 3 or not all(1 <= width <= 4096 for width in widths):
            raise ValueError(f"widths: must be three numbers from 1 to 4096, not {widths}")
        if not 1 <= hidden <= 100_000:
            raise ValueError(f"hidden: must be 1 to 100,000, not {hidden}")
        channels, *sides = image_shape
        height, width = ((side + 1) // 2 // 2 - 2 for side in sides)
        if min(height, width) < 1:
            raise ShapeError(
                f"fast halves the image twice and needs at least 11 x 11 pixels, not {sides[0]} x {sides[1]}; "
                "choose a model without convolutions"
            )
        first, second, third = widths
        self.features = nn.Sequential(
            nn.Conv2d(channels, first, 5, stride=2, padding=2, bias=False),  # batch normalisation has its own
            nn.BatchNorm2d(first),
            nn.ReLU(),
            nn.Conv2d(first, second, 3, padding=1, bias=False),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(second),
            nn.ReLU(),
            nn.Conv2d(second, third, 3, bias=False),
            nn.BatchNorm2d(third),
            nn.ReLU(),
        )
        self.classifier = nn.Sequential(
            nn.Linear(third * height * width, hidden),
            nn.ReLU(),
            nn.Linear(hidden, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) float32 to logits, (B, classes)."""
        features = self.features(images)  # (B, third, h, w)
        # Channel by channel of each position: as they lie in memory where channels are last, so that nothing is copied.
        logits: Tensor = self.classifier(features.permute(0, 2, 3, 1).flatten(1))  # (B, classes)
        return logits
