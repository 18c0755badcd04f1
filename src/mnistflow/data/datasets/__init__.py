"""Data sets by name. A new one is a file in this folder with one registered class, and a block in params.yaml."""

import importlib
import pkgutil
from collections.abc import Mapping

from mnistflow.data.datasets.dataset import DATASETS, Dataset, LabelledImages, Published

__all__ = ["DATASETS", "Dataset", "LabelledImages", "Published", "build"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def build(name: str, arguments: Mapping[str, object]) -> Dataset:
    """Make the data set ``name`` with the keyword arguments of its block in params.yaml.

    Raises:
        ValueError: an argument cannot work; names it.
    """
    return DATASETS[name](**arguments)
