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
    images = datasets.build(params.dataset, params.dataset_arguments).source
    link(paths.source / params.dataset, images, otherwise="nothing\n")
    link(paths.start / "given", start_weights(params))
    # Whoever brings other images, or applies an experiment that did, has this changed, and the link made anew.
    write_json(paths.checked / params.dataset, {"images": None if images is None else str(images)})


if __name__ == "__main__":
    stage.run(main)
