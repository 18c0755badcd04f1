"""The code that decides a result: one definition for DVC's dependencies, for resuming a training, and for studies.

A stage depends on its script and on rooms, the folders of this package: on every room that it reaches through imports.
Rooms of observers do not count, and neither does what only they import: they show, record and keep what is computed
elsewhere.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

__all__ = ["OBSERVERS", "PACKAGE", "code_digest", "imported_rooms", "rooms"]

PACKAGE = Path(__file__).parents[1]
OBSERVERS = frozenset({"pipeline", "tracking"})


def rooms(script: Path) -> list[Path]:
    """The rooms whose code decides what a script computes: sorted absolute paths of folders."""
    reached: set[str] = set()
    waiting = [script]
    while waiting:
        for room in imported_rooms(waiting.pop()) - reached - OBSERVERS:
            reached.add(room)
            waiting += sorted((PACKAGE / room).rglob("*.py"))
    return [PACKAGE / room for room in sorted(reached)]


def code_digest(script: Path) -> str:
    """SHA-256 over the names and bytes of a script and of all files in its :func:`rooms`."""
    digest = hashlib.sha256(script.read_bytes())
    for file in sorted(file for room in rooms(script) for file in room.rglob("*.py")):
        digest.update(f"\0{file.relative_to(PACKAGE).as_posix()}\0{file.stat().st_size}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def imported_rooms(file: Path) -> set[str]:
    """The names of the rooms that a file imports from, wherever in it; imports for type checkers alone do not count."""
    return {
        room for name in _imported(ast.parse(file.read_text(encoding="utf-8"))) if (room := _room(name)) is not None
    }


def _imported(node: ast.AST) -> Iterator[str]:
    """Dotted names of everything that is imported when the code runs."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    else:
        only_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in node.orelse if isinstance(node, ast.If) and only_types else ast.iter_child_nodes(node):
            yield from _imported(child)


def _room(name: str) -> str | None:
    package, _, rest = name.partition(".")
    room = rest.partition(".")[0]
    return room if package == PACKAGE.name and room and (PACKAGE / room).is_dir() else None
