"""Principal components of what the last dense layer of a network is given, in two dimensions."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnistflow.models.inference import evaluating

__all__ = ["last_inputs", "principal_components"]


@torch.inference_mode()
def last_inputs(model: nn.Module, images: Tensor, batch_size: int) -> Tensor | None:
    """What the last dense layer of a network is given: the images as the network sees them before it names them.

    Args:
        model: on the device of the images; left in the mode it was in, and without hooks.
        images: (N, C, H, W) float32, normalised.
        batch_size: how many at once.

    Returns:
        (N, inputs) float32; None where the network has no dense layer.
    """
    seen: list[Tensor] = []

    def keep(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        seen.append(arguments[0].flatten(1))

    batches: list[Tensor] = []
    with evaluating(model), contextlib.ExitStack() as hooks:
        for module in model.modules():
            if isinstance(module, nn.Linear):
                hooks.callback(module.register_forward_pre_hook(keep).remove)
        for batch in images.split(batch_size):
            model(batch)
            batches += seen[-1:]
            seen.clear()
    return torch.cat(batches) if batches else None


def principal_components(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The directions in which values vary most (Pearson 1901, Hotelling 1933), and where each lies along them.

    A direction has a sign of its own choosing; here its largest part is positive, so that figures stay the same.

    Args:
        values: (N, features), at least one.
        count: of directions.

    Returns:
        (N, count) float64, 0 on average, and the share of the whole variance that each holds, (count,) float64 from 0
        to 1; both 0 where there are no such directions.
    """
    centred = values.double() - values.double().mean(dim=0)
    left, sizes, directions = torch.linalg.svd(centred, full_matrices=False)
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True)).squeeze(1)
    places = left * sizes * largest.sign()
    total = sizes.square().sum()
    shares = sizes.square() / total if total > 0 else torch.zeros_like(sizes)
    missing = max(0, count - len(sizes))
    return F.pad(places, (0, missing))[:, :count], F.pad(shares, (0, missing))[:count]
