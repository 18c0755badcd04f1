from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from mnistflow.recognition.numbers import Verdict, numbers
from mnistflow.recognition.reader import Box


@dataclass(frozen=True)
class Read:
    label: str
    box: Box
    verdict: Verdict = "sure"
    probability: float = 0.9


def row(text: str, left: int = 0, top: int = 0) -> list[Read]:
    """Characters of a fixed width, 30 pixels high: digits, `x` for what is none, `-` for a small sign that is none."""
    read = []
    for place, character in enumerate(text):
        x = left + 25 * place
        if character in "x-":
            box = Box(x, top, 20, 30) if character == "x" else Box(x, top + 14, 16, 4)
            read.append(Read("1", box, "none", 0.2))
        elif character != " ":
            read.append(Read(character, Box(x, top, 20, 30)))
    return read


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["72104"], [("72104", 1)]),
        (["12  345"], [("12", 1), ("345", 1)]),
        (["12", "345"], [("12", 1), ("345", 2)]),
        (["1", "   2"], [("1", 1), ("2", 2)]),
        (["12  34", "5   678"], [("12", 1), ("34", 1), ("5", 2), ("678", 2)]),
        (["030-12-34"], [("0301234", 1)]),
        (["1x2"], [("1?2", 1)]),
        (["xx1"], []),
        (["1x"], []),
        (["1x23"], [("1?23", 1)]),
        (["-1"], [("1", 1)]),
        (["--"], []),
        ([], []),
    ],
)
def test_digits_make_numbers_line_by_line(lines: list[str], expected: list[tuple[str, int]]) -> None:
    digits = [digit for number, line in enumerate(lines) for digit in row(line, top=60 * number)]
    assert [(number.text, number.line) for number in numbers(digits)] == expected


def test_what_is_unsure_counts_half() -> None:
    one, unsure, none = (Read("1", Box(25 * place, 0, 20, 30)) for place in range(3))
    unsure, none = replace(unsure, verdict="unsure"), replace(none, verdict="none")
    assert [number.text for number in numbers([unsure])] == ["1"]
    assert [number.text for number in numbers([one, unsure])] == ["11"]
    assert numbers([one, unsure, none]) == ()
    assert numbers([none]) == ()


def test_a_number_says_where_it_is_and_how_sure_it_is() -> None:
    digits = [*row("12"), *row("3x45", left=120)]
    first, second = numbers(digits)
    assert (first.positions, first.box) == ((1, 2), Box(0, 0, 45, 30))
    assert (second.positions, second.box) == ((3, 4, 5, 6), Box(120, 0, 95, 30))
    assert first.probability == pytest.approx(0.9**2)
    assert second.probability == pytest.approx(0.9**3), "what is no digit is in no number"


def test_digits_that_rise_or_fall_are_of_one_line() -> None:
    for step in (-9, 9):
        digits = [Read(str(place), Box(25 * place, 200 + step * place, 20, 30)) for place in range(8)]
        assert [number.text for number in numbers(digits)] == ["01234567"]


def test_names_of_several_letters_are_kept_apart() -> None:
    digits = [Read("zero", Box(0, 0, 20, 30)), Read("one", Box(25, 0, 20, 30))]
    assert [number.text for number in numbers(digits)] == ["zero one"]
