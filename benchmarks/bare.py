"""The arithmetic of one experiment as a plain script, without a pipeline: MNIST's files to a trained and tested MLP.

    python benchmarks/bare.py RAW OUT [--seed N]

784-256-64-10 by seed-003's recipe: mean squared error, SGD 0.01 with momentum 0.9, batches of 512, three epochs of all
60,000 images, test accuracy after each; then the test images once more for predictions, and moved by one pixel in four
directions. RAW is the folder of the four IDX files; OUT gets weights and predictions.
"""

from __future__ import annotations

import argparse
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

MEAN, STD = 0.1307, 0.3081


def main() -> None:
    """Read, train, test, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("raw", type=Path, help="the folder of the four IDX files")
    parser.add_argument("out", type=Path, help="the folder to write to")
    parser.add_argument("--seed", type=int, default=9, help="(default: %(default)s)")
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(2)
    images, labels = read(arguments.raw, "train")
    test_images, test_labels = read(arguments.raw, "t10k")
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for epoch in range(1, 4):
        for chosen in torch.randperm(len(images)).split(512):
            loss = F.mse_loss(model(images[chosen]), F.one_hot(labels[chosen], 10).float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {accuracy(model, test_images, test_labels):.2%}")
    with torch.inference_mode():
        predictions = model(test_images).argmax(dim=1)
    background = -MEAN / STD
    wide = F.pad(test_images, [1] * 4, value=background)
    moved = [
        accuracy(model, wide[:, :, down : down + 28, across : across + 28], test_labels)
        for down, across in ((0, 1), (2, 1), (1, 0), (1, 2))
    ]
    print(f"moved by a pixel: {sum(moved) / 4:.2%}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    np.savetxt(arguments.out / "predictions.csv", predictions.numpy(), fmt="%d")
    np.savez(arguments.out / "weights.npz", **{name: value.numpy() for name, value in model.state_dict().items()})


def read(folder: Path, name: str) -> tuple[Tensor, Tensor]:
    """Normalised images (N, 1, 28, 28) and labels (N,) of a part."""
    data = (folder / f"{name}-images-idx3-ubyte").read_bytes()
    _, count, height, width = struct.unpack(">4I", data[:16])
    pixels = torch.frombuffer(bytearray(data[16:]), dtype=torch.uint8).reshape(count, 1, height, width)
    labels = torch.frombuffer(bytearray((folder / f"{name}-labels-idx1-ubyte").read_bytes()[8:]), dtype=torch.uint8)
    return (pixels.float() / 255 - MEAN) / STD, labels.long()


@torch.inference_mode()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """0 to 1."""
    return float((model(images).argmax(dim=1) == labels).float().mean())


if __name__ == "__main__":
    main()
