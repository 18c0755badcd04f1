from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnistflow.core.files import read_csv, write_csv
from mnistflow.core.text import for_markdown, for_spreadsheet, for_terminal, from_spreadsheet

# What people call files, classes and runs, among them text that means something to a program on its way.
NASTY = [
    r"$\frac$", "Ba$$in", "$$", "<img src=x onerror=alert(1)>", "a&amp;b", "**bold** _it_", "[a](http://b)", "| cell |",
    "=cmd|calc!A1", "+1+1", "@SUM(1)", "-dash", "'=1", ".hidden.name", "$(reboot)", "`ls`", "a;b", "a, b", '"quoted"',
    "猫", "犬", "שלום", "مرحبا", "%s {x}", "n" * 200,
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("two\nlines\tand\x7f", r"two\nlines\tand\x7f"),
        ("\udcff.png", r"\udcff.png"),
        ("exe.\u202egnp", r"exe.\u202egnp"),
        ("猫 é שלום", "猫 é שלום"),
    ],
)
def test_control_characters_do_not_reach_a_terminal(text: str, shown: str) -> None:
    assert for_terminal(text) == shown


@pytest.mark.parametrize("text", ["=1", "+a", "-a", "@a", "\t=1", "'=1", "-1+1", "+"])
def test_a_cell_is_no_formula(text: str) -> None:
    assert for_spreadsheet(text)[0] not in "=+-@\t\r"


@pytest.mark.parametrize("number", ["-1", "+0.5", "-1e-3", "-inf", "nan", "-.5", "0"])
def test_a_number_stays_a_number(number: str) -> None:
    assert for_spreadsheet(number) == number


@given(st.text())
def test_a_cell_comes_back_as_the_text_that_it_was(text: str) -> None:
    assert from_spreadsheet(for_spreadsheet(text)) == text


def test_a_table_of_nasty_names_comes_back_and_holds_no_formula(tmp_path: Path) -> None:
    write_csv(tmp_path / "table.csv", [{"label": name, "number": -1.5} for name in NASTY])
    assert [row["label"] for row in read_csv(tmp_path / "table.csv")] == NASTY
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        cells = list(csv.reader(file))[1:]
    assert [cell for cell, _ in cells if cell[0] in "=+-@"] == []
    assert {number for _, number in cells} == {"-1.5"}


@pytest.mark.parametrize("text", ["<b>x</b>", "*x*", "_x_", "[a](b)", "`x`", "| a |", "![x](y)"])
def test_markdown_shows_a_name_as_it_stands(text: str) -> None:
    shown = for_markdown(text)
    assert "<" not in shown
    for sign in "*_[]`|!":
        assert shown.count(sign) == shown.count(f"\\{sign}")
