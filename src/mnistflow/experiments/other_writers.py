"""How networks of experiments read handwriting that is not MNIST's."""

from __future__ import annotations

from collections.abc import Iterable

from tqdm import tqdm

from mnistflow.config.paths import Paths
from mnistflow.experiments import cache
from mnistflow.export import formats
from mnistflow.recognition import handwriting, reader

__all__ = ["accuracies"]


def accuracies(weights: Iterable[str]) -> dict[str, dict[str, float]]:
    """Accuracies on handwriting that is not MNIST's, by the MD5 of a network's weights and the name of the set."""
    gathered = {}
    for name in handwriting.SETS:
        pictures, labels = handwriting.load_test_set(name, Paths.load().raw / "mnist")
        bar = tqdm(pictures, desc=name, total=len(labels), unit="picture", disable=None, leave=False)
        gathered[name] = handwriting.gather(bar, labels, lambda grey: reader.views(grey, several=False))
    read: dict[str, dict[str, float]] = {}
    for weight in tqdm(list(weights), desc="networks", unit="network", disable=None, leave=False):
        network = formats.eager(cache.path_in_cache(weight))
        read[weight] = {}
        for name, images in gathered.items():
            score = handwriting.score(images, network)
            read[weight] |= {name: score.accuracy, f"{name}, scaled alone": score.naive / score.pictures}
    return read
