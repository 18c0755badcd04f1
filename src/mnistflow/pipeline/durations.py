"""A log of durations on this machine; outputs of the pipeline must not contain times."""

from __future__ import annotations

import contextlib
import functools
import json
import sys
from pathlib import Path

from mnistflow.core.files import md5, project_root

__all__ = ["evaluation", "note", "read", "seconds_per_epoch"]

SUBJECT = "weights"  # what nearly all rows are about


def note(subject: str, **took: object) -> None:
    """Note what something took.

    Args:
        subject: what it belongs to: weights by their MD5, which is what dvc.lock calls them by, or another digest.
        took: durations by name, in seconds, and what follows from them.
    """
    path = _log()
    try:
        path.parent.mkdir(exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            # One write of one line: others may append at the same time.
            file.write(json.dumps({SUBJECT: subject, **took}) + "\n")
    except OSError as error:  # durations are worth having, and no stage fails for them
        _warn(f"durations are not recorded: {error}")


def evaluation(weights: Path, scores: Path, batch_size: int) -> str:
    """The subject of what is noted of an evaluation: its files, and how many images it took at once."""
    return f"{md5(weights)} {md5(scores)} {batch_size}"


def read(subject: str) -> dict[str, object]:
    """All that was noted of a subject; of what was noted several times, the last."""
    return {name: value for row in _rows() if row[SUBJECT] == subject for name, value in row.items()}


def seconds_per_epoch() -> dict[str, float]:
    """Seconds an epoch, by the MD5 of the weights; of several trainings to the same weights, the last."""
    trainings = [row for row in _rows() if "epochs" in row]
    return {str(row[SUBJECT]): float(str(row["seconds"])) / int(str(row["epochs"])) for row in trainings}


def _rows() -> list[dict[str, object]]:
    if not _log().is_file():
        return []
    rows = []
    for line in _log().read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):  # cut short, by a power failure
            row = json.loads(line)
            if isinstance(row, dict) and SUBJECT in row:
                rows.append(row)
    return rows


@functools.cache
def _warn(message: str) -> None:
    """Once for each message."""
    print(f"warning: {message}", file=sys.stderr, flush=True)


def _log() -> Path:
    return project_root() / ".mnistflow" / "durations.jsonl"
