"""A small modern network: 3 x 3 convolutions with batch normalisation, and no hidden dense layer."""

from __future__ import annotations

from torch import Tensor, nn

from mnistflow.models.architectures.architecture import ImageShape, ShapeError, register

__all__ = ["Compact"]


@register("compact")
class Compact(nn.Module):
    """Three blocks of two 3 x 3 convolutions (Simonyan and Zisserman 2015), each with batch normalisation (Ioffe and
    Szegedy 2015) and ReLU; 2 x 2 max-pooling between the blocks, the mean over all positions (Lin, Chen and Yan 2014)
    after the last, then one dense layer.

    Args:
        image_shape: channels, height, width.
        classes: how many logits come out.
        width: kernels of each convolution in the first block; the other blocks have twice as many.
    """

    def __init__(self, image_shape: ImageShape, classes: int, *, width: int = 24) -> None:
        super().__init__()
        if not 1 <= width <= 4096:
            raise ValueError(f"width: must be 1 to 4096, not {width}")
        channels, *sides = image_shape
        if min(sides) < 4:
            raise ShapeError(
                f"compact halves the image twice and needs at least 4 x 4 pixels, not {sides[0]} x {sides[1]}; "
                f"choose a model without convolutions"
            )
        self.features = nn.Sequential(
            *_block(channels, width),  # (B, C, H, W) -> (B, width, H, W)
            nn.MaxPool2d(2),
            *_block(width, 2 * width),
            nn.MaxPool2d(2),
            *_block(2 * width, 2 * width),
            nn.AdaptiveAvgPool2d(1),  # (B, 2 width, H / 4, W / 4) -> (B, 2 width, 1, 1)
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(2 * width, classes))

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) float32 to logits, (B, classes)."""
        logits: Tensor = self.classifier(self.features(images))
        return logits


def _block(fan_in: int, fan_out: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for channels in (fan_in, fan_out):
        layers += [
            nn.Conv2d(channels, fan_out, 3, padding=1, bias=False),  # batch normalisation has its own
            nn.BatchNorm2d(fan_out),
            nn.ReLU(),
        ]
    return layers
