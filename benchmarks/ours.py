"""What the stages do, from params to the epochs of a training, for a benchmark to run as often as it wants."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal

import torch

from benchmarks import ROOT
from mnistflow import models
from mnistflow.config.params import Params, load, parse
from mnistflow.core import devices
from mnistflow.core.tensors import Split
from mnistflow.data import datasets, preprocessing
from mnistflow.data.datasets import Published
from mnistflow.experiments import studies
from mnistflow.pipeline import progress, stage
from mnistflow.pipeline.checkpoints import Checkpoint
from mnistflow.training.assembly import assemble
from mnistflow.training.history import Epoch
from mnistflow.training.loop import Step

__all__ = ["Training", "mnist", "original", "params_of", "splits"]


def params_of(name: str) -> Params:
    """The params of an entry of the study of published systems, or (``default``) params.yaml as it is."""
    if name == "default":
        return load(ROOT / "params.yaml")
    (entry,) = (entry for entry in studies.load("seeds").entries if entry.name == name)
    params, problems = parse(entry.experiments[0].document)
    assert params is not None, problems
    return params


def mnist(params: Params, raw: Path) -> Split:
    """All training images as these params prepare them; for the arguments, see :func:`splits`."""
    preprocess = params.preprocess.model_copy(update={"validation_size": 0})
    return splits(params.model_copy(update={"preprocess": preprocess}), raw)[0]


def splits(params: Params, raw: Path) -> tuple[Split, Split, Split]:
    """Training, validation and test split as these params prepare them.

    Args:
        params: of which the data set is read as MNIST: a folder of its images gives the same tensors.
        raw: where MNIST's files are; they are fetched if they are not.
    """
    return preprocessing.prepare(
        original(raw),
        dataset="mnist",
        validation_size=params.preprocess.validation_size,
        normalize=params.preprocess.normalize,
        pad=params.preprocess.pad,
        seed=params.seed,
        device=torch.device("cpu"),
    )


@cache
def original(raw: Path) -> Published:
    """MNIST as it was published; its files are fetched if they are not there."""
    dataset = datasets.build("mnist", {})
    dataset.fetch(raw, timeout=60)
    return dataset.read(raw)


class Training:
    """A training of the first images of a split, with all that the train stage does at each step.

    Args:
        params: model and recipe.
        split: the whole of it, on the device.
        images: how many of them are trained on.
        seed: of the weights and of the order.
        precision: instead of the recipe's.
    """

    def __init__(
        self,
        params: Params,
        split: Split,
        images: int,
        seed: int = 0,
        precision: Literal["auto", "fp32", "bf16"] | None = None,
    ) -> None:
        self.block, self.recipe = params.model_block, params.recipe_block
        self.train = replace(
            split, images=split.images[:images], labels=split.labels[:images], indices=split.indices[:images]
        )
        self.device = split.images.device
        generator = devices.seeded(seed, params.threads, self.device)
        self.model = models.build(self.block.architecture, split.image_shape, 10, self.block.arguments).to(self.device)
        recipe = self.recipe if precision is None else self.recipe.model_copy(update={"precision": precision})
        self.assembled = assemble(self.model, self.train, generator, capture=True, **recipe.arguments)
        self.steps, self.state = self.assembled.steps, self.assembled.state
        # One for all epochs, as in a training: on a GPU a step is recorded once.
        self.events: Iterator[Step | Epoch] | None = None

    def epoch(self) -> float:
        """Train for one epoch; returns the seconds that it took, start-up and measurements apart."""
        self.state.epochs.clear()
        display = progress.Display(1, self.steps, 200)
        checkpoint = Checkpoint("benchmark", self.device, every=1e9)
        if self.events is None:
            self.events = replace(self.assembled, epochs=1).events()
        started = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()), stage.stoppable() as stop:
            for event in self.events:
                display.show(event)
                stop.now(f"{display.where}; nothing of this benchmark is kept")
                if isinstance(event, Epoch) or checkpoint.is_due():
                    break
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        display.close()
        return self.state.epochs[-1].seconds if self.state.epochs else time.perf_counter() - started
