from __future__ import annotations

import pytest
import torch
from conftest import Splits
from sklearn.metrics import accuracy_score, classification_report, confusion_matrix, log_loss
from torch import nn

from mnistflow import models
from mnistflow.evaluation import Evaluation, evaluate, shift_accuracies


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
    return evaluate(network, digits[2], "cross_entropy", batch_size=100)


def test_figures_are_those_of_scikit_learn(result: Evaluation, network: nn.Module, digits: Splits) -> None:
    labels = digits[2].labels.numpy()
    with torch.no_grad():
        logits = network(digits[2].images)
    predictions = logits.argmax(dim=1).numpy()
    assert 0.3 < result.accuracy < 0.99
    assert result.accuracy == pytest.approx(accuracy_score(labels, predictions))
    assert result.loss == pytest.approx(log_loss(labels, logits.double().softmax(dim=1).numpy()), rel=1e-4)
    assert result.confusion == confusion_matrix(labels, predictions).tolist()
    for number, figures in enumerate(result.classes.values()):  # by their definitions, counted one by one
        hits = sum((labels == number) & (predictions == number))
        recall, precision = hits / sum(labels == number), hits / max(sum(predictions == number), 1)
        assert figures.precision == pytest.approx(precision, abs=1e-6)
        assert figures.recall == pytest.approx(recall, abs=1e-6)
        assert figures.f1 == pytest.approx(2 * precision * recall / max(precision + recall, 1e-12), abs=1e-6)
        assert figures.images == sum(labels == number)
    report = classification_report(labels, predictions, output_dict=True, zero_division=0)
    summary = result.summary()
    assert summary["macro_f1"] == pytest.approx(report["macro avg"]["f1-score"], abs=1e-5)
    assert summary["macro_recall"] == pytest.approx(report["macro avg"]["recall"], abs=1e-5)
    assert summary["macro_precision"] == pytest.approx(report["macro avg"]["precision"], abs=1e-5)


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
    from dataclasses import replace

    test = digits[2]
    zeros = test.labels == 0
    only = replace(test, images=test.images[zeros], labels=test.labels[zeros], indices=test.indices[zeros])
    result = evaluate(network, only, "cross_entropy", batch_size=100)
    assert result.classes["7"].recall == 0
    assert result.classes["7"].images == 0
    assert result.classes["0"].precision == 1.0
    assert 0 < result.classes["0"].recall == pytest.approx(result.accuracy, abs=1e-6)


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
