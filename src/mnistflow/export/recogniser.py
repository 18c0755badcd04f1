"""The network with its preparation inside: what is served is what was trained."""

from __future__ import annotations

from torch import Tensor, nn

from mnistflow.models import ModelMetadata
from mnistflow.models.losses import probabilities

__all__ = ["Recogniser"]


class Recogniser(nn.Module):
    """Raw images in, probabilities out.

    Args:
        model: takes normalised images; in evaluation mode, on the CPU.
        metadata: of its weights.
    """

    def __init__(self, model: nn.Module, metadata: ModelMetadata) -> None:
        super().__init__()
        self.model = model.eval()
        self.inputs = metadata.inputs
        self.loss = metadata.loss
        self.temperature = metadata.temperature

    def forward(self, images: Tensor) -> Tensor:
        """(N, H, W) uint8, 0 is background, to (N, classes) float32 whose rows sum to 1."""
        return probabilities(self.model(self.inputs.normalise(images)), self.loss, self.temperature)
