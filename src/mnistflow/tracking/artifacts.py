"""The files that a run recorded, fetched from the store, and one that is added to them."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from mnistflow.config.params import Tracking
from mnistflow.core.files import atomic_write, project_root, read_csv, sha256
from mnistflow.tracking import tags
from mnistflow.tracking.store import connect, failure

__all__ = ["attach", "graph_of", "predictions", "weights_of"]


def attach(tracking: Tracking, run_id: str, text: str, place: str) -> str:
    """Add a text to the artifacts of a run, in the place of one that is there.

    Returns:
        Its place there.

    Raises:
        ValueError: the store does not take it.
    """
    try:
        client, _ = connect(tracking)
        client.log_text(run_id, text, place)
    except Exception as error:
        raise ValueError(failure(tracking, f"could not store {place}", error)) from error
    return place


def predictions(tracking: Tracking, run_id: str) -> list[dict[str, str]] | None:
    """What a run recorded of each test image: the rows of predictions.csv; None if it has none.

    Raises:
        ValueError: the store does not answer, or the file is damaged.
    """
    name = "evaluation/predictions.csv"
    try:
        client, _ = connect(tracking)
        if name not in [file.path for file in client.list_artifacts(run_id, "evaluation")]:
            return None
        with tempfile.TemporaryDirectory() as temporary:
            place = Path(client.download_artifacts(run_id, name, temporary))
            return read_csv(place, texts=("index", "label", "prediction"))
    except Exception as error:
        raise ValueError(failure(tracking, f"has no predictions of run {run_id}:", error)) from error


def weights_of(tracking: Tracking, run_id: str) -> Path:
    """The weights that a run recorded, fetched from the store once and checked against the run's digest.

    Raises:
        ValueError: the store does not answer, or has no such run, or not its weights.
    """
    folder = project_root() / ".mnistflow" / "weights" / run_id
    place = folder / "model.safetensors"
    try:
        client, _ = connect(tracking)
        known = client.get_run(run_id).data.tags.get(tags.WEIGHTS)
        if not place.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as temporary:
                Path(client.download_artifacts(run_id, f"weights/{place.name}", temporary)).replace(place)
    except Exception as error:
        raise ValueError(failure(tracking, f"has no weights of run {run_id}:", error)) from error
    if sha256(place) != known:
        raise ValueError(f"{place} differs from what run {run_id} recorded; delete it and run again: rm {place}")
    return place


def graph_of(tracking: Tracking, run_id: str, target: Path) -> bool:
    """Fetch the ONNX graph that a run recorded; False if it has none.

    Raises:
        ValueError: the store does not answer.
    """
    name = "onnx/model.onnx"
    try:
        client, _ = connect(tracking)
        if name not in [file.path for file in client.list_artifacts(run_id, "onnx")]:
            return False
        with tempfile.TemporaryDirectory() as temporary, atomic_write(target) as place:
            shutil.copyfile(client.download_artifacts(run_id, name, temporary), place)
    except Exception as error:
        raise ValueError(failure(tracking, f"has no graph of run {run_id}:", error)) from error
    return True
