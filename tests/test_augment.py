from __future__ import annotations

import math

import pytest
import torch
from torch import Generator, Tensor

from mnistflow.core.affine import affine
from mnistflow.training.augmentation import augmented


def generator() -> Generator:
    return Generator().manual_seed(0)


def blob(row: int, column: int, size: tuple[int, int] = (41, 41)) -> Tensor:
    """A soft spot on a background of -1."""
    rows, columns = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    spot = torch.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 8.0)
    return (2 * spot - 1)[None, None]


def centre(images: Tensor) -> Tensor:
    """(N, 2) row and column of the spot in each image."""
    weights = (images[:, 0] + 1).clamp(min=0)
    rows, columns = (torch.arange(n, dtype=torch.float32) for n in weights.shape[1:])
    total = weights.sum(dim=(1, 2))
    down, right = weights.sum(dim=2) @ rows / total, weights.sum(dim=1) @ columns / total
    return torch.stack([down, right], dim=1)


def test_zero_augmentation_returns_the_same_images() -> None:
    images = torch.randn(4, 1, 8, 8)
    assert affine(images, generator(), rotate=0, scale=0, shift=0) is images


def test_shifts_stay_within_their_bound_and_reach_it() -> None:
    images = blob(20, 20).expand(500, -1, -1, -1)
    moved = centre(affine(images, generator(), rotate=0, scale=0, shift=3)) - 20
    assert moved.abs().max() <= 3.01
    assert (moved.amax(dim=0) > 2.8).all()
    assert (moved.amin(dim=0) < -2.8).all()
    assert moved.mean(dim=0).abs().max() < 0.3


@pytest.mark.parametrize("size", [(41, 41), (41, 61)])
def test_rotation_keeps_the_distance_in_pixels_also_in_oblong_images(size: tuple[int, int]) -> None:
    middle = torch.tensor([(size[0] - 1) / 2, (size[1] - 1) / 2])
    images = blob(int(middle[0]), int(middle[1]) + 12, size).expand(300, -1, -1, -1)
    arm = centre(affine(images, generator(), rotate=40, scale=0, shift=0)) - middle
    assert (arm.norm(dim=1) - 12).abs().max() < 0.3
    angles = torch.atan2(arm[:, 0], arm[:, 1]) * 180 / math.pi
    assert angles.abs().max() < 41
    assert angles.max() > 36
    assert angles.min() < -36


def test_scaling_moves_away_from_the_middle_by_its_share() -> None:
    images = blob(20, 32).expand(300, -1, -1, -1)
    distance = centre(affine(images, generator(), rotate=0, scale=0.25, shift=0))[:, 1] - 20
    assert distance.max() < 12 * 1.26
    assert distance.max() > 12 * 1.22
    assert distance.min() > 12 * 0.74
    assert distance.min() < 12 * 0.78


def test_new_pixels_continue_the_background() -> None:
    moved = affine(blob(20, 20).expand(50, -1, -1, -1), generator(), rotate=90, scale=0.2, shift=8)
    assert moved.min() >= -1.0001
    assert (moved[:, :, 0, 0] < -0.99).all()


def test_the_generator_determines_the_augmentation() -> None:
    images = torch.randn(5, 1, 12, 12)
    one, again = (affine(images, generator(), rotate=10, scale=0.1, shift=2) for _ in range(2))
    assert torch.equal(one, again)
    assert not torch.equal(one, affine(images, Generator().manual_seed(1), rotate=10, scale=0.1, shift=2))


@pytest.mark.gpu
def test_the_same_changes_on_every_device() -> None:
    images = torch.randn(64, 1, 28, 28)
    on_cpu = affine(images, generator(), rotate=15, scale=0.1, shift=3)
    on_gpu = affine(images.cuda(), generator(), rotate=15, scale=0.1, shift=3).cpu()
    torch.testing.assert_close(on_gpu, on_cpu, atol=1e-4, rtol=1e-4)


def strokes(count: int) -> Tensor:
    """A bar, three pixels wide, on a background of -0.4."""
    images = torch.full((count, 1, 28, 28), -0.4)
    images[:, :, 4:24, 12:15] = 2.8
    return images


def test_without_pens_and_scanners_the_images_are_those_of_affine() -> None:
    images = strokes(8)
    plain = affine(images, generator(), rotate=10, scale=0.1, shift=2)
    assert torch.equal(augmented(images, generator(), rotate=10, scale=0.1, shift=2), plain)


def test_pens_are_at_most_a_pixel_thicker_or_thinner_on_each_side() -> None:
    images = strokes(400)
    changed = augmented(images, generator(), rotate=0, scale=0, shift=0, thickness=1.0)
    width = (changed[:, 0, 14] + 0.4).sum(dim=1) / 3.2  # pixels
    assert width.min() >= 1
    assert width.max() <= 5
    assert width.min() < 1.1
    assert width.max() > 4.9
    assert float(changed.min()) == pytest.approx(-0.4)
    assert float(changed.max()) == pytest.approx(2.8)


def test_a_share_of_the_images_loses_detail_and_keeps_its_place() -> None:
    images = strokes(40)
    changed = augmented(images, generator(), rotate=0, scale=0, shift=0, resample=0.25)
    assert torch.equal(changed[10:], images[10:])
    assert (changed[:10] != images[:10]).flatten(1).any(dim=1).all()
    mass = (changed + 0.4).sum(dim=(1, 2, 3)) / (images + 0.4).sum(dim=(1, 2, 3))
    assert (mass - 1).abs().max() < 0.1
    assert (centre(changed + 0.4 - 1) - centre(images + 0.4 - 1)).abs().max() < 0.5


@pytest.mark.parametrize("share", [0.0, 0.001])
def test_a_share_of_less_than_an_image_changes_none(share: float) -> None:
    images = strokes(40)
    assert torch.equal(augmented(images, generator(), rotate=0, scale=0, shift=0, resample=share), images)
