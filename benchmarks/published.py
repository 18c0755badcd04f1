"""The published systems in a few lines each that owe nothing to this project: what it is held against."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["SYSTEMS", "System"]

Optimizers = Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer]


@dataclass(frozen=True)
class System:
    """How a system was published."""

    network: Callable[[], nn.Sequential]
    optimizer: Optimizers
    batch_size: int
    shuffled: bool = True
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy
    mean: float = 0.0  # of images in [0, 1]; taken away
    std: float = 1.0  # divided by


def mlp(*widths: int) -> nn.Sequential:
    """Dense layers with ReLU between them."""
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def normal_mlp() -> nn.Sequential:
    """The second system: all weights from a normal distribution."""
    model = mlp(784, 512, 256, 10)
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, mean=0, std=0.01)
    return model


def lenet(between: type[nn.Module] = nn.ReLU, padding: int = 0) -> nn.Sequential:
    """LeNet-5, with an activation of choice between its dense layers."""
    features = 16 * 5 * 5 if padding else 16 * 4 * 4
    convolutions = [
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
    ]  # fmt: skip
    dense = [nn.Linear(features, 120), between(), nn.Linear(120, 84), between(), nn.Linear(84, 10)]
    return nn.Sequential(nn.ZeroPad2d(padding), *convolutions, *dense)


def small_cnn() -> nn.Sequential:
    """10 and 20 kernels, 50 hidden units."""
    return nn.Sequential(
        nn.Conv2d(1, 10, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(10, 20, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(320, 50), nn.ReLU(), nn.Linear(50, 10), nn.LogSoftmax(dim=1),
    )  # fmt: skip


def one_hot_mse(outputs: Tensor, labels: Tensor) -> Tensor:
    """The mean squared difference from one-hot labels."""
    return ((outputs - torch.eye(10)[labels]) ** 2).mean()


def adam(lr: float) -> Optimizers:
    """As PyTorch makes it when nothing else is asked."""
    return lambda parameters: torch.optim.Adam(parameters, lr=lr)


def sgd(lr: float, momentum: float = 0) -> Optimizers:
    """As PyTorch makes it when nothing else is asked."""
    return lambda parameters: torch.optim.SGD(parameters, lr=lr, momentum=momentum)


SYSTEMS = {
    "seed-000": System(lambda: mlp(784, 128, 400, 10), adam(0.01), 32, shuffled=False),
    "seed-001": System(lenet, adam(0.001), 4),
    "seed-001-sequential": System(lambda: lenet(nn.Identity), adam(0.001), 4),
    "seed-001-32": System(lambda: lenet(padding=2), adam(0.001), 4),
    "seed-001-cnn": System(small_cnn, sgd(0.01), 64),
    "seed-002": System(normal_mlp, sgd(0.2), 256),
    "seed-003": System(
        lambda: mlp(784, 256, 64, 10), sgd(0.01, momentum=0.9), 512, loss=one_hot_mse, mean=0.1307, std=0.3081
    ),
    "seed-004": System(lambda: mlp(784, 256, 10), adam(0.001), 64),
}
