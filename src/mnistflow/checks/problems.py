"""Every mistake in params.yaml, all at once, before any work."""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Mapping
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from mnistflow import tracking
from mnistflow.config import params
from mnistflow.config.forms import NAME_PATTERN, argument_problems, nearest
from mnistflow.config.params import Params, Tracking
from mnistflow.config.paths import Paths
from mnistflow.core.files import digest, named_path, project_root, read_yaml
from mnistflow.data import datasets
from mnistflow.data.datasets import DATASETS, Dataset
from mnistflow.evaluation.gates import gate_problems
from mnistflow.pipeline.code import code_digest

if TYPE_CHECKING:  # torch takes seconds to import, and most of what is checked does not need it
    from mnistflow.models import ImageShape

__all__ = ["dataset_problems", "document_problems", "problems", "start_weights"]

STORES = ("http", "https", "sqlite", "mysql", "postgresql", "mssql", "file", "databricks")  # that MLflow brings along


def problems(path: Path) -> list[str]:
    """Find what is wrong with a params file: its form, its values, its names, and what this machine lacks for it.

    Returns:
        One line per mistake, beginning with its dotted path; none if all is well.

    Raises:
        ValueError: the file is missing, or is not YAML.
    """
    return document_problems(read_yaml(path))


def document_problems(document: JsonValue) -> list[str]:
    """Find what is wrong with what a params file holds; see :func:`problems`."""
    chosen, mistakes = params.parse(document)
    if not isinstance(document, dict):
        return mistakes
    dataset: Dataset | None = None
    for name, block in _blocks(document, "datasets"):
        wanted = name == document.get("dataset")
        wrong = dataset_problems(name, block, build=wanted)
        if wanted and not wrong:
            dataset = datasets.build(name, block)
        mistakes += wrong
    image_shape = _image_shape(document, dataset)
    built, parameters = _Built(), 0
    for name, block in _blocks(document, "models"):
        wanted = name == document.get("model")
        given = image_shape if wanted else None
        count = built.parameters(block, given)
        if count is None:
            wrong, count = _model_problems(name, block, given)
            mistakes += wrong
            if not wrong:
                built.add(block, given, count)
        parameters = count if wanted else parameters
    if chosen is not None:
        mistakes += gate_problems(chosen.evaluate.gates)
        mistakes += _tracking_problems(chosen.tracking)
        mistakes += _device_problems(chosen)
        if not mistakes and image_shape is not None:
            mistakes += _memory_problems(chosen, image_shape, dataset, parameters)
        if not mistakes and image_shape is not None:
            mistakes += _start_problems(chosen, image_shape, dataset)
        if dataset is not None:
            mistakes += _split_problems(chosen, dataset)
            mistakes += _added_images_problems(chosen, dataset)
    return mistakes


def start_weights(chosen: Params) -> Path | None:
    """The file with the weights that training starts from; None: fresh ones.

    Raises:
        ValueError: there is no such file, or no such run in the store.
    """
    name = chosen.train.init_from
    if name is None:
        return None
    if re.fullmatch(r"[0-9a-f]{32}", name):
        return tracking.weights_of(chosen.tracking, name)
    path = named_path(name).resolve()
    if not path.is_file():
        raise ValueError(f"there is no file {path}; set it to a weights file, the id of a run, or null")
    if path == (project_root() / Paths.load().weights).resolve():
        raise ValueError(f"training overwrites {name}; copy it first: cp {name} start.safetensors")
    return path


def _start_problems(chosen: Params, image_shape: ImageShape, dataset: Dataset | None) -> list[str]:
    block = chosen.model_block
    classes = dataset.classes if dataset is not None else None
    try:
        path = start_weights(chosen)
        if path is not None and classes is not None:
            from mnistflow import models

            model = models.build(block.architecture, image_shape, len(classes), block.arguments)
            models.start_from(model, block.architecture, path)
    except ValueError as error:
        return [f"train.init_from: {error}"]
    return []


def _blocks(document: Mapping[str, object], key: str) -> list[tuple[str, dict[str, JsonValue]]]:
    """The blocks under a key that have the form of one; what has not is reported by its form."""
    blocks = document.get(key)
    if not isinstance(blocks, dict):
        return []
    return [
        (name, block) for name, block in blocks.items() if isinstance(block, dict) and re.fullmatch(NAME_PATTERN, name)
    ]


def dataset_problems(name: str, block: Mapping[str, JsonValue], *, build: bool) -> list[str]:
    """Find what is wrong with the block of a data set.

    Args:
        name: the data set's.
        block: what params.yaml holds for it.
        build: look for the folder that it names, too: one that is not wanted may be missing.

    Returns:
        One line per mistake, beginning with its dotted path.
    """
    if name not in DATASETS:
        return [f"datasets.{name}: there is no data set {name!r}; {nearest(name, DATASETS)}"]
    mistakes = argument_problems(f"datasets.{name}", DATASETS[name], block)
    if build and not mistakes:
        try:
            datasets.build(name, block)
        except ValueError as error:
            mistakes.append(f"datasets.{name}.{error}")
    return mistakes


def _model_problems(name: str, block: Mapping[str, JsonValue], image_shape: ImageShape | None) -> tuple[list[str], int]:
    """Build a model without weights: for the images it will get, or for any if that is not known or not its turn.

    Returns:
        One line per mistake, and how many parameters it has.
    """
    import torch

    from mnistflow import models
    from mnistflow.models import ARCHITECTURES, ShapeError

    arguments = {key: value for key, value in block.items() if key != "architecture"}
    architecture = block.get("architecture")
    if not isinstance(architecture, str):
        return [], 0  # reported by its form
    if architecture not in ARCHITECTURES:
        known = nearest(architecture, ARCHITECTURES)
        return [f"models.{name}.architecture: there is no architecture {architecture!r}; {known}"], 0
    mistakes = argument_problems(f"models.{name}", ARCHITECTURES[architecture], arguments)
    parameters = 0
    if not mistakes:
        try:
            with torch.device("meta"):
                model = models.build(architecture, image_shape or (1, 28, 28), 10, arguments)
            parameters = models.parameter_count(model)
        except ShapeError as error:
            mistakes += [f"models.{name}: {error}"] if image_shape else []
        except ValueError as error:
            mistakes.append(f"models.{name}.{error}")
    return mistakes, parameters


class _Built:
    """The blocks of models that were built here before, by this code: there is no need to build them again.

    Kept in the main repository, as a digest and a number of parameters a line.
    """

    def __init__(self) -> None:
        self._file = project_root() / ".mnistflow" / "models-built"
        self._rests_on = {"code": code_digest(Path(__file__)), "torch": version("torch")}
        self._known: dict[str, int] = {}
        with contextlib.suppress(OSError):
            for line in self._file.read_text(encoding="utf-8", errors="replace").splitlines():
                key, _, parameters = line.partition(" ")
                if parameters.isdecimal():
                    self._known[key] = int(parameters)

    def parameters(self, block: Mapping[str, JsonValue], image_shape: ImageShape | None) -> int | None:
        """How many a model has, for images of that shape; None if it was not built before."""
        return self._known.get(self._key(block, image_shape))

    def add(self, block: Mapping[str, JsonValue], image_shape: ImageShape | None, parameters: int) -> None:
        key = self._key(block, image_shape)
        self._known[key] = parameters
        with contextlib.suppress(OSError):  # a saving of time, which no stage may fail for
            self._file.parent.mkdir(exist_ok=True)
            with self._file.open("a", encoding="utf-8") as file:
                file.write(f"{key} {parameters}\n")  # one write of one line: others may append at the same time

    def _key(self, block: Mapping[str, JsonValue], image_shape: ImageShape | None) -> str:
        # As Python writes it, because a block that is still to be judged may hold what JSON has no form for: .nan, say.
        return digest({**self._rests_on, "block": repr(sorted(block.items())), "image_shape": image_shape})


def _memory_problems(chosen: Params, image_shape: ImageShape, dataset: Dataset | None, parameters: int) -> list[str]:
    """What cannot fit into this machine whatever it does; what may or may not, only a run can tell."""
    if not hasattr(os, "sysconf"):
        return []
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")  # in bytes
    mistakes = []
    recipe = chosen.recipe_block
    copies = 2 + (2 if recipe.optimizer != "sgd" else 1 if recipe.momentum else 0)
    if 4 * copies * parameters > memory:
        mistakes.append(
            f"models.{chosen.model}: {parameters:,} parameters, their gradients and the state of {recipe.optimizer} "
            f"need {4 * copies * parameters / 1e9:,.0f} GB, but this machine has {memory / 1e9:,.0f}; choose a "
            "smaller model"
        )
    images = dataset.training_images if dataset is not None else None
    if images is not None and (needed := 4 * images * math.prod(image_shape)) > memory:
        height, width = image_shape[1:]
        mistakes.append(
            f"preprocess.pad: {images:,} images of {height} x {width} pixels need {needed / 1e9:,.0f} GB, but this "
            f"machine has {memory / 1e9:,.0f}; use less padding or smaller images"
        )
    return mistakes


def _image_shape(document: Mapping[str, JsonValue], dataset: Dataset | None) -> ImageShape | None:
    """Of the images that the chosen model will get, if that can be said."""
    match document.get("preprocess"):
        case {"pad": int(pad)} if dataset is not None and 0 <= pad <= 512:
            height, width = (side + 2 * pad for side in dataset.image_size)
            return 1, height, width
    return None


def _split_problems(chosen: Params, dataset: Dataset) -> list[str]:
    size, total = chosen.preprocess.validation_size, dataset.training_images
    if size == 0 or total is None or dataset.classes is None:
        return []
    classes = len(dataset.classes)
    held_out = size if isinstance(size, int) else round(size * total)
    if classes <= held_out <= total - classes:
        return []
    return [
        f"preprocess.validation_size: {size} of {chosen.dataset}'s {total} training images is {held_out}; "
        f"set it to 0, or to {classes} to {total - classes} images"
    ]


def _added_images_problems(chosen: Params, dataset: Dataset) -> list[str]:
    """Images that are made by drawing fit only where the classes are the digits, and images are square."""
    height, width = dataset.image_size
    if height == width and dataset.classes == tuple("0123456789"):
        return []
    return [
        f"recipes.{chosen.recipe}.{key}: requires square images of the digits 0 to 9, which {chosen.dataset} does not "
        "have; set it to 0, or choose the data set mnist"
        for key in ("drawn_digits", "outliers")
        if getattr(chosen.recipe_block, key)
    ]


def _tracking_problems(settings: Tracking) -> list[str]:
    """What MLflow would refuse each time: nothing would ever be recorded."""
    mistakes = []
    name = settings.registered_model
    if name is not None and (re.search("[/:@']", name) or not name.strip() or name in (".", "..")):
        mistakes.append(f"tracking.registered_model: {name!r} is not a valid model name; avoid / : @ and '")
    scheme, address, _ = (settings.uri or "").partition("://")
    plugins = {point.name for point in entry_points(group="mlflow.tracking_store")}
    if address and scheme.partition("+")[0] not in (*STORES, *plugins):
        known = ", ".join(f"{scheme}://" for scheme in STORES)
        mistakes.append(
            f"tracking.uri: MLflow supports no store {scheme}://; use {known}, a folder, or null for mlflow.db here"
        )
    return mistakes


def _device_problems(chosen: Params) -> list[str]:
    mistakes: list[str] = []
    for name, block in (("preprocess", chosen.preprocess), ("train", chosen.train), ("evaluate", chosen.evaluate)):
        if block.device in ("auto", "cpu"):  # there is one wherever Python runs
            continue
        from mnistflow.core import devices

        try:
            devices.resolve(block.device)
        except ValueError as error:
            mistakes.append(f"{name}.device: {error}")
    return mistakes
