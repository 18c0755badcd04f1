from __future__ import annotations

import pytest
import torch
from conftest import Splits
from torch import Generator, Tensor

from mnistflow.evaluation.corruptions import CORRUPTIONS, corrupted

RANDOM = {"shift", "rotation", "scale", "noise", "occlusion", "inversion"}
assert set(CORRUPTIONS) > RANDOM
MEAN, STD = 0.2, 0.4


def images(*shape: int) -> Tensor:
    """Normalised images whose pixels lie anywhere in [0, 1]."""
    return (torch.rand(shape, generator=Generator().manual_seed(1)) - MEAN) / STD


def pixels(found: Tensor) -> Tensor:
    return found * STD + MEAN


def corrupt(given: Tensor, name: str, strength: int, seed: int = 0) -> Tensor:
    return corrupted(given, CORRUPTIONS[name], strength, Generator().manual_seed(seed), mean=MEAN, std=STD)


@pytest.mark.parametrize("shape", [(3, 1, 8, 8), (2, 3, 17, 40), (1, 1, 28, 28)])
@pytest.mark.parametrize("strength", [1, 2, 3])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_any_images_keep_shape_and_range_and_the_given_ones_stay(
    name: str, strength: int, shape: tuple[int, ...]
) -> None:
    given = images(*shape)
    before = given.clone()
    found = corrupt(given, name, strength)
    assert torch.equal(given, before)
    assert (found.shape, found.dtype) == (given.shape, torch.float32)
    assert float(pixels(found).min()) >= -1e-6
    assert float(pixels(found).max()) <= 1 + 1e-6
    assert float((found - given).abs().max()) > 1e-4  # far more than rounding


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_seed_alone_determines_a_corruption(name: str) -> None:
    given = images(5, 1, 20, 20)
    torch.manual_seed(3)
    found = corrupt(given, name, 2)
    torch.manual_seed(4)
    state = torch.get_rng_state()
    assert torch.equal(corrupt(given, name, 2), found)
    assert torch.equal(torch.get_rng_state(), state), "the global generator was used"
    assert torch.equal(corrupt(given, name, 2, seed=1), found) == (name not in RANDOM)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_higher_strength_changes_more(name: str, digits: Splits) -> None:
    test = digits[2]
    mean, std = test.inputs.mean, test.inputs.std
    changes = [
        float(
            (corrupted(test.images, corruption, strength, Generator().manual_seed(0), mean=mean, std=std) - test.images)
            .abs()
            .mean()
        )
        for corruption in [CORRUPTIONS[name]]
        for strength in (1, 2, 3)
    ]
    assert 0 < changes[0] < changes[1] < changes[2]


@pytest.mark.parametrize("strength", [1, 2, 3])
def test_inversion_undoes_itself(strength: int) -> None:
    given = images(6, 2, 15, 15)
    once = corrupt(given, "inversion", strength)
    assert not torch.allclose(once, given)
    torch.testing.assert_close(corrupt(once, "inversion", strength), given)


def test_the_strongest_inversion_is_of_all_pixels() -> None:
    given = images(2, 1, 10, 10)
    torch.testing.assert_close(pixels(corrupt(given, "inversion", 3)), 1 - pixels(given))


@pytest.mark.parametrize("shape", [(40, 1, 20, 20), (40, 2, 20, 50)])
def test_occlusion_is_a_window_of_background_that_grows_with_the_image(shape: tuple[int, ...]) -> None:
    given = images(*shape)
    dark = (pixels(corrupt(given, "occlusion", 3)) - pixels(given)).abs() > 1e-6
    _, _, height, width = shape
    hidden = dark.any(dim=1)  # (N, H, W)
    assert int(hidden.any(dim=2).sum(dim=1).max()) == round(0.4 * height)
    assert int(hidden.any(dim=1).sum(dim=1).max()) == round(0.4 * width)
    assert len({tuple(mask.any(dim=1).tolist()) for mask in hidden}) > 5, "the window is always in the same place"
    assert float(pixels(corrupt(given, "occlusion", 3))[dark].abs().max()) < 1e-6


def test_blur_spreads_a_spot_and_keeps_its_brightness() -> None:
    given = torch.zeros(1, 1, 61, 61)
    given[..., 30, 30] = 1.0
    spread = CORRUPTIONS["blur"].change(given, 0.05, Generator())[0, 0]
    assert float(spread.sum()) == pytest.approx(1, rel=1e-4)
    places = torch.arange(61) - 30.0
    for line in (spread.sum(dim=0), spread.sum(dim=1)):
        assert float((line * places**2).sum()) ** 0.5 == pytest.approx(0.05 * 61, rel=1e-3)
    flat = torch.full((1, 1, 12, 9), 0.7)
    torch.testing.assert_close(CORRUPTIONS["blur"].change(flat, 0.07, Generator()), flat)


def test_noise_has_its_standard_deviation_and_contrast_keeps_the_mean() -> None:
    grey = torch.full((4, 1, 50, 50), 0.5)
    noisy = CORRUPTIONS["noise"].change(grey, 0.1, Generator().manual_seed(0))
    assert float(noisy.std()) == pytest.approx(0.1, rel=0.03)
    given = pixels(images(4, 1, 9, 9))
    faint = CORRUPTIONS["contrast"].change(given, 0.75, Generator())
    torch.testing.assert_close(faint.mean(dim=(1, 2, 3)), given.mean(dim=(1, 2, 3)))
    torch.testing.assert_close(faint.std(dim=(1, 2, 3)), 0.25 * given.std(dim=(1, 2, 3)))


def test_shifts_are_shares_of_the_side() -> None:
    for side in (20, 60):
        spot = torch.zeros(300, 1, side, side)
        spot[..., side // 2, side // 2] = 1.0
        moved = CORRUPTIONS["shift"].change(spot, 0.2, Generator().manual_seed(0))
        rows = moved.sum(dim=(1, 3)) @ torch.arange(float(side)) / moved.sum(dim=(1, 2, 3))
        distances = (rows - side // 2).abs()
        assert 0.19 * side < float(distances.max()) <= 0.2 * side + 0.01
