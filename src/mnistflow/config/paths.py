"""Where the pipeline's files are. dvc.yaml owns every path; this reads them from there."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from mnistflow.core.files import read_yaml

__all__ = ["Paths"]


@dataclass(frozen=True)
class Paths:
    """The block ``paths`` under ``vars`` in dvc.yaml, relative to the folder of that file."""

    checked: Path  # marker: params.yaml was found to be right
    brought: Path  # a folder with links.json, which names what the user brings, or without
    source: Path  # a folder with a link for the data set to the images that the user brings; a plain file: nothing
    start: Path  # a folder with a link `given` to the weights that training starts from; without: fresh ones
    raw: Path  # a folder for each data set, with its original files
    train_split: Path
    validation_split: Path
    test_split: Path
    data_metrics: Path
    weights: Path
    train_metrics: Path
    history: Path
    steps: Path
    layers: Path
    test_metrics: Path
    predictions: Path
    robustness: Path
    figures: Path

    @classmethod
    def load(cls, path: Path = Path("dvc.yaml")) -> Paths:
        """Read the paths.

        Raises:
            ValueError: there is no such file, or it does not name exactly these paths.
        """
        document = read_yaml(path)
        match document:
            case {"vars": [{"paths": dict(named)}]} if set(named) == {field.name for field in fields(cls)}:
                return cls(**{name: Path(str(place)) for name, place in named.items()})
        names = ", ".join(field.name for field in fields(cls))
        raise ValueError(f"{path}: vars must hold one block `paths` with exactly these keys: {names}")
