from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import pytest
import torch
from conftest import ROOT, Splits
from scipy.stats import binomtest
from sklearn.metrics import (
    accuracy_score,
    classification_report,
    confusion_matrix,
    log_loss,
    top_k_accuracy_score,
)
from torch import Generator, Tensor, nn

from mnistflow import models
from mnistflow.config.params import load
from mnistflow.core.tensors import Split
from mnistflow.evaluation.calibration import calibration
from mnistflow.evaluation.corruptions import CORRUPTIONS, corrupted
from mnistflow.evaluation.measures import (
    Evaluation,
    Robustness,
    evaluate,
    measure_robustness,
    multiply_adds,
    shift_accuracies,
    speed,
)
from mnistflow.evaluation.scores import METRICS, Corrupted, Scores, recorded, wilson


def scored(result: Evaluation) -> Scores:
    return result.scores(Robustness(result.accuracy), [], "cpu")


@pytest.fixture(scope="module")
def network(digits: Splits) -> nn.Module:
    torch.manual_seed(0)
    model = models.build("mlp", (1, 28, 28), 10, {"hidden": [32]})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(15):  # far enough to be right often, and wrong often
        nn.functional.cross_entropy(model(digits[0].images), digits[0].labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@pytest.fixture(scope="module")
def result(network: nn.Module, digits: Splits) -> Evaluation:
    return evaluate(network, digits[2], "cross_entropy", batch_size=100, temperature=0.7)


def test_figures_are_those_of_scikit_learn(result: Evaluation, network: nn.Module, digits: Splits) -> None:
    labels = digits[2].labels.numpy()
    with torch.no_grad():
        logits = network(digits[2].images)
    predictions = logits.argmax(dim=1).numpy()
    assert 0.3 < result.accuracy < 0.99
    assert result.accuracy == pytest.approx(accuracy_score(labels, predictions))
    assert result.loss == pytest.approx(log_loss(labels, logits.double().softmax(dim=1).numpy()), rel=1e-4)
    assert result.confusion == confusion_matrix(labels, predictions).tolist()
    for number, figures in enumerate(result.classes):  # by their definitions, counted one by one
        hits = sum((labels == number) & (predictions == number))
        recall, precision = hits / sum(labels == number), hits / max(sum(predictions == number), 1)
        assert figures.precision == pytest.approx(precision, abs=1e-6)
        assert figures.recall == pytest.approx(recall, abs=1e-6)
        assert figures.f1 == pytest.approx(2 * precision * recall / max(precision + recall, 1e-12), abs=1e-6)
        assert figures.images == sum(labels == number)
    report = classification_report(labels, predictions, output_dict=True, zero_division=0)
    scores = scored(result)
    assert scores.macro_f1 == pytest.approx(report["macro avg"]["f1-score"], abs=1e-5)
    assert scores.macro_recall == pytest.approx(report["macro avg"]["recall"], abs=1e-5)
    assert scores.macro_precision == pytest.approx(report["macro avg"]["precision"], abs=1e-5)


def test_every_metric_is_measured(result: Evaluation) -> None:
    robustness = Robustness(result.accuracy, (Corrupted("noise", 1, 0.1, 0.5),))
    measured = recorded(result.scores(robustness, [], "cpu"))
    assert measured.keys() == {metric.name for metric in METRICS.values()}, "one keeps its default: give it its value"


def test_the_label_is_among_the_two_likeliest(result: Evaluation, digits: Splits) -> None:
    expected = top_k_accuracy_score(digits[2].labels.numpy(), result.probabilities.numpy(), k=2)
    assert result.top2_accuracy == pytest.approx(expected)
    assert result.accuracy < result.top2_accuracy < 1


@pytest.mark.parametrize(("right", "total"), [(81, 263), (9944, 10_000), (360, 360), (0, 5), (1, 1)])
def test_the_interval_is_that_of_wilson(right: int, total: int) -> None:
    expected = binomtest(right, total).proportion_ci(method="wilson")
    assert wilson(right, total) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_the_interval_is_that_of_a_published_example() -> None:
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)  # Newcombe 1998, table I, method 3


def test_the_interval_is_around_the_accuracy(result: Evaluation) -> None:
    low, high = result.interval
    assert 0 < low < result.accuracy < high < 1
    scores = scored(result)
    assert (scores.accuracy_low, scores.accuracy_high) == (round(low, 6), round(high, 6))


def test_probabilities_are_scaled_by_the_temperature(result: Evaluation, network: nn.Module, digits: Splits) -> None:
    test = digits[2]
    with torch.no_grad():
        logits = network(test.images)
    torch.testing.assert_close(result.probabilities, (logits / 0.7).softmax(dim=1))
    scores = scored(result)
    for found, scale in (
        ((scores.ece, scores.brier), 0.7),
        ((scores.ece_unscaled, scores.brier_unscaled), 1.0),
    ):
        expected = calibration((logits / scale).softmax(dim=1).numpy(), test.labels.numpy())
        assert found == pytest.approx((expected.ece, expected.brier), abs=1e-5)
    assert scores.temperature == 0.7
    plain = evaluate(network, test, "cross_entropy", 100)
    assert (result.loss, result.confusion, result.accuracy) == (plain.loss, plain.confusion, plain.accuracy)


def test_without_a_temperature_nothing_is_unscaled(network: nn.Module, digits: Splits) -> None:
    for loss in ("cross_entropy", "mse"):
        found = evaluate(network, digits[2], loss, 100)
        scores = scored(found)
        assert (scores.temperature, scores.ece_unscaled, scores.brier_unscaled) == (None, None, None)
        assert 0 < found.calibration.ece < 1


def test_per_class_lists_agree_with_the_metrics(result: Evaluation) -> None:
    scores = scored(result)
    bins = scores.reliability
    assert sum(bin_.images for bin_ in bins) == scores.images == 360
    assert sum(entry.images * entry.accuracy for entry in bins) / 360 == pytest.approx(result.accuracy, abs=1e-5)
    gaps = [one_bin.images * abs(one_bin.accuracy - one_bin.confidence) for one_bin in bins]
    assert scores.ece == pytest.approx(sum(gaps) / 360, abs=1e-5)
    assert all(one_bin.low < one_bin.confidence <= one_bin.high for one_bin in bins)


def test_multiply_adds_are_those_counted_by_hand() -> None:
    lenet = models.build("lenet5", (1, 28, 28), 10, {"padding": 2})
    expected = 6 * 28 * 28 * 25 + 16 * 10 * 10 * 6 * 25 + 400 * 120 + 120 * 84 + 84 * 10
    assert multiply_adds(lenet, torch.zeros(1, 1, 28, 28)) == expected
    assert multiply_adds(nn.Conv2d(4, 8, (3, 5), stride=2, groups=2), torch.zeros(1, 4, 11, 13)) == 8 * 5 * 5 * 2 * 15
    mlp = models.build("mlp", (3, 5, 7), 4, {"hidden": [6]})
    assert multiply_adds(mlp, torch.zeros(1, 3, 5, 7)) == 105 * 6 + 6 * 4


def test_what_a_network_costs_is_in_the_summary(result: Evaluation, network: nn.Module) -> None:
    assert scored(result).parameters == 784 * 32 + 32 + 32 * 10 + 10
    assert scored(result).multiply_adds == 784 * 32 + 32 * 10


def robust(network: nn.Module, split: Split, batch_size: int = 100) -> Robustness:
    return measure_robustness(network, split, 0.5, batch_size)


def test_robustness_is_the_accuracy_on_corrupted_images(network: nn.Module, digits: Splits) -> None:
    test = digits[2]
    found = robust(network, test)
    rows = found.rows()
    assert rows[0] == {"corruption": "none", "strength": 0, "amount": 0.0, "accuracy": 0.5}
    assert [(row["corruption"], row["strength"]) for row in rows[1:]] == [
        (name, strength) for name in CORRUPTIONS for strength in (1, 2, 3)
    ]
    for row in (rows[1], rows[12], rows[24]):
        corruption, strength = CORRUPTIONS[str(row["corruption"])], int(str(row["strength"]))
        assert row["amount"] == corruption.amounts[strength - 1]
        generator, right = Generator().manual_seed(0), 0
        harder = corrupted(test.images, corruption, strength, generator, mean=test.inputs.mean, std=test.inputs.std)
        with torch.no_grad():
            right += int((network(harder).argmax(dim=1) == test.labels).sum())
        assert row["accuracy"] == pytest.approx(right / 360, abs=2 / 360)  # near ties may fall either way
    accuracies = [row.accuracy for row in found.corrupted]
    assert found.accuracy == pytest.approx(fmean(accuracies), abs=1e-6)


def test_robustness_repeats_itself_and_leaves_the_network_as_it_was(network: nn.Module, digits: Splits) -> None:
    before = [(tensor.clone(), tensor.stride()) for tensor in network.state_dict().values()]
    torch.manual_seed(1)
    found = robust(network, digits[2])
    torch.manual_seed(2)
    assert robust(network, digits[2]) == found
    after = network.state_dict().values()
    assert all(torch.equal(a, b) and b.stride() == stride for (a, stride), b in zip(before, after, strict=True))


def test_which_images_are_seen_does_not_depend_on_how_many_go_through_at_once(
    network: nn.Module, digits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []

    def forward(images: Tensor) -> Tensor:
        seen.append(float(images.double().sum()))
        return torch.zeros(len(images), 10)

    monkeypatch.setattr(network, "forward", forward)
    sums = []
    for batch_size in (360, 90):
        seen.clear()
        measure_robustness(network, digits[2], 0.5, batch_size)
        sums.append(sum(seen))
    assert sums[0] == pytest.approx(sums[1], rel=1e-9)


def test_a_higher_strength_hurts_more(network: nn.Module, digits: Splits) -> None:
    found = robust(network, digits[2]).corrupted
    weak, strong = (fmean(row.accuracy for row in found if row.strength == strength) for strength in (1, 3))
    assert strong < weak - 0.05


def test_what_was_not_measured_has_one_row_and_no_mean() -> None:
    found = Robustness(0.9)
    assert found.accuracy is None
    assert found.rows() == [{"corruption": "none", "strength": 0, "amount": 0.0, "accuracy": 0.9}]


class Counting(nn.Module):
    """Notes how many images it sees at once."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        return images.flatten(1)[:, :10]


def test_speed_is_measured_in_batches_and_alone(digits: Splits) -> None:
    model = Counting()
    found = speed(model, digits[2], batch_size=200)
    assert set(model.sizes) == {200, 1}
    assert found.images_per_second > 0
    assert 0 < found.latency < 1


@pytest.mark.parametrize("name", load(ROOT / "params.yaml").models)
def test_every_model_can_be_measured(name: str, digits: Splits) -> None:
    block, test = load(ROOT / "params.yaml").models[name], digits[2]
    some = replace(test, images=test.images[:8], labels=test.labels[:8], indices=test.indices[:8])
    model = models.build(block.architecture, test.image_shape, 10, block.arguments)
    found = evaluate(model, some, "cross_entropy", 8)
    assert found.multiply_adds > found.parameters / 2
    assert len(robust(model, some, 8).rows()) == 1 + 3 * len(CORRUPTIONS)


def test_a_row_for_each_image(result: Evaluation, digits: Splits) -> None:
    rows = result.rows(digits[2])
    assert [row["index"] for row in rows] == list(range(360))
    assert [row["label"] for row in rows] == [str(int(label)) for label in digits[2].labels]
    right = sum(row["label"] == row["prediction"] for row in rows)
    assert right / 360 == pytest.approx(result.accuracy)
    assert all(0.1 <= float(str(row["probability"])) <= 1 for row in rows)


def test_a_network_trained_with_mse_is_measured_with_mse(network: nn.Module, digits: Splits) -> None:
    result = evaluate(network, digits[2], "mse", batch_size=100)
    with torch.no_grad():
        one_hot = nn.functional.one_hot(digits[2].labels, 10).float()
        assert result.loss == pytest.approx(float(((network(digits[2].images) - one_hot) ** 2).mean()), rel=1e-4)
    torch.testing.assert_close(result.probabilities.sum(dim=1), torch.ones(360))


def test_a_class_without_images_has_zeros(network: nn.Module, digits: Splits) -> None:
    test = digits[2]
    zeros = test.labels == 0
    only = replace(test, images=test.images[zeros], labels=test.labels[zeros], indices=test.indices[zeros])
    result = evaluate(network, only, "cross_entropy", batch_size=100)
    assert result.classes[7].recall == 0
    assert result.classes[7].images == 0
    assert result.classes[0].precision == 1.0
    assert 0 < result.classes[0].recall == pytest.approx(result.accuracy, abs=1e-6)


def test_accuracy_under_shifts_is_that_of_images_moved_one_by_one(network: nn.Module, digits: Splits) -> None:
    test = digits[2]
    found = shift_accuracies(network, test, 2, batch_size=100)
    raw = test.images * test.inputs.std + test.inputs.mean  # [0, 1]
    expected = []
    for pixels in (1, 2):
        right = 0
        for axis in (2, 3):
            for way in (pixels, -pixels):
                moved = raw.roll(way, dims=axis)
                edge = slice(0, pixels) if way > 0 else slice(-pixels, None)
                moved[:, :, edge] = 0 if axis == 2 else moved[:, :, edge]
                moved[..., edge] = 0 if axis == 3 else moved[..., edge]
                with torch.no_grad():
                    logits = network((moved - test.inputs.mean) / test.inputs.std)
                right += int((logits.argmax(dim=1) == test.labels).sum())
        expected.append(right / (4 * len(test)))
    assert found == pytest.approx(expected, abs=2 / (4 * len(test)))  # two near ties may fall either way
    assert found[0] > found[1]
    assert shift_accuracies(network, test, 0, batch_size=100) == []
