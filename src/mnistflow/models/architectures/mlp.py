"""The multilayer perceptron."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from mnistflow.models.architectures.architecture import ACTIVATIONS, Activation, ImageShape, register

__all__ = ["MLP"]


@register("mlp")
class MLP(nn.Module):
    """Fully connected layers over the flattened image (Rumelhart, Hinton and Williams 1986).

    Args:
        image_shape: channels, height, width.
        classes: how many logits come out.
        hidden: the width of each hidden layer, from the input on; none makes the network linear.
        activation: after each hidden layer.
        dropout: the probability with which a hidden unit is silenced in training.
        init: of the weights; biases keep PyTorch's own, uniform in ±1/√inputs. ``default``: the same for the weights;
            ``normal``: mean 0 and standard deviation ``init_std``; ``xavier``: uniform (Glorot and Bengio 2010);
            ``kaiming``: normal, for ReLU (He, Zhang, Ren and Sun 2015).
        init_std: with ``normal`` only.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        classes: int,
        *,
        hidden: list[int],
        activation: Activation = "relu",
        dropout: float = 0.0,
        init: Literal["default", "normal", "xavier", "kaiming"] = "default",
        init_std: float | None = None,
    ) -> None:
        super().__init__()
        if not all(1 <= width <= 1_000_000 for width in hidden):
            raise ValueError(f"hidden: every width must be 1 to 1,000,000, not {hidden}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout: must be at least 0 and less than 1, not {dropout}")
        if (init_std is not None) != (init == "normal") or (init_std is not None and init_std <= 0):
            wanted = "a number above 0" if init == "normal" else "null"
            raise ValueError(f"init_std: must be {wanted} with init: {init}, not {init_std}")
        layers: list[nn.Module] = [nn.Flatten()]
        for fan_in, fan_out in pairwise([math.prod(image_shape), *hidden]):
            layers += [nn.Linear(fan_in, fan_out), ACTIVATIONS[activation]()]
            if dropout:
                layers.append(nn.Dropout(dropout))
        layers.append(nn.Linear(hidden[-1] if hidden else math.prod(image_shape), classes))
        self.layers = nn.Sequential(*layers)
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                match init:
                    case "normal":
                        nn.init.normal_(layer.weight, std=init_std or 0.0)
                    case "xavier":
                        nn.init.xavier_uniform_(layer.weight)
                    case "kaiming":
                        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) float32 to logits, (B, classes)."""
        logits: Tensor = self.layers(images)
        return logits
