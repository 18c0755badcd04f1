from __future__ import annotations

import pytest
import torch
from conftest import Splits
from sklearn.model_selection import StratifiedShuffleSplit

from mnistflow.data.splits import stratified

LABELS = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)[torch.randperm(100, generator=torch.Generator().manual_seed(1))]


@pytest.mark.parametrize(("size", "count"), [(10, 10), (0.1, 10), (37, 37), (0.5, 50), (97, 97), (3, 3)])
def test_each_class_keeps_its_share_and_the_order_stays(size: float, count: int) -> None:
    kept, held_out = stratified(LABELS, size, seed=0)
    assert len(held_out) == count
    assert sorted([*kept.tolist(), *held_out.tolist()]) == list(range(100))
    for part in (kept, held_out):
        assert part.tolist() == sorted(part.tolist())
        shares = LABELS[part].bincount(minlength=3)
        assert shares.min() >= 1
        assert (shares - torch.tensor([0.5, 0.3, 0.2]) * len(part)).abs().max() <= 1.0


def test_the_counts_are_those_of_scikit_learn(digits: Splits) -> None:
    labels = digits[0].labels
    _, held_out = stratified(labels, 200, seed=0)
    _, other = next(StratifiedShuffleSplit(1, test_size=200, random_state=0).split(labels, labels))
    assert (labels[held_out].bincount() - labels[other].bincount()).abs().max() <= 1


def test_the_seed_decides() -> None:
    one, again, other = (stratified(LABELS, 20, seed)[1].tolist() for seed in (0, 0, 1))
    assert one == again
    assert one != other


def test_size_zero_holds_out_no_images() -> None:
    kept, held_out = stratified(LABELS, 0, seed=0)
    assert kept.tolist() == list(range(100))
    assert len(held_out) == 0


@pytest.mark.parametrize("size", [1, 2, 98, 100, 200, 0.001, 0.999])
def test_a_size_that_leaves_a_class_empty_is_refused(size: float) -> None:
    with pytest.raises(ValueError, match="use 0, or 3 to 97"):
        stratified(LABELS, size, seed=0)


@pytest.mark.parametrize(("counts", "size"), [((96, 2, 2), 3), ((96, 2, 2), 90), ((98, 2), 98), ((50, 48, 2), 97)])
def test_a_small_class_is_never_taken_whole_nor_left_out(counts: tuple[int, ...], size: int) -> None:
    labels = torch.tensor([label for label, count in enumerate(counts) for _ in range(count)])
    kept, held_out = stratified(labels, size, seed=0)
    assert len(held_out) == size
    for part in (kept, held_out):
        assert labels[part].bincount(minlength=len(counts)).min() >= 1


def test_a_class_of_one_image_cannot_be_on_both_sides() -> None:
    with pytest.raises(ValueError, match=r"the smallest has 1 images"):
        stratified(torch.tensor([0] * 50 + [1]), 10, seed=0)
