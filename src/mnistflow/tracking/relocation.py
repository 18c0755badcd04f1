"""The locations of artifacts in a store that was moved or copied along with its project.

MLflow keeps them as absolute addresses, which go on naming the folder that the project was in before: what is recorded
next would be written there, into another project if the folder was copied.
"""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from pathlib import Path
from urllib.parse import unquote, urlparse

from mnistflow.core.files import atomic_write

__all__ = ["relocate"]

ARTIFACTS = "mlruns"  # beside the database
LOCATIONS = (  # columns of MLflow's schema that hold addresses of artifacts; an older one lacks some
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def relocate(database: Path, root: Path) -> None:
    """Rewrite the locations in a project's own store that name the folder in which the project was before.

    Nothing is done to a store outside of the project, which other projects may share, and nothing to locations that
    this project does not make. A copy of the old database is kept, as ``mlflow.db.before-move``. The caller must hold
    the lock of the store.

    Raises:
        sqlite3.Error: the database cannot be read or written; it is as it was then.
        OSError: the copy beside it cannot be written.
    """
    if not database.is_file() or not database.resolve().is_relative_to(root):
        return
    artifacts = (root / ARTIFACTS).as_uri()
    with contextlib.closing(sqlite3.connect(database)) as connection:
        columns = {
            (table, column)
            for table, column in LOCATIONS
            for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")
            if name == column
        }
        if ("experiments", "artifact_location") not in columns:  # no store of MLflow's yet
            return
        locations = connection.execute("SELECT artifact_location FROM experiments WHERE artifact_location IS NOT NULL")
        roots = {former for (location,) in locations if (former := _project_of(location)) is not None}
        if not roots or root in roots:  # then it has not moved, and the others are of projects that record here
            return
        backup = database.with_name(f"{database.name}.before-move")
        with atomic_write(backup) as temporary, contextlib.closing(sqlite3.connect(temporary)) as copy:
            connection.backup(copy)
        with connection:  # all of it or nothing
            connection.execute("BEGIN IMMEDIATE")
            for former in roots:
                place = former / ARTIFACTS
                # MLflow's own first experiment has a plain path, those made here an address.
                for old, new in ((place.as_uri(), artifacts), (str(place), str(root / ARTIFACTS))):
                    for table, column in sorted(columns):
                        connection.execute(
                            f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                            f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                            (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
                        )
    names = ", ".join(sorted(map(str, roots)))
    lacking = "" if (root / ARTIFACTS).is_dir() else f"; the artifacts were not moved: copy {names}/{ARTIFACTS} here"
    print(
        f"tracking: this project has moved from {names}: the paths in {database.name} now point to {root} (backup: "
        f"{backup.name}){lacking}",
        file=sys.stderr,
        flush=True,
    )


def _project_of(location: str) -> Path | None:
    """The folder of the project that made an experiment with this location; None if it is not one of ours."""
    address = urlparse(location)
    if address.scheme != "file" or address.netloc:
        return None
    place = Path(unquote(address.path))
    return place.parent if place.name == ARTIFACTS else None
