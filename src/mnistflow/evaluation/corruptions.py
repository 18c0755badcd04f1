"""Images made harder to read, as scanners, cameras and hands do it, by strength and seed.

After the corruptions of Hendrycks and Dietterich (2019) and of Mu and Gilmer (2019). They are for measuring a network
that is finished; they are never used to train or choose one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from mnistflow.core.affine import affine

__all__ = ["CORRUPTIONS", "Corruption", "corrupted"]

Change = Callable[[Tensor, float, Generator], Tensor]
"""Images, (N, C, H, W) float32 in [0, 1], an amount and a generator on the CPU to images that may leave that range."""


@dataclass(frozen=True)
class Corruption:
    """A way to make images harder to read, and how far it goes."""

    change: Change
    amounts: tuple[float, float, float]  # at strength 1, 2 and 3


def corrupted(
    images: Tensor, corruption: Corruption, strength: int, generator: Generator, *, mean: float, std: float
) -> Tensor:
    """Corrupt normalised images: their pixels are brought back to [0, 1], changed, clamped and normalised again.

    The random numbers come from the CPU, so that they are the same whatever the device of the images.

    Args:
        images: (N, C, H, W) float32, normalised; they stay as they are.
        corruption: what is done to them, to each image on its own.
        strength: 1 to 3.
        generator: on the CPU; one with the same state does the same again.
        mean: that they were normalised by, of pixels in [0, 1].
        std: the standard deviation, likewise.

    Returns:
        As ``images``.
    """
    pixels = images * std + mean
    changed = corruption.change(pixels, corruption.amounts[strength - 1], generator).clamp(0, 1)
    return (changed - mean) / std


def _shift(pixels: Tensor, amount: float, generator: Generator) -> Tensor:
    """By at most so large a share of the shorter side, along each axis."""
    return affine(pixels, generator, rotate=0, scale=0, shift=amount * min(pixels.shape[2:]))


def _rotation(pixels: Tensor, amount: float, generator: Generator) -> Tensor:
    """By at most so many degrees either way."""
    return affine(pixels, generator, rotate=amount, scale=0, shift=0)


def _scale(pixels: Tensor, amount: float, generator: Generator) -> Tensor:
    """By at most so large a share smaller or larger."""
    return affine(pixels, generator, rotate=0, scale=amount, shift=0)


def _noise(pixels: Tensor, amount: float, generator: Generator) -> Tensor:
    """Normal, with this standard deviation, on every pixel."""
    return pixels + amount * torch.randn(pixels.shape, generator=generator).to(pixels.device)


def _blur(pixels: Tensor, amount: float, _: Generator) -> Tensor:
    """Gaussian, its standard deviation so large a share of the shorter side; beyond the edge is nothing to mix in."""
    height, width = pixels.shape[2:]
    std = amount * min(height, width)

    def mixing(side: int) -> Tensor:  # (side, side): row i has the weights of which pixel i is mixed
        places = torch.arange(side, device=pixels.device, dtype=pixels.dtype)
        return (-((places[:, None] - places) ** 2) / (2 * std**2)).softmax(dim=1)

    return mixing(height) @ pixels @ mixing(width).T


def _contrast(pixels: Tensor, amount: float, _: Generator) -> Tensor:
    """Less of it by this share: every pixel comes nearer to the mean of its image."""
    return pixels.lerp(pixels.mean(dim=(1, 2, 3), keepdim=True), amount)


def _occlusion(pixels: Tensor, amount: float, generator: Generator) -> Tensor:
    """Background in a window of so large a share of each side."""
    return pixels.masked_fill(_window(pixels, amount, generator), 0.0)


def _inversion(pixels: Tensor, amount: float, generator: Generator) -> Tensor:
    """Light for dark in a window of so large a share of each side; done twice, it is undone."""
    return torch.where(_window(pixels, amount, generator), 1 - pixels, pixels)


def _window(pixels: Tensor, share: float, generator: Generator) -> Tensor:
    """A window anywhere in each image, so large a share of each side: (N, 1, H, W) bool."""
    lines = []
    for side in pixels.shape[2:]:
        size = max(1, round(share * side))
        start = (torch.rand(len(pixels), 1, generator=generator) * (side - size + 1)).long()  # (N, 1)
        places = torch.arange(side)
        lines.append((places >= start) & (places < start + size))  # (N, side)
    down, across = lines
    return (down[:, None, :, None] & across[:, None, None, :]).to(pixels.device)


CORRUPTIONS = {
    "shift": Corruption(_shift, (0.1, 0.15, 0.2)),
    "rotation": Corruption(_rotation, (20.0, 40.0, 60.0)),
    "scale": Corruption(_scale, (0.2, 0.35, 0.5)),
    "noise": Corruption(_noise, (0.1, 0.25, 0.4)),
    "blur": Corruption(_blur, (0.03, 0.05, 0.07)),
    "contrast": Corruption(_contrast, (0.5, 0.7, 0.9)),
    "occlusion": Corruption(_occlusion, (0.2, 0.3, 0.4)),
    "inversion": Corruption(_inversion, (0.25, 0.5, 1.0)),
}
"""By name, the amounts in the unit that the change says."""
