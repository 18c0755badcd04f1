"""What is no digit is said to be none, by a network that was trained for seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import Checkout
from no_digits import MAKERS
from numpy.typing import NDArray

from mnistflow.export import formats
from mnistflow.recognition import handwriting
from mnistflow.recognition.answers import Answer, answered
from mnistflow.recognition.predictor import Predictor

EACH = 10


@pytest.fixture(scope="module")
def predictor(serving: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    graph = tmp_path_factory.mktemp("refusal") / "fast.onnx"
    formats.onnx_of(serving.folder / "fast.safetensors", graph)
    return Predictor(graph)


def read(predictor: Predictor, grey: NDArray[np.uint8]) -> Answer:
    return answered(predictor, "picture", predictor.read(grey))


def test_most_pictures_without_digits_are_refused(predictor: Predictor) -> None:
    refused = {
        name: sum(not read(predictor, make(np.random.default_rng([11, number]))).numbers for number in range(EACH))
        for name, make in MAKERS.items()
    }
    print(refused)
    assert refused["noise"] >= EACH - 1
    assert refused["blank paper"] == EACH
    assert sum(refused.values()) >= 0.65 * EACH * len(MAKERS)


def test_hardly_any_digit_is_refused(predictor: Predictor, mnist_folder: Path) -> None:
    images, labels = handwriting.mnist_test(mnist_folder.parents[1])
    pictures = [*images[:150], *handwriting.photographs(images[150:200], labels[150:200]).pictures]
    answers = [read(predictor, grey) for grey in pictures]
    assert sum(not answer.numbers for answer in answers) <= 4
    sure = [all(digit.verdict == "sure" for digit in answer.digits) for answer in answers]
    assert np.mean(sure) > 0.93
    right = [answer.text == str(label) for answer, label in zip(answers, labels, strict=False)]
    assert np.mean([hit for hit, is_sure in zip(right, sure, strict=True) if is_sure]) > 0.97
