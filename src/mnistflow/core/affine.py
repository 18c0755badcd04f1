"""Random rotation, scaling and shifting of images, a batch at a time: augmentation, and some of the corruptions."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

__all__ = ["affine"]


def affine(images: Tensor, generator: Generator, *, rotate: float, scale: float, shift: float) -> Tensor:
    """Rotate, scale and shift each image on its own, with bilinear sampling; new pixels continue the border.

    The random numbers come from the CPU, so that they are the same whatever the device of the images.

    Args:
        images: (N, C, H, W) float.
        generator: on the CPU.
        rotate: at most so many degrees either way.
        scale: at most this share smaller or larger.
        shift: at most so many pixels either way, along each axis.

    Returns:
        As ``images``; the same tensor where all three are zero.
    """
    if not (rotate or scale or shift):
        return images
    count, _, height, width = images.shape
    unit = 2 * torch.rand(4, count, generator=generator) - 1  # (4, N) in [-1, 1)
    angle = unit[0] * math.radians(rotate)
    zoom = 1 / (1 + unit[1] * scale)  # the grid says where to sample from: the inverse of what happens to the image
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    theta = torch.stack(
        [
            torch.stack([cos, -sin * (height / width), unit[2] * (2 * shift / width)], dim=1),
            torch.stack([sin * (width / height), cos, unit[3] * (2 * shift / height)], dim=1),
        ],
        dim=1,
    )  # (N, 2, 3)
    if images.is_cuda:  # from pinned memory a copy is only asked for; from other memory it would be waited for
        theta = theta.pin_memory()
    grid = F.affine_grid(theta.to(images.device, non_blocking=True), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
