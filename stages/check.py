"""Refuse every mistake in params.yaml, before DVC deletes or runs anything else."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from mnistflow import datasets, stage
from mnistflow.check import problems, start_weights
from mnistflow.files import link, whole
from mnistflow.params import ParamsError, load
from mnistflow.paths import Paths


def main() -> None:
    paths = Paths.load()
    if found := problems(Path("params.yaml")):
        raise ParamsError(found)
    # Where DVC, which follows links, sees what the user brings change; also in the copies that it runs experiments in.
    params = load()
    link(paths.source / params.dataset, datasets.build(params.dataset, params.dataset_arguments).source)
    link(paths.start, start_weights(params))
    with whole(paths.checked) as marker:
        marker.write_text("params.yaml is right\n", encoding="utf-8")


if __name__ == "__main__":
    stage.run(main)
