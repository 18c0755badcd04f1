from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, Splits
from torch import Generator, Tensor, nn

from mnistflow import models
from mnistflow.config.params import load
from mnistflow.core import devices
from mnistflow.core.affine import affine
from mnistflow.core.tensors import Split, read_split, write_split
from mnistflow.models import inference
from mnistflow.models.losses import make_loss
from mnistflow.training.assembly import assemble
from mnistflow.training.history import Epoch, History
from mnistflow.training.loop import MIN_BF16_CHANNELS, Diverged, State, Step, fit, resolve_precision
from mnistflow.training.optimizers import make_optimizer

PARAMS = load(ROOT / "params.yaml")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def built(architecture: str, **arguments: object) -> nn.Module:
    torch.manual_seed(0)
    return models.build(architecture, (1, 28, 28), 10, arguments)


def network(architecture: str = "mlp", **arguments: object) -> nn.Module:
    return built(architecture, **(arguments or {"hidden": [32]}))


def trained(model: nn.Module, train: Split, **changes: Any) -> list[Step | Epoch]:
    optimizer = changes.pop("optimizer", None)
    if optimizer is None:
        optimizer = make_optimizer(model.parameters(), "sgd", lr=changes.pop("lr", 0.1))
    generator = changes.pop("generator", None) or Generator().manual_seed(1)
    state = State(model, optimizer, changes.pop("schedule", None), generator, changes.pop("batch_size", 100))
    arguments: dict[str, Any] = {
        "loss": make_loss("cross_entropy"),
        "epochs": 2,
        "shuffle": True,
        **changes,
    }
    return list(fit(state, train, **arguments))


def epochs_of(events: list[Step | Epoch]) -> list[Epoch]:
    return [event for event in events if isinstance(event, Epoch)]


@pytest.mark.parametrize("architecture", ["mlp", "lenet5"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_the_loop_matches_a_plain_training_loop(architecture: str, shuffle: bool, digits: Splits) -> None:
    train = digits[0]
    arguments = {"hidden": [32]} if architecture == "mlp" else {"padding": 2}
    bare = network(architecture, **arguments).to(memory_format=torch.channels_last)  # it decides how sums are rounded
    optimizer = torch.optim.Adam(bare.parameters(), lr=0.001)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    generator = Generator().manual_seed(1)
    expected = []
    for _ in range(2):
        order = torch.randperm(len(train), generator=generator) if shuffle else torch.arange(len(train))
        for chosen in order.split(100):
            loss = nn.functional.cross_entropy(bare(train.images[chosen]), train.labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            expected.append(float(loss.detach()))

    model = network(architecture, **arguments)
    ours = make_optimizer(model.parameters(), "adam", lr=0.001)
    events = trained(
        model,
        train,
        optimizer=ours,
        schedule=torch.optim.lr_scheduler.LambdaLR(ours, lambda step: 1 / (1 + step)),
        shuffle=shuffle,
    )
    losses = [loss for epoch in epochs_of(events) for loss in epoch.step_losses]
    assert losses == pytest.approx(expected, rel=1e-5)
    assert epochs_of(events)[0].train_loss == pytest.approx((sum(expected[:12]) * 100 + expected[12] * 93) / 1293)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_seed_gives_the_same_bits(precision: str, digits: Splits) -> None:
    changes = partial(affine, rotate=10, scale=0.1, shift=2)
    weights = []
    for _ in range(2):
        model = network("lenet5", padding=2)
        trained(model, digits[0], augment=changes, precision=precision, epochs=1)
        weights.append(model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("recipe", PARAMS.recipes)
@pytest.mark.parametrize("model", PARAMS.models)
def test_every_model_by_every_recipe_comes_to_the_same_bits_again(model: str, recipe: str, digits: Splits) -> None:
    block, how = PARAMS.models[model], PARAMS.recipes[recipe]
    weights = []
    for _ in range(2):
        network = built(block.architecture, **block.arguments)
        changes = {"batch_size": min(how.batch_size, 64), "keep": "last", "patience": None}
        changes |= {"drawn_digits": min(how.drawn_digits, 70), "outliers": min(how.outliers, 70)}
        training = assemble(network, digits[0], Generator().manual_seed(1), **how.arguments | changes)
        events = training.events()
        for _ in islice(events, 3):
            pass
        weights.append(network.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_bf16_learns_like_fp32(digits: Splits) -> None:
    accuracies = []
    for precision in ("fp32", "bf16"):
        events = trained(network(), digits[0], validation=digits[1], precision=precision, epochs=5)
        accuracies.append(epochs_of(events)[-1].val_accuracy)
    assert accuracies[0] is not None
    assert accuracies[0] > 0.9
    assert accuracies[1] == pytest.approx(accuracies[0], abs=0.03)


def test_auto_is_bf16_for_wide_convolutions_where_the_processor_has_it() -> None:
    cpu = torch.device("cpu")
    fast = "bf16" if devices.multiplies_bf16(cpu) else "fp32"
    assert resolve_precision("auto", network("compact", width=MIN_BF16_CHANNELS), cpu) == fast
    assert resolve_precision("auto", network("compact", width=MIN_BF16_CHANNELS // 2 - 1), cpu) == "fp32"
    assert resolve_precision("auto", network("mlp", hidden=[512]), cpu) == "fp32"
    assert resolve_precision("bf16", network("mlp", hidden=[512]), cpu) == "bf16"
    assert resolve_precision("fp32", network("compact", width=MIN_BF16_CHANNELS), cpu) == "fp32"


def test_augmentation_is_applied_to_each_batch_and_to_nothing_else(digits: Splits) -> None:
    seen: list[Tensor] = []

    def record(images: Tensor, _: Generator) -> Tensor:
        seen.append(images)
        return torch.zeros_like(images)

    events = trained(network(), digits[0], augment=record, epochs=1, validation=digits[1])
    assert [len(images) for images in seen] == [100] * 12 + [93]
    # Blank images teach the frequency of the classes and nothing more.
    assert epochs_of(events)[0].train_loss == pytest.approx(math.log(10), abs=0.1)


class Scripted(nn.Module):
    """Gives in each epoch the accuracy that the test wants, whatever training does."""

    def __init__(self, labels: Tensor, shares: list[float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.epoch = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.labels, self.shares = labels, shares

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.epoch.add_(1)  # one step an epoch in these tests
            return self.weight.expand(len(images), 10)
        right = round(self.shares[int(self.epoch) - 1] * len(images))
        predictions = torch.cat([self.labels[:right], (self.labels[right:] + 1) % 10])
        return nn.functional.one_hot(predictions, 10).float()


def scripted(shares: list[float], digits: Splits, **changes: Any) -> tuple[Scripted, list[Epoch]]:
    model = Scripted(digits[1].labels, shares)
    events = trained(model, digits[0], batch_size=2000, epochs=len(shares), validation=digits[1], **changes)
    return model, epochs_of(events)


def test_the_best_epoch_on_validation_is_kept(digits: Splits) -> None:
    model, epochs = scripted([0.5, 0.75, 0.75, 0.25], digits, keep="best")
    assert [epoch.best for epoch in epochs] == [True, True, False, False]
    assert int(model.epoch) == 2
    assert History("best", epochs).kept.epoch == 2


def test_the_last_epoch_is_kept(digits: Splits) -> None:
    model, epochs = scripted([0.5, 0.75, 0.25], digits, keep="last")
    assert int(model.epoch) == 3
    summary = History("last", epochs).summary()
    assert (summary["kept_epoch"], summary["val_accuracy"], summary["best_val_accuracy"]) == (3, 0.25, 0.75)


@pytest.mark.parametrize(("patience", "last"), [(1, 3), (2, 6), (None, 7)])
def test_training_ends_when_validation_gets_no_better(patience: int | None, last: int, digits: Splits) -> None:
    _, epochs = scripted([0.25, 0.5, 0.25, 0.75, 0.5, 0.5, 1.0], digits, patience=patience)
    assert epochs[-1].epoch == last


def test_nothing_is_chosen_on_the_test_split(digits: Splits) -> None:
    train, validation, test = digits
    wrong = replace(test, labels=(test.labels + 1) % 10)
    outcomes = []
    for reported in (None, test, wrong):
        model = network()
        events = trained(model, train, validation=validation, test=reported, keep="best", patience=2, epochs=6)
        outcomes.append((model.state_dict(), epochs_of(events)))
    for weights, epochs in outcomes[1:]:
        assert all(torch.equal(weights[name], outcomes[0][0][name]) for name in weights)
        assert [epoch.val_accuracy for epoch in epochs] == [epoch.val_accuracy for epoch in outcomes[0][1]]
    assert outcomes[0][1][0].test_accuracy is None
    assert outcomes[1][1][-1].test_accuracy != outcomes[2][1][-1].test_accuracy


def test_an_empty_validation_split_is_none(digits: Splits) -> None:
    empty = replace(digits[1], images=digits[1].images[:0], labels=digits[1].labels[:0])
    (epoch,) = epochs_of(trained(network(), digits[0], epochs=1, validation=empty))
    assert epoch.val_accuracy is None
    assert not epoch.best


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux how it reads a mapped file")
@pytest.mark.parametrize("shuffle", [True, False])
def test_of_a_file_that_is_read_in_no_order_only_what_is_asked_for_is_read(
    shuffle: bool, digits: Splits, tmp_path: Path
) -> None:
    path = tmp_path / "train.safetensors"
    write_split(path, digits[0])
    split = read_split(path)
    trained(network(), split, epochs=1, shuffle=shuffle)
    mappings = Path("/proc/self/smaps").read_text(encoding="utf-8").split("VmFlags:")
    flags = [after for before, after in pairwise(mappings) if str(path) in before]
    assert flags
    assert any(" rr " in flag.splitlines()[0] for flag in flags) == shuffle


def test_measurements_are_without_the_part_that_only_training_wants(digits: Splits) -> None:
    model = network()
    smooth, plain = make_loss("cross_entropy", label_smoothing=0.3), make_loss("cross_entropy")
    (epoch,) = epochs_of(trained(model, digits[0], epochs=1, loss=smooth, plain_loss=plain, validation=digits[1]))
    assert epoch.val_loss == pytest.approx(inference.measure(model, digits[1], plain)[0])


def test_there_is_an_event_after_each_step_and_each_epoch(digits: Splits) -> None:
    events = trained(network(), digits[0])
    steps = [event for event in events if isinstance(event, Step)]
    assert [(step.epoch, step.step, step.steps) for step in steps] == [(e, s, 13) for e in (1, 2) for s in range(1, 14)]
    assert [events.index(epoch) for epoch in epochs_of(events)] == [13, 27]
    assert [step.loss for step in steps[:13]] == epochs_of(events)[0].step_losses


@pytest.mark.parametrize("look_every", [2, 10**6])
def test_a_loss_that_is_no_number_stops_training(
    look_every: int, digits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnistflow.training.loop.FINITE_CHECK_STEPS", look_every)
    with pytest.raises(Diverged, match=r"the loss is (nan|inf) at epoch 1, step \d+, learning rate 1e\+30; lower lr"):
        trained(network(), digits[0], lr=1e30)


def test_weights_that_are_no_numbers_stop_training(digits: Splits) -> None:
    def once(logits: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, labels) * 1e30

    with pytest.raises(Diverged, match=r"after epoch 1, step 1, learning rate 1e\+30, weights are infinite or"):
        trained(network(), digits[0], lr=1e30, batch_size=2000, epochs=1, loss=once, validation=digits[1])


class Stubborn(nn.Module):
    """A network whose answer, from a step on, is one class for all images.

    Args:
        sees: how much of the image is left in what it then says.
        after: so many steps.
    """

    def __init__(self, sees: float, after: int) -> None:
        super().__init__()
        self.network = network()
        self.sees, self.left = sees, after

    def forward(self, images: Tensor) -> Tensor:
        self.left -= self.training
        logits: Tensor = self.network(images)
        if self.left >= 0:
            return logits
        return logits.clamp(-1, 1) * self.sees + nn.functional.one_hot(torch.tensor(3), 10) * 2.0


@pytest.mark.parametrize(("sees", "after"), [(0.0, 0), (0.01, 26)])
def test_a_network_that_has_stopped_learning_stops_training(sees: float, after: int, digits: Splits) -> None:
    epoch = 1 + after // 13
    message = (
        f"after epoch {epoch}, step 13, learning rate 0.1, the network predicts '3' for every image and has stopped"
    )
    with pytest.raises(Diverged, match=message):
        trained(Stubborn(sees, after), digits[0], epochs=5)


def test_a_network_that_starts_slowly_goes_on(digits: Splits) -> None:
    # One class for all images in the first epochs, as with sigmoids; nothing had been learned that could be lost.
    assert len(epochs_of(trained(Stubborn(0.01, after=0), digits[0], epochs=3))) == 3


def test_tables_have_a_row_for_each_epoch_and_a_bounded_number_for_steps(digits: Splits) -> None:
    events = trained(network(), digits[0], epochs=3, batch_size=2, lr=0.01, validation=digits[1])
    history = History("last", epochs_of(events))
    rows = history.epoch_rows()
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert rows[0]["test_loss"] is None
    steps = history.step_rows()
    assert len(steps) <= History.MAX_STEPS
    losses = [loss for epoch in history.epochs for loss in epoch.step_losses]
    assert len(losses) == 3 * 647
    assert all(row["loss"] == pytest.approx(losses[int(row["step"] or 0) - 1], rel=1e-5) for row in steps)

    longer = History("last", [*history.epochs, replace(history.epochs[-1], epoch=4)])
    thinned = longer.step_rows()
    assert [row["step"] for row in thinned[:3]] == [2, 4, 6]
    assert len(thinned) == 4 * 647 // 2


@pytest.mark.gpu
def test_the_same_seed_gives_the_same_bits_on_a_gpu(digits: Splits) -> None:
    from mnistflow.core import devices

    weights = []
    for _ in range(2):
        generator = devices.seeded(0, 1, torch.device("cuda"))
        model = network("lenet5", padding=2).cuda()
        trained(model, digits[0].to(torch.device("cuda")), generator=generator, epochs=1)
        weights.append(model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
