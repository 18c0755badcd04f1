"""What README and docs/ say is what there is."""

from __future__ import annotations

import json
import re
from operator import truediv
from pathlib import Path
from statistics import mean, median, stdev

import pytest
from conftest import ROOT

from mnistflow.core.files import read_csv

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "studies" / "results").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith("https://"):
            assert (page.parent / target.partition("#")[0]).exists(), target


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
        [f"{median(item['published']):.1f}" for item in five],
        [f"{median(one_item['ours']):.2f}" for one_item in five],
        [f"{entry['ratio']['median']:.1f}" for entry in five],
    ):
        assert f"| {' | '.join(row)} |" in text
    short = json.loads((results / "time_to_accuracy.json").read_text(encoding="utf-8"))["measured"]
    for name in ("fast99", "fast994"):
        accuracies = [100 * value for value in short[name]["accuracies"]]
        said = f"{mean(accuracies):.2f} ± {stdev(accuracies):.2f} %"
        assert re.search(rf"recipe={name} +# {re.escape(said)}", text)
        times = median(map(truediv, short[name]["seconds"], short["reference"]["seconds"]))
        assert f"{times:.2f} times" in text.replace("\n", " ")
    loops = json.loads((results / "loop.json").read_text(encoding="utf-8"))["measured"].values()
    assert f"at most {100 * (max(each['ratio']['median'] for each in loops) - 1):.0f} %" in text


def test_the_figures_of_the_lessons_are_those_of_the_studies() -> None:
    spread = r"\d+\.\d+ ± \d+\.\d+ \(\d\)"
    tables = (ROOT / "studies" / "results").glob("*.csv")
    measured = {found for table in tables for found in re.findall(spread, table.read_text(encoding="utf-8"))}
    said = re.findall(spread, (ROOT / "docs" / "lessons.md").read_text(encoding="utf-8"))
    assert len(said) > 30
    assert set(said) <= measured
