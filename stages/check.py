"""Refuse every mistake in params.yaml, before DVC deletes or runs anything else."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from mnistflow import datasets, stage
from mnistflow.check import problems, start_weights
from mnistflow.files import link, write_json
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
    # What the links follow from, and nothing else: whoever brings something else, or applies an experiment that did,
    # has this file changed, and the links made anew.
    brought = params.dataset_arguments.get("path")
    write_json(paths.checked, {"dataset": params.dataset, "path": brought, "init_from": params.train.init_from})


if __name__ == "__main__":
    stage.run(main)
