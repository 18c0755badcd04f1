"""How long trainings took: a log of this machine, for no output of the pipeline may hold a time."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from mnistflow.files import project_root

__all__ = ["record", "seconds_per_epoch"]


def record(weights: Path, epochs: int, seconds: float) -> None:
    """Note a training under the MD5 of its weights, which is what dvc.lock calls them by."""
    row = {"weights": hashlib.md5(weights.read_bytes()).hexdigest(), "epochs": epochs, "seconds": round(seconds, 3)}
    path = _log()
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")  # one write of one line: others may append at the same time


def seconds_per_epoch() -> dict[str, float]:
    """Seconds an epoch, by the MD5 of the weights; of several trainings to the same weights, the last."""
    if not _log().is_file():
        return {}
    rows = [json.loads(line) for line in _log().read_text(encoding="utf-8").splitlines()]
    return {row["weights"]: row["seconds"] / row["epochs"] for row in rows}


def _log() -> Path:
    return project_root() / ".mnistflow" / "durations.jsonl"
