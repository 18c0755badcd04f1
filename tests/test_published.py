"""Each published system against a few lines that owe nothing to this project: same weights, batches and losses."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from torch import Tensor
from torchvision.datasets import ImageFolder

from benchmarks.published import SYSTEMS
from mnistflow import models
from mnistflow.config import params
from mnistflow.core import devices
from mnistflow.data import datasets, preprocessing
from mnistflow.data.datasets import LabelledImages, Published
from mnistflow.data.datasets.folder import write_folder
from mnistflow.experiments import studies
from mnistflow.training.assembly import assemble
from mnistflow.training.loop import Step

STEPS = 50
SEED = 3


def idx(path: Path) -> Tensor:
    """The numbers of an IDX file, by its published format: a magic number that ends in the number of dimensions."""
    data = path.read_bytes()
    dimensions = np.frombuffer(data, ">i4", data[3], 4)
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(dimensions).copy())


@pytest.fixture(scope="module")
def mnist(mnist_folder: Path) -> tuple[Tensor, Tensor]:
    """The 60,000 training images in [0, 1], (60000, 1, 28, 28), and their labels."""
    images = idx(mnist_folder / "train-images-idx3-ubyte")[:, None] / 255
    return images, idx(mnist_folder / "train-labels-idx1-ubyte").long()


@pytest.fixture(scope="module")
def image_folder(mnist: tuple[Tensor, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4,000 of them as PNG files, and a few to test on."""
    images = (mnist[0][:, 0] * 255).round().to(torch.uint8)
    folder = tmp_path_factory.mktemp("export") / "mnist"
    train, test = (LabelledImages(images[part], mnist[1][part]) for part in (slice(4000), slice(4000, 4100)))
    write_folder(Published(train, test, tuple("0123456789")), folder)
    return folder


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.usefixtures("here")
def test_all_five_are_studied_and_checked() -> None:
    names = [entry.name for entry in studies.load("seeds").entries]
    assert {f"seed-00{number}" for number in range(5)} <= set(names)
    assert set(SYSTEMS) <= set(names)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_is_what_was_published(
    name: str, mnist: tuple[Tensor, Tensor], mnist_folder: Path, image_folder: Path
) -> None:
    system = SYSTEMS[name]
    (entry,) = (entry for entry in studies.load("seeds").entries if entry.name == name)
    chosen, problems = params.parse(entry.experiments[0].document)
    assert chosen is not None, problems

    # Ours, as the stages do it.
    generator = devices.seeded(SEED, chosen.threads, torch.device("cpu"))
    arguments = chosen.dataset_arguments | ({"path": str(image_folder)} if chosen.dataset == "folder" else {})
    dataset = datasets.build(chosen.dataset, arguments)
    raw = image_folder.parent / "raw" if chosen.dataset == "folder" else mnist_folder.parents[1]
    if chosen.dataset == "folder":
        dataset.fetch(raw, timeout=1)
    train, validation, test = preprocessing.prepare(
        dataset.read(raw),
        dataset=chosen.dataset,
        validation_size=chosen.preprocess.validation_size,
        normalize=chosen.preprocess.normalize,
        pad=chosen.preprocess.pad,
        seed=SEED,
        device=torch.device("cpu"),
    )
    block, recipe = chosen.model_block, chosen.recipe_block
    model = models.build(block.architecture, train.image_shape, len(train.inputs.classes), block.arguments)
    fitting = assemble(model, train, generator, **recipe.arguments).events()
    assert len(validation) == 0
    assert (recipe.schedule, recipe.augment, recipe.keep) == ("constant", params.Augment(), "last")
    ours = [event.loss for event in islice(fitting, STEPS) if isinstance(event, Step)]
    assert len(ours) == STEPS

    # Theirs.
    images, labels = mnist
    if name == "seed-004":
        pictures = ImageFolder(str(image_folder / "train"))
        images = torch.stack([torch.from_numpy(np.array(each.convert("L"))) for each, _ in pictures])[:, None] / 255
        labels = torch.tensor(pictures.targets)
    images = (images - system.mean) / system.std
    assert (len(train), len(test)) == ((4000, 100) if name == "seed-004" else (60_000, 10_000))
    torch.manual_seed(SEED)
    other = system.network()
    optimizer = system.optimizer(other.parameters())
    order = torch.arange(len(images))
    if system.shuffled:
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(SEED))
    theirs = []
    for step in range(STEPS):
        batch = order[step * system.batch_size : (step + 1) * system.batch_size]
        value = system.loss(other(images[batch]), labels[batch])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        theirs.append(value.item())
    assert ours == pytest.approx(theirs, abs=1e-5)
    assert theirs[-1] < theirs[0]  # it learns, so the later losses depend on the steps before
