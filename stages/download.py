"""Fetch the original files of the data set, or verify those that are there."""

import runner

from mnistflow.config.params import load
from mnistflow.config.paths import Paths
from mnistflow.data import datasets


def main() -> None:
    params, paths = load(), Paths.load()
    dataset = datasets.build(params.dataset, params.dataset_arguments)
    dataset.fetch(paths.raw / params.dataset, timeout=params.download.timeout)


if __name__ == "__main__":
    runner.run(main)
