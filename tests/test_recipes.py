from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from mnistflow.models.losses import OUTLIER, make_loss
from mnistflow.training.optimizers import OptimizerName, make_optimizer, make_schedule

LOGITS = torch.tensor([[2.0, 1.0, -1.0], [0.5, 1.5, 0.3]])
LABELS = torch.tensor([0, 1])


def test_cross_entropy_of_a_case_worked_out_by_hand() -> None:
    first = math.exp(2) / (math.exp(2) + math.exp(1) + math.exp(-1))  # 0.7054
    second = math.exp(1.5) / (math.exp(0.5) + math.exp(1.5) + math.exp(0.3))  # 0.5991
    expected = -(math.log(first) + math.log(second)) / 2  # 0.4306
    assert float(make_loss("cross_entropy")(LOGITS, LABELS)) == pytest.approx(expected)


def test_label_smoothing_mixes_in_the_mean_over_all_classes() -> None:
    plain = float(make_loss("cross_entropy")(LOGITS, LABELS))
    even = float(-LOGITS.log_softmax(dim=1).mean())
    smoothed = float(make_loss("cross_entropy", label_smoothing=0.1)(LOGITS, LABELS))
    assert smoothed == pytest.approx(0.9 * plain + 0.1 * even)


def test_a_loss_for_outliers_is_the_plain_one_without_them() -> None:
    plain = make_loss("cross_entropy", label_smoothing=0.1)(LOGITS, LABELS)
    assert float(make_loss("cross_entropy", label_smoothing=0.1, outliers=True)(LOGITS, LABELS)) == pytest.approx(
        float(plain)
    )


def test_an_outlier_should_be_of_all_classes_alike() -> None:
    loss = make_loss("cross_entropy", outliers=True)
    labels = torch.tensor([0, OUTLIER])
    first = float(make_loss("cross_entropy")(LOGITS[:1], LABELS[:1]))
    second = float(-LOGITS[1].log_softmax(dim=0).mean())
    assert float(loss(LOGITS, labels)) == pytest.approx((first + second) / 2)
    even = torch.zeros(1, 3, requires_grad=True)
    loss(even, labels[1:]).backward()
    assert even.grad is not None
    assert float(even.grad.abs().max()) < 1e-6


def test_mse_against_one_hot_by_hand() -> None:
    squares = [(2 - 1) ** 2, 1**2, 1**2, 0.5**2, (1.5 - 1) ** 2, 0.3**2]
    assert float(make_loss("mse")(LOGITS, LABELS)) == pytest.approx(sum(squares) / 6)


def updated(name: OptimizerName, **arguments: float) -> list[float]:
    """The value of one parameter, from 1 on, over three steps with gradients 0.5, 0.5, 0.5."""
    parameter = nn.Parameter(torch.ones(1))
    optimizer = make_optimizer([parameter], name, lr=0.1, **arguments)  # type: ignore[arg-type]
    values = []
    for _ in range(3):
        parameter.grad = torch.tensor([0.5])
        optimizer.step()
        values.append(float(parameter.detach()))
    return values


def test_optimizers_step_as_their_papers_say() -> None:
    assert updated("sgd") == pytest.approx([0.95, 0.90, 0.85])
    # velocity: 0.5, 0.5 * 0.9 + 0.5, ...
    assert updated("sgd", momentum=0.9) == pytest.approx([0.95, 0.855, 0.7195])
    # With a constant gradient Adam's two averages cancel: each step is the learning rate.
    assert updated("adam") == pytest.approx([0.9, 0.8, 0.7], abs=1e-6)
    first = 1 - 0.1 * 0.01  # decoupled decay first
    assert updated("adamw", weight_decay=0.01)[0] == pytest.approx(first - 0.1, abs=1e-6)


def test_one_cycle_goes_up_to_the_peak_and_down_to_nothing() -> None:
    optimizer = make_optimizer([nn.Parameter(torch.ones(1))], "sgd", lr=0.1, momentum=0.9)
    schedule = make_schedule(optimizer, "one_cycle", steps=100, warmup=0.25)
    assert schedule is not None
    rates = []
    for step in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < 99:
            schedule.step()
    assert rates[0] == pytest.approx(0.1 / 25)
    assert max(rates) == pytest.approx(0.1, rel=1e-3)  # the peak lies between two steps
    assert 23 <= rates.index(max(rates)) <= 25
    assert rates[-1] == pytest.approx(0.1 / 25 / 1e4)
    assert optimizer.param_groups[0]["momentum"] == 0.9


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0.5), (2, 0.5), (2, 0.9), (4, 0.25), (10, 0.1), (3, 0.01)])
def test_one_cycle_of_few_steps_stays_between_its_ends(steps: int, warmup: float) -> None:
    optimizer = make_optimizer([nn.Parameter(torch.ones(1))], "sgd", lr=0.1)
    schedule = make_schedule(optimizer, "one_cycle", steps=steps, warmup=warmup)
    assert schedule is not None
    for _ in range(steps):
        assert 0 < optimizer.param_groups[0]["lr"] <= 0.1
        optimizer.step()
        schedule.step()


def test_one_cycle_is_that_of_pytorch() -> None:
    ours, theirs = (make_optimizer([nn.Parameter(torch.ones(1))], "sgd", lr=0.1) for _ in range(2))
    schedule = make_schedule(ours, "one_cycle", steps=101, warmup=0.3)
    oracle = torch.optim.lr_scheduler.OneCycleLR(theirs, 0.1, total_steps=101, pct_start=0.3, cycle_momentum=False)
    assert schedule is not None
    for step in range(100):
        # PyTorch's rise ends a step earlier: at 0.3 * steps - 1.
        shift = abs(ours.param_groups[0]["lr"] - theirs.param_groups[0]["lr"])
        assert shift < 0.006, step
        for optimizer, each in ((ours, schedule), (theirs, oracle)):
            optimizer.step()
            each.step()


def test_a_constant_rate_needs_no_schedule() -> None:
    optimizer = make_optimizer([nn.Parameter(torch.ones(1))], "sgd", lr=0.1)
    assert make_schedule(optimizer, "constant", steps=10) is None


def test_uniform_probabilities_lose_ln_classes() -> None:
    assert float(make_loss("cross_entropy")(torch.zeros(4, 10), torch.arange(4))) == pytest.approx(math.log(10))
