"""What README and docs/ say is what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import ROOT

from mnistflow.files import read_csv

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "studies" / "results").glob("*.md")])


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


def test_the_figures_of_the_lessons_are_those_of_the_studies() -> None:
    spread = r"\d+\.\d+ ± \d+\.\d+ \(\d\)"
    tables = (ROOT / "studies" / "results").glob("*.csv")
    measured = {found for table in tables for found in re.findall(spread, table.read_text(encoding="utf-8"))}
    said = re.findall(spread, (ROOT / "docs" / "lessons.md").read_text(encoding="utf-8"))
    assert len(said) > 30
    assert set(said) <= measured
