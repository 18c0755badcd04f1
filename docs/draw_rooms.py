"""Draw the imports between the rooms of the library, as Mermaid, and list them: ``python docs/draw_rooms.py``.

What it prints stands in docs/architecture.md, which a test holds to it. The drawing leaves out an arrow where a longer
way leads to the same room; the table has all of them.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src"
sys.path.insert(0, str(SOURCE))

from mnistflow.pipeline.code import OBSERVERS, PACKAGE, imported_rooms  # noqa: E402


def main() -> None:
    """Print the drawing and the table."""
    print("\n".join([*drawing(), "", *table()]))


def imports() -> dict[str, set[str]]:
    """The rooms, and which others each of them imports from."""
    rooms = sorted(folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").is_file())
    return {
        room: set().union(*(imported_rooms(file) for file in (PACKAGE / room).rglob("*.py"))) - {room} for room in rooms
    }


def from_the_top(arrows: dict[str, set[str]]) -> list[str]:
    """The rooms, each before those that it imports from.

    Raises:
        ValueError: two rooms import from one another.
    """
    order: list[str] = []
    while waiting := set(arrows) - set(order):
        free = sorted(room for room in waiting if not any(room in arrows[other] for other in waiting))
        if not free:
            raise ValueError(f"the imports of {', '.join(sorted(waiting))} form a circle")
        order += free
    return order


def drawing() -> list[str]:
    """A flow chart from top to bottom, in Mermaid."""
    arrows = imports()
    order = from_the_top(arrows)
    reached: dict[str, set[str]] = {}
    for room in reversed(order):
        reached[room] = arrows[room].union(*(reached[other] for other in arrows[room]))
    lines = ["```mermaid", "flowchart TD"]
    for room in order:
        direct = {other for other in arrows[room] if not any(other in reached[way] for way in arrows[room])}
        lines += [f"    {room} --> {other}" for other in order if other in direct]
    lines += [f"    style {room} stroke-dasharray: 4" for room in order if room in OBSERVERS]
    return [*lines, "```"]


def table() -> list[str]:
    """Each room: what belongs there (the first paragraph of its docstring) and what it imports."""
    arrows = imports()
    order = from_the_top(arrows)
    lines = ["| room | what belongs there | imports |", "|---|---|---|"]
    for room in order:
        text = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8"))) or ""
        first = " ".join(text.partition("\n\n")[0].split())
        names = ", ".join(f"`{other}`" for other in order if other in arrows[room]) or "nothing"
        lines.append(f"| `{room}` | {first} | {names} |")
    return lines


if __name__ == "__main__":
    main()
