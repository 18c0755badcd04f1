"""Random changes of training images, a batch at a time: as hands, pens and scanners differ."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from mnistflow.core.affine import affine

__all__ = ["augmented"]

LOWEST = 0.4  # of the side of an image: what it is scaled down to at most; the ink of MNIST is then 8 pixels high


def augmented(
    images: Tensor,
    generator: Generator,
    *,
    rotate: float,
    scale: float,
    shift: float,
    thickness: float = 0.0,
    resample: float = 0.0,
) -> Tensor:
    """Change each image on its own.

    The random numbers come from the CPU, so that they are the same whatever the device of the images.

    Args:
        images: (N, C, H, W) float; strokes are lighter than the background.
        generator: on the CPU.
        rotate: see :func:`mnistflow.core.affine.affine`, also for the next two.
        scale: see there.
        shift: see there.
        thickness: at most so many pixels are added to each side of a stroke, or taken from it; up to 1.
        resample: the share of the images that are scaled down and up again, to as few as 0.4 times the pixels a side.

    Returns:
        As ``images``.
    """
    images = affine(images, generator, rotate=rotate, scale=scale, shift=shift)
    if thickness:
        images = _with_another_pen(images, generator, thickness)
    if resample:
        images = _resampled(images, generator, resample)
    return images


def _with_another_pen(images: Tensor, generator: Generator, thickness: float) -> Tensor:
    """Strokes thicker or thinner: a blend with the largest, or the smallest, of 3 x 3 pixels."""
    change = thickness * (2 * torch.rand(len(images), 1, 1, 1, generator=generator) - 1)
    change = change.to(images.device)
    thicker, thinner = F.max_pool2d(images, 3, 1, 1), -F.max_pool2d(-images, 3, 1, 1)
    return torch.lerp(images, torch.where(change > 0, thicker, thinner), change.abs())


def _resampled(images: Tensor, generator: Generator, share: float) -> Tensor:
    """The first images of a batch, scaled down to one random size and up again; those of an epoch are in any order."""
    count, (height, width) = round(share * len(images)), images.shape[-2:]
    factor = LOWEST + (1 - LOWEST) * float(torch.rand((), generator=generator))
    smaller = (max(1, round(factor * height)), max(1, round(factor * width)))
    if not count or smaller == (height, width):
        return images
    low = F.interpolate(images[:count], size=smaller, mode="area")
    back = F.interpolate(low, size=(height, width), mode="bicubic", align_corners=False)
    return torch.cat([back, images[count:]])
