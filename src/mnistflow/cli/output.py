"""What several commands print, and how."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mnistflow.config.params import load
from mnistflow.config.paths import Paths
from mnistflow.core.text import for_terminal

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["json_text", "markdown_table", "paths_with_result", "progress", "store"]


MANY = 20  # files, from which on a bar shows how far it is


def paths_with_result() -> Paths:
    """The paths, where there is a result.

    Raises:
        ValueError: there is none.
    """
    paths = Paths.load()
    if not paths.test_metrics.is_file():
        raise ValueError("there is no result in this folder yet; `dvc repro` (or `make repro`) makes one")
    return paths


def store() -> str:
    """The address of the store, as it may be printed."""
    from mnistflow.tracking import shown_uri

    return shown_uri(load().tracking)


def json_text(tree: Mapping[str, object], indent: int | None = None) -> str:
    """JSON in the encoding of standard output: where that is not UTF-8, other characters are JSON's escapes."""
    return json.dumps(tree, indent=indent, ensure_ascii="utf" not in (sys.stdout.encoding or "").lower())


def progress(names: Sequence[str]) -> tqdm[str]:
    """A bar over many files, where a terminal shows it."""
    from tqdm import tqdm

    return tqdm(names, unit="file", disable=None if len(names) > MANY else True)


def markdown_table(cells: Sequence[Mapping[str, str]]) -> list[str]:
    """A table as lines of Markdown; columns that say nothing in any row are left out."""
    headings = [
        heading
        for heading in dict.fromkeys(heading for row in cells for heading in row)
        if any(row.get(heading) for row in cells)
    ]
    rows = [headings, *([row.get(heading, "") for heading in headings] for row in cells)]
    rows = [[for_terminal(text).replace("|", "\\|") for text in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(headings))]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return lines
