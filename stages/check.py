"""Refuse every mistake in params.yaml, before DVC deletes or runs anything else."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from mnistflow import stage
from mnistflow.check import problems
from mnistflow.files import whole
from mnistflow.params import ParamsError
from mnistflow.paths import Paths


def main() -> None:
    paths = Paths.load()
    if found := problems(Path("params.yaml")):
        raise ParamsError(found)
    with whole(paths.checked) as marker:
        marker.write_text("params.yaml is right\n", encoding="utf-8")


if __name__ == "__main__":
    stage.run(main)
