"""What the layers of a network do: gradients that reach them, units that have gone silent."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from mnistflow.core.tensors import Split
from mnistflow.models import ACTIVATIONS
from mnistflow.models.inference import evaluating
from mnistflow.models.losses import Loss

__all__ = ["Layer", "layers", "rows"]

ACTIVATION_TYPES = tuple(ACTIVATIONS.values())


@dataclass(frozen=True)
class Layer:
    """A convolution or a dense layer, as it stands."""

    layer: str  # its name in the network
    units: int  # kernels of a convolution, units of a dense layer
    dead_units: int | None  # whose activation is the same for every image and place; None: no activation follows
    weight_norm: float
    gradient_norm: float  # of the loss by its weights


def layers(model: nn.Module, split: Split, loss: Loss, count: int = 1000) -> list[Layer]:
    """Look at each layer with the first images of a split; the network and its gradients stay as they are.

    A dead unit says the same whatever it sees: a ReLU that no image reaches (its gradient is 0, so it stays that way),
    a sigmoid or tanh far from its bend.

    Args:
        model: on any device.
        split: with at least one image; on any device.
        loss: of logits and labels.
        count: how many images at most.

    Returns:
        A row for each layer, in the order in which the images pass them.
    """
    names = {module: name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)}
    passed: list[nn.Linear | nn.Conv2d] = []
    dead: dict[nn.Module, int] = {}

    def see_layer(module: nn.Module, _: object, __: Tensor) -> None:
        assert isinstance(module, nn.Linear | nn.Conv2d)
        passed.append(module)

    def see_activation(_: nn.Module, __: object, output: Tensor) -> None:
        units = output.detach().transpose(0, 1).flatten(1)  # (units, images x places)
        dead[passed[-1]] = int((units.amax(dim=1) - units.amin(dim=1) < 1e-6).sum())

    # In evaluation mode dropout draws nothing and batch normalisation learns nothing.
    with evaluating(model), contextlib.ExitStack() as hooks:
        for module in model.modules():
            if module in names:
                hooks.callback(module.register_forward_hook(see_layer).remove)
            elif isinstance(module, ACTIVATION_TYPES):
                hooks.callback(module.register_forward_hook(see_activation).remove)
        device = next(model.parameters()).device
        value = loss(model(split.images[:count].to(device)), split.labels[:count].to(device))
        gradients = torch.autograd.grad(value, [module.weight for module in passed])
    return [
        Layer(
            layer=names[module],
            units=len(module.weight),
            dead_units=dead.get(module),
            weight_norm=float(module.weight.detach().norm()),
            gradient_norm=float(gradient.norm()),
        )
        for module, gradient in zip(passed, gradients, strict=True)
    ]


def rows(moment: str, model: nn.Module, split: Split, loss: Loss) -> list[dict[str, object]]:
    """What :func:`layers` finds at a moment of training, as rows of a table."""
    return [
        {
            "moment": moment,
            **asdict(layer),
            "weight_norm": f"{layer.weight_norm:.4g}",
            "gradient_norm": f"{layer.gradient_norm:.4g}",
        }
        for layer in layers(model, split, loss)
    ]
