"""Refuse every mistake in params.yaml, before DVC deletes or runs anything else."""

from pathlib import Path

import runner

from mnistflow.checks.problems import problems, start_weights
from mnistflow.config.forms import ParamsError
from mnistflow.config.params import load
from mnistflow.config.paths import Paths
from mnistflow.core.files import link, note, project_root, write_json
from mnistflow.data import datasets
from mnistflow.pipeline import git


def main() -> None:
    paths = Paths.load()
    if Path.cwd().resolve() != project_root():  # a copy, for an experiment
        git.check_copies_are_supported(project_root())
    if mistakes := problems(Path("params.yaml")):
        raise ParamsError(mistakes)
    # Where DVC, which follows links, sees what the user brings change; also in the copies that it runs experiments in.
    params = load()
    images = datasets.build(params.dataset, params.dataset_arguments).source
    weights = start_weights(params)
    link(paths.source / params.dataset, images, otherwise="nothing\n")
    link(paths.start / "given", weights)
    # Who clones, or applies an experiment that brought something else, has another note here than DVC remembers, or
    # none: the links are made anew.
    note(paths.brought / "links.json", {"images": images, "weights": weights})
    write_json(paths.checked, {"params.yaml": "checked"})


if __name__ == "__main__":
    runner.run(main)
