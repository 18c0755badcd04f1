"""What README and docs/ say is what there is."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from operator import truediv
from pathlib import Path
from statistics import mean, median, stdev

import pytest
from conftest import ROOT

from mnistflow.core.files import read_csv

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "studies" / "results").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_all_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [anchor_of(heading) for heading in headings], target


def anchor_of(heading: str) -> str:
    """As GitHub makes it: lower case, without punctuation, spaces as hyphens."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_drawing_and_the_table_of_rooms_are_those_of_the_imports() -> None:
    command = [sys.executable, str(ROOT / "docs" / "draw_rooms.py")]
    drawn = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    drawing, table = drawn.split("\n\n")
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert "flowchart TD" in drawing
    assert drawing in text, "python docs/draw_rooms.py draws another one"
    assert table.strip() in text, "python docs/draw_rooms.py makes another one"


def test_the_figures_of_the_published_systems_are_those_of_their_study() -> None:
    reached = {row["entry"]: row["test accuracy %"] for row in read_csv(ROOT / "studies" / "results" / "seeds.csv")}
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^\| `(seed-\d+)` \|.*\| (\d+\.\d+ ± \d+\.\d+) % \| [\d of]+ \|$", text, re.MULTILINE))
    assert shown.keys() == {"seed-000", "seed-001", "seed-002", "seed-003", "seed-004"}
    for name, accuracy in shown.items():
        assert f"{accuracy} (5)" == reached[name]


def test_the_figures_of_handwriting_are_those_of_their_study() -> None:
    rows = {row["entry"]: row for row in read_csv(ROOT / "studies" / "results" / "handwriting.csv")}
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for model in ("compact", "lenet5", "fast", "mlp"):
        row = rows[f"{model}-default"]
        cells = [f"`{model}`", row["test accuracy %"].removesuffix(" (3)")]
        for name in ("digits-uci", "photographs"):
            scaled, _, _ = row[f"{name}, scaled alone %"].partition(" ")
            cells.append(f"{row[f'{name} %'].removesuffix(' (3)')} ({scaled})")
        assert f"| {' | '.join(cells)} |" in text


def test_the_figures_of_speed_are_those_of_the_benchmarks() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    results = ROOT / "benchmarks" / "results"
    measured = json.loads((results / "seeds.json").read_text(encoding="utf-8"))["measured"]
    five = [measured[f"seed-00{number}"] for number in range(5)]
    for row in (
        [f"{median(system['published']):.1f}" for system in five],
        [f"{median(system['ours']):.2f}" for system in five],
        [f"{system['ratio']['median']:.1f}" for system in five],
    ):
        assert f"| {' | '.join(row)} |" in text
    short = json.loads((results / "time_to_accuracy.json").read_text(encoding="utf-8"))["measured"]
    for name in ("fast99", "fast994"):
        accuracies = [100 * value for value in short[name]["accuracies"]]
        figure = f"{mean(accuracies):.2f} ± {stdev(accuracies):.2f} %"
        assert re.search(rf"recipe={name} +# {re.escape(figure)}", text)
        times = median(map(truediv, short[name]["seconds"], short["reference"]["seconds"]))
        assert f"{times:.2f} times" in text.replace("\n", " ")
    loops = json.loads((results / "loop.json").read_text(encoding="utf-8"))["measured"].values()
    assert f"at most {100 * (max(each['ratio']['median'] for each in loops) - 1):.0f} %" in text


LAST, FIRST = "test accuracy %", "after 1 epoch %"
# The tables of the lessons: for each row the entry and the column of its study, cell by cell; None: words.
LESSONS: dict[str, Sequence[Sequence[tuple[str, str] | None]]] = {
    "activation": [
        [(f"{name}-sgd", LAST), (f"{name}-adam", LAST)] for name in ("relu", "leaky-relu", "prelu", "sigmoid")
    ],
    "pooling": [
        [(name, LAST), *((name, f"moved {pixels} px %") for pixels in range(1, 5))]
        for name in ("max", "average", "subsample", "mlp")
    ],
    "early_stopping": [
        [(name, LAST), (name, "weights of epoch")] for name in ("all-images", "last", "best", "early-stopping")
    ],
    "normalisation": [
        [(f"{name}-{given}", column) for column in (FIRST, LAST) for given in ("unit", "standard")]
        for name in ("lenet5-adam", "mlp-sgd", "mlp-mse")
    ],
    "initialisation": [
        [(name, "gradient norm by layer, at the start"), (name, FIRST), (name, LAST)]
        for name in ("normal-001", "normal-01", "default", "xavier", "kaiming")
    ],
    "loss": [[(f"{name}-as-published", LAST), (f"{name}-ten-times", LAST)] for name in ("mse", "cross-entropy")],
    "depth_without_nonlinearity": [
        [("no-hidden-layer-linear", LAST), None],
        *([(f"{depth}-linear", LAST), (f"{depth}-relu", LAST)] for depth in ("one", "two", "three")),
    ],
}


@pytest.mark.parametrize("study", LESSONS)
def test_each_figure_of_the_lessons_stands_in_its_own_row(study: str) -> None:
    measured = {row["entry"]: row for row in read_csv(ROOT / "studies" / "results" / f"{study}.csv")}
    text = (ROOT / "docs" / "lessons.md").read_text(encoding="utf-8")
    section = text.partition(f"Study [`{study}`]")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ")[1:] for line in section.splitlines() if line.startswith("| ")][1:]
    expected = [[None if cell is None else measured[cell[0]][cell[1]] for cell in row] for row in LESSONS[study]]
    assert len(rows) == len(expected) > 1
    for shown, row in zip(rows, expected, strict=True):
        assert len(shown) == len(row)
        assert [cell for cell, figure in zip(shown, row, strict=True) if figure is not None] == [
            figure for figure in row if figure is not None
        ]


def test_every_figure_of_the_lessons_is_one_of_the_studies() -> None:
    spread = r"\d+\.\d+ ± \d+\.\d+ \(\d\)"
    tables = (ROOT / "studies" / "results").glob("*.csv")
    measured = {figure for table in tables for figure in re.findall(spread, table.read_text(encoding="utf-8"))}
    shown = re.findall(spread, (ROOT / "docs" / "lessons.md").read_text(encoding="utf-8"))
    assert len(shown) > 30
    assert set(shown) <= measured
