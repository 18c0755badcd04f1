from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from test_exporting import saved

from mnistflow.export import formats
from mnistflow.recognition import answers
from mnistflow.recognition.answers import COLUMNS, Answer, Guess, Named
from mnistflow.recognition.numbers import numbers
from mnistflow.recognition.predictor import Predictor
from mnistflow.recognition.reader import Box

SEVEN = Named("7", 0.9, (Guess("1", 0.06), Guess("9", 0.03)), {"1": 0.06, "7": 0.9, "9": 0.03}, Box(1, 2, 3, 4), "sure")
ONE = Named("1", 0.8, (Guess("7", 0.15), Guess("9", 0.05)), {"1": 0.8, "7": 0.15, "9": 0.05}, Box(5, 2, 7, 8), "sure")


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    folder = tmp_path_factory.mktemp("graph")
    formats.onnx_of(saved(folder / "model.safetensors", "mlp", {"hidden": [8]}), folder / "model.onnx", name="mlp")
    return Predictor(folder / "model.onnx")


def test_names_stand_for_files_folders_and_patterns(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "below/c.tiff", "below/notes.txt", "x[1].png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()

    def found(*names: str) -> list[str]:
        return answers.pictures(names, tmp_path)[0]

    assert found("b.PNG", "a.jpg", "b.PNG") == ["b.PNG", "a.jpg", "b.PNG"]
    assert found("below") == ["below/c.tiff"]
    assert found(".") == ["a.jpg", "b.PNG", "below/c.tiff", "x[1].png"]
    assert found(str(tmp_path / "below")) == [str(tmp_path / "below" / "c.tiff")]
    assert found("*.*") == ["a.jpg", "b.PNG", "x[1].png"]
    assert found("**/*.t*") == ["below/c.tiff", "below/notes.txt"]
    assert found(f"{tmp_path}/[ab].*") == [str(tmp_path / "a.jpg"), str(tmp_path / "b.PNG")]
    assert found("x[1].png") == ["x[1].png"]
    assert found("below/notes.txt", "-", "gone.png", "*.gone", "empty") == [
        "below/notes.txt",
        "-",
        "gone.png",
        "*.gone",
        "empty",
    ]


def test_an_answer_has_label_probability_and_runners_up(predictor: Predictor, tmp_path: Path) -> None:
    picture = np.full((60, 40), 255, dtype=np.uint8)
    picture[10:50, 15:22] = 0
    Image.fromarray(picture).save(tmp_path / "one.png")
    answer, reading = answers.answer(predictor, "one.png", tmp_path, several=True)
    (digit,) = answer.digits
    chances = predictor.probabilities(reading.digits[0].image[None])
    np.testing.assert_array_equal(answer.chances(), chances)
    assert list(digit.probabilities) == ["zero", "one", "two"]
    assert digit.label == answer.text == predictor.identity.classes[int(chances.argmax())]
    assert digit.probability == answer.probability == float(chances.max())
    assert sorted([digit.label, *(guess.label for guess in digit.runners_up)]) == ["one", "two", "zero"]
    assert digit.box == Box(0, 0, 40, 60)
    (number,) = answer.numbers
    assert (number.text, number.line, number.positions, number.box) == (digit.label, 1, (1,), digit.box)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.png", "there is no file gone.png"),
        ("empty", "there is no picture in empty; PNG, JPEG, "),
        ("text.png", "is not a supported image"),
    ],
)
def test_unreadable_files_give_one_line(predictor: Predictor, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("no picture", encoding="utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        answers.answer(predictor, name, tmp_path, several=True)
    assert "\n" not in str(caught.value)


def test_answers_as_text(predictor: Predictor) -> None:
    def answer_of(name: str, *digits: Named) -> Answer:
        found = numbers(digits)
        text = " ".join(number.text for number in found)
        return Answer(name, text, found[0].probability if found else None, digits, found)

    one, several, nothing = answer_of("7.png", SEVEN), answer_of("71.png", SEVEN, ONE), answer_of("none.png")
    assert one.line(8) == "7.png     7  90.0%   then 1 6.0%, 9 3.0%"
    assert several.line(8) == "71.png    71  72.0%   least sure: digit 2, 1 80.0%, then 7 15.0%, 9 5.0%"
    assert nothing.line(8) == "none.png  no digit found"
    nearly = replace(SEVEN, probability=0.99951, runners_up=(Guess("1", 0.0004), Guess("9", 0.0)))
    assert answer_of("7.png", nearly).line(5) == "7.png  7  >99.9%   then 1 <0.1%, 9 0.0%"
    unsure, unknown = replace(SEVEN, verdict="unsure"), replace(ONE, verdict="none")
    assert answer_of("7.png", unsure).line(5) == "7.png  7  90.0%   unsure, then 1 6.0%, 9 3.0%"
    assert answer_of("a.png", unknown).line(5) == "a.png  no digit found   most like 1 80.0%"
    mostly = answer_of("a.png", unknown, SEVEN, unknown)
    assert mostly.line(5) == "a.png  no digit found   2 of 3 pieces of ink are like none"
    assert answer_of("a.png", SEVEN, unknown, SEVEN).line(5) == (
        "a.png  7?7  81.0%   least sure: digit 1, 7 90.0%, then 1 6.0%, 9 3.0%"
    )
    assert answer_of("a.png", SEVEN, unsure).line(5) == (
        "a.png  77  81.0%   least sure: digit 1, 7 90.0%, then 1 6.0%, 9 3.0%"
    )
    two_lines = Answer("a.png", "7 7\n1", 0.5, (SEVEN, SEVEN, ONE), numbers((SEVEN, SEVEN, ONE)))
    assert two_lines.line(5).startswith("a.png  7 7 | 1  50.0%   least sure: digit 3, 1 80.0%")

    document = json.loads(json.dumps(several.tree(predictor)))
    assert document["model"] == {"name": "mlp", "weights": predictor.identity.weights}
    assert (document["file"], document["text"], document["probability"], len(document["digits"])) == (
        "71.png",
        "71",
        pytest.approx(0.72),
        2,
    )
    assert document["digits"][1]["box"] == {"left": 5, "top": 2, "width": 7, "height": 8}
    assert document["digits"][1]["runners_up"][0] == {"label": "7", "probability": 0.15}
    assert nothing.tree(predictor)["probability"] is None

    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    for answer in (several, nothing):
        table.writerows(answer.rows())
    assert text.getvalue() == (
        "71.png,1,7,0.900000,1,0.060000,1,2,3,4,sure,1,1\n"
        "71.png,2,1,0.800000,7,0.150000,5,2,7,8,sure,1,1\n"
        "none.png,,,,,,,,,,,,\n"
    )


def test_the_pictures_of_this_project_are_found() -> None:
    assert "docs/curves.png" in answers.pictures(["docs"], ROOT)[0]


def test_the_threshold_decides_what_is_sure(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = np.full((60, 40), 255, dtype=np.uint8)
    picture[10:50, 15:22] = 0
    Image.fromarray(picture).save(tmp_path / "one.png")
    first, second, _ = sorted(predictor.probabilities(predictor.read(picture).digits[0].image[None])[0], reverse=True)
    for threshold, verdict, text in (
        (None, "sure", True),
        (first, "sure", True),
        ((first + first + second) / 2, "unsure", True),
        ((first + second + 1) / 2, "none", False),
    ):
        monkeypatch.setattr(predictor, "identity", replace(predictor.identity, threshold=threshold))
        answer, _ = answers.answer(predictor, "one.png", tmp_path, several=True)
        (digit,) = answer.digits
        assert (digit.verdict, bool(answer.text), answer.probability is not None) == (verdict, text, text)
