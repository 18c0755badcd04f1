"""A training that is interrupted anywhere, and goes on, ends in the bytes of one that was not."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Splits
from torch import Generator

from mnistflow import models
from mnistflow.core.affine import affine
from mnistflow.core.tensors import read_tensors, write_tensors
from mnistflow.models.losses import make_loss
from mnistflow.pipeline.checkpoints import Checkpoint
from mnistflow.training.history import Epoch
from mnistflow.training.loop import Diverged, State, Step, fit
from mnistflow.training.optimizers import make_optimizer, make_schedule

CPU = torch.device("cpu")
CHANGES = partial(affine, rotate=10, scale=0.1, shift=2)

# What differs in what it carries from one step to the next.
KINDS: dict[str, dict[str, Any]] = {
    "sgd": {"model": ("mlp", {"hidden": [32]})},
    "momentum": {"model": ("lenet5", {"padding": 2}), "momentum": 0.9, "nesterov": True, "schedule": True},
    "adam-dropout": {"model": ("mlp", {"hidden": [32], "dropout": 0.5}), "optimizer": "adam", "keep": "best"},
    "adamw-prelu": {"model": ("lenet5", {"activation": "prelu"}), "optimizer": "adamw", "augment": CHANGES},
    "batch-norm-bf16": {"model": ("compact", {"width": 8}), "precision": "bf16", "augment": CHANGES},
    "early-stopping": {"model": ("mlp", {"hidden": [64]}), "patience": 1, "keep": "best", "epochs": 20, "lr": 0.2},
    "batches-of-two": {"model": ("lenet5", {}), "optimizer": "adam", "batch_size": 2, "epochs": 1, "lr": 0.001},
    "short-end": {"model": ("mlp", {"hidden": [32], "dropout": 0.5}), "optimizer": "adam", "batch_size": 70},
    "in-order": {"model": ("convnet", {"kernels": [4], "kernel_size": 5, "hidden": [16]}), "shuffle": False},
}


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def begun(
    kind: str, digits: Splits, device: torch.device = CPU, place: torch.device | None = None
) -> tuple[State, Callable[..., Iterator[Step | Epoch]]]:
    """A fresh training of a kind on a device, its images there or in another place, and what runs it."""
    asked = {"optimizer": "sgd", "lr": 0.05, "epochs": 3, "keep": "last", "shuffle": True, **KINDS[kind]}
    architecture, arguments = asked.pop("model")
    torch.manual_seed(0)
    model = models.build(architecture, (1, 28, 28), 10, arguments).to(device)
    optimizer = make_optimizer(
        model.parameters(),
        asked.pop("optimizer"),
        lr=asked.pop("lr"),
        momentum=asked.pop("momentum", None),
        nesterov=asked.pop("nesterov", False),
    )
    schedule = make_schedule(optimizer, "one_cycle", steps=18, warmup=0.3) if asked.pop("schedule", 0) else None
    state = State(model, optimizer, schedule, Generator().manual_seed(1), asked.pop("batch_size", 100))
    train, validation = (split.to(place or device) for split in digits[:2])
    train = replace(train, images=train.images[:600], labels=train.labels[:600], indices=train.indices[:600])
    run = partial(fit, state, train, loss=make_loss("cross_entropy"), validation=validation, **asked)
    return state, run


def outcome(state: State) -> dict[str, Any]:
    """Weights as bytes, and everything that was said of each epoch but its time."""
    weights = {name: value.cpu().numpy().tobytes() for name, value in state.model.state_dict().items()}
    return {**weights, "epochs": [{**asdict(epoch), "seconds": 0} for epoch in state.epochs]}


@pytest.mark.parametrize("kind", KINDS)
def test_resumed_training_ends_in_the_same_bits(kind: str, digits: Splits) -> None:
    state, run = begun(kind, digits)
    events = len(list(run()))
    expected = outcome(state)
    if kind == "early-stopping":
        assert len(state.epochs) < 20

    numbers = random.Random(kind)
    checkpoint = Checkpoint("any", CPU, every=1e9)
    for stops in ([1], [events - 1], [events], *(sorted(numbers.sample(range(2, events), 3)) for _ in range(2))):
        done = 0
        for stop in stops:
            state, run = begun(kind, digits)
            assert checkpoint.restore(state) == (done > 0)
            list(islice(run(), stop - done))
            checkpoint.save(state)
            done = stop
        torch.rand(7)  # another process has drawn other numbers
        state, run = begun(kind, digits)
        assert checkpoint.restore(state)
        assert len(list(run())) == events - done
        assert outcome(state) == expected, stops
        checkpoint.remove()
    assert list(checkpoint.path.parent.iterdir()) == []


def test_durations_include_time_before_the_interruption(digits: Splits) -> None:
    state, run = begun("sgd", digits)
    list(islice(run(), 10))
    state.started -= 100
    checkpoint = Checkpoint("any", CPU, every=1e9)
    checkpoint.save(state)
    state, run = begun("sgd", digits)
    checkpoint.restore(state)
    list(run())
    assert [round(epoch.seconds, -2) for epoch in state.epochs] == [0, 100, 0]


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def of_another(path: Path) -> None:
    tensors, metadata = read_tensors(path)
    write_tensors(path, tensors, {**metadata, "key": "0" * 64})


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (flipped, "is damaged: "),
        (cut, "is damaged: "),
        (of_another, "belongs to another training"),
        (lambda path: path.write_bytes(b""), "is damaged: "),
    ],
)
def test_one_that_is_damaged_or_of_another_training_is_set_aside(
    damage: Callable[[Path], None], why: str, digits: Splits, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = Checkpoint("any", CPU, every=1e9)
    state, run = begun("momentum", digits)
    list(islice(run(), 10))
    checkpoint.save(state)
    damage(checkpoint.path)

    state, run = begun("momentum", digits)
    fresh = outcome(state)
    assert not checkpoint.restore(state)
    assert outcome(state) == fresh
    assert not checkpoint.path.exists()
    assert checkpoint.path.with_suffix(".damaged").is_file()
    printed = capsys.readouterr().out
    assert printed.startswith(f"train: warning: the checkpoint is not used: {checkpoint.path} {why}")
    assert printed.count("\n") == 1
    assert str(checkpoint.path.with_suffix(".damaged")) in printed


def test_a_different_training_uses_a_different_checkpoint(digits: Splits) -> None:
    state, run = begun("sgd", digits)
    list(islice(run(), 10))
    Checkpoint("one", CPU, every=1e9).save(state)
    assert not Checkpoint("other", CPU, every=1e9).restore(state)


def test_long_epochs_save_checkpoints_at_intervals(digits: Splits) -> None:
    state, run = begun("sgd", digits)
    list(islice(run(), 5))
    for every, due in ((1e9, False), (1e-9, True)):
        checkpoint = Checkpoint("any", CPU, every)
        assert checkpoint.is_due() == due
        checkpoint.save(state)
        assert checkpoint.is_due() == due


def test_an_unwritable_checkpoint_gives_one_warning(digits: Splits, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = Checkpoint("any", CPU, every=1e9)
    checkpoint.path.parent.parent.write_text("a file where a folder should be", encoding="utf-8")
    state, run = begun("sgd", digits)
    for _ in islice(run(), 3):
        checkpoint.save(state)
    printed = capsys.readouterr().out
    assert printed.startswith("train: warning: no checkpoint saved: ")
    assert printed.endswith("training continues without one\n")
    assert printed.count("\n") == 1


def test_diverged_training_leaves_no_checkpoint(digits: Splits) -> None:
    checkpoint = Checkpoint("any", CPU, every=1e9)
    state, run = begun("sgd", digits)
    with pytest.raises(KeyboardInterrupt), checkpoint.locked():
        list(islice(run(), 3))
        checkpoint.save(state)
        raise KeyboardInterrupt
    assert checkpoint.path.is_file()
    with pytest.raises(Diverged), checkpoint.locked():
        raise Diverged("the loss is nan")
    assert list(checkpoint.path.parent.iterdir()) == []


@pytest.mark.gpu
@pytest.mark.parametrize("capture", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_resumed_training_on_a_gpu_ends_in_the_same_bits(kind: str, capture: bool, digits: Splits) -> None:
    from mnistflow.core import devices

    cuda = torch.device("cuda")
    devices.repeatable(1, cuda)
    state, run = begun(kind, digits, cuda)
    events = len(list(run(capture=capture)))
    expected = outcome(state)
    checkpoint = Checkpoint("any", cuda, every=1e9)
    state, run = begun(kind, digits, cuda)
    list(islice(run(capture=capture), events // 2))
    checkpoint.save(state)
    state, run = begun(kind, digits, cuda)
    assert checkpoint.restore(state)
    list(run(capture=capture))
    assert outcome(state) == expected
