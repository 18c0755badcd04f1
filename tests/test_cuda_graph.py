"""A step that is recorded on a GPU and replayed gives what it gives when it is computed part by part."""

from __future__ import annotations

import pytest
import torch
from conftest import Splits
from test_checkpoints import KINDS, begun, outcome
from torch import Tensor, nn

from mnistflow.core import devices
from mnistflow.training.cuda_graph import WARMUP_STEPS, Captured
from mnistflow.training.optimizers import make_optimizer

CUDA = torch.device("cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_a_training_of_recorded_steps_ends_in_the_same_bits(
    kind: str, digits: Splits, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = []
    for capture in (True, False):
        devices.repeatable(1, CUDA)
        state, run = begun(kind, digits, CUDA)
        list(run(capture=capture))
        outcomes.append(outcome(state))
    assert outcomes[0] == outcomes[1]
    assert "no CUDA graph was captured" not in capsys.readouterr().out


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_images_copied_in_chunks_give_the_same_bits(kind: str, digits: Splits) -> None:
    outcomes = []
    for place in (CUDA, torch.device("cpu")):
        devices.repeatable(1, CUDA)
        state, run = begun(kind, digits, CUDA, place)
        list(run(capture=True))
        outcomes.append(outcome(state))
    assert outcomes[0] == outcomes[1]


@pytest.mark.gpu
def test_a_step_is_captured_and_new_learning_rates_take_effect(capsys: pytest.CaptureFixture[str]) -> None:
    devices.repeatable(1, CUDA)
    model = nn.Linear(4, 2).to(CUDA)
    optimizer = make_optimizer(model.parameters(), "sgd", lr=0.1)

    def step(images: Tensor, labels: Tensor) -> Tensor:
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    captured = Captured(step, optimizer, CUDA)
    images, labels = torch.rand(8, 4, device=CUDA), torch.arange(8, device=CUDA) % 2
    launches = []
    for _ in range(WARMUP_STEPS + 3):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            captured(images, labels)
        launches.append(sum(event.count for event in profile.key_averages() if event.key == "aten::linear"))
    assert launches[:WARMUP_STEPS] == [1] * WARMUP_STEPS
    assert launches[-1] == 0
    before = model.weight.detach().clone()
    optimizer.param_groups[0]["lr"] = 0.0
    captured(images, labels)
    assert torch.equal(model.weight, before)
    assert optimizer.param_groups[0]["lr"] == 0.0
    assert capsys.readouterr().out == ""
