"""Each published system against a few lines that owe nothing to this project: same weights, batches and losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.datasets import ImageFolder

from mnistflow import datasets, devices, models, params, preprocessing, recipes, studies, training
from mnistflow.datasets import LabelledImages, Published
from mnistflow.datasets.folder import write_folder

STEPS = 50
SEED = 3
Optimizers = Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer]


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


def mlp(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def normal_mlp() -> nn.Sequential:
    model = mlp(784, 512, 256, 10)
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, mean=0, std=0.01)
    return model


def lenet(between: type[nn.Module] = nn.ReLU, padding: int = 0) -> nn.Sequential:
    features = 16 * 5 * 5 if padding else 16 * 4 * 4
    convolutions = [
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
    ]  # fmt: skip
    dense = [nn.Linear(features, 120), between(), nn.Linear(120, 84), between(), nn.Linear(84, 10)]
    return nn.Sequential(nn.ZeroPad2d(padding), *convolutions, *dense)


def small_cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 10, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(10, 20, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(320, 50), nn.ReLU(), nn.Linear(50, 10), nn.LogSoftmax(dim=1),
    )  # fmt: skip


def one_hot_mse(outputs: Tensor, labels: Tensor) -> Tensor:
    return ((outputs - torch.eye(10)[labels]) ** 2).mean()


def adam(lr: float) -> Optimizers:
    return lambda parameters: torch.optim.Adam(parameters, lr=lr)


def sgd(lr: float, momentum: float = 0) -> Optimizers:
    return lambda parameters: torch.optim.SGD(parameters, lr=lr, momentum=momentum)


# network, optimizer, batch size, whether it is shuffled, loss, mean and deviation of the input
SYSTEMS: dict[str, tuple[Callable[[], nn.Sequential], Optimizers, int, bool, Callable[..., Tensor], float, float]] = {
    "seed-000": (lambda: mlp(784, 128, 400, 10), adam(0.01), 32, False, F.cross_entropy, 0, 1),
    "seed-001": (lenet, adam(0.001), 4, True, F.cross_entropy, 0, 1),
    "seed-001-sequential": (lambda: lenet(nn.Identity), adam(0.001), 4, True, F.cross_entropy, 0, 1),
    "seed-001-32": (lambda: lenet(padding=2), adam(0.001), 4, True, F.cross_entropy, 0, 1),
    "seed-001-cnn": (small_cnn, sgd(0.01), 64, True, F.cross_entropy, 0, 1),
    "seed-002": (normal_mlp, sgd(0.2), 256, True, F.cross_entropy, 0, 1),
    "seed-003": (lambda: mlp(784, 256, 64, 10), sgd(0.01, momentum=0.9), 512, True, one_hot_mse, 0.1307, 0.3081),
    "seed-004": (lambda: mlp(784, 256, 10), adam(0.001), 64, True, F.cross_entropy, 0, 1),
}


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
    network, optimizers, batch_size, shuffled, loss, mean, std = SYSTEMS[name]
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
    ours_optimizer = recipes.make_optimizer(model.parameters(), **recipe.optimizer_arguments)
    fitting = training.fit(
        training.State(model, ours_optimizer, None, generator, recipe.batch_size),
        train,
        loss=recipes.make_loss(recipe.loss, label_smoothing=recipe.label_smoothing),
        epochs=recipe.epochs,
        shuffle=recipe.shuffle,
    )
    assert len(validation) == 0
    assert (recipe.schedule, recipe.augment, recipe.keep) == ("constant", params.Augment(), "last")
    ours = [event.loss for event in islice(fitting, STEPS) if isinstance(event, training.Step)]
    assert len(ours) == STEPS

    # Theirs.
    images, labels = mnist
    if name == "seed-004":
        pictures = ImageFolder(str(image_folder / "train"))
        images = torch.stack([torch.from_numpy(np.array(each.convert("L"))) for each, _ in pictures])[:, None] / 255
        labels = torch.tensor(pictures.targets)
    images = (images - mean) / std
    assert (len(train), len(test)) == ((4000, 100) if name == "seed-004" else (60_000, 10_000))
    torch.manual_seed(SEED)
    other = network()
    optimizer = optimizers(other.parameters())
    order = torch.arange(len(images))
    if shuffled:
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(SEED))
    theirs = []
    for step in range(STEPS):
        batch = order[step * batch_size : (step + 1) * batch_size]
        value = loss(other(images[batch]), labels[batch])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        theirs.append(value.item())
    assert ours == pytest.approx(theirs, abs=1e-5)
    assert theirs[-1] < theirs[0]  # it learns, so the later losses depend on the steps before
