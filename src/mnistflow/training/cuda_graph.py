"""A step of training on a GPU as one CUDA graph: one launch in the place of dozens.

A GPU computes a small batch faster than a program can launch its kernels one by one. A captured graph is launched
as a whole. For the method and its constraints, see "CUDA Graphs" under "CUDA semantics" in PyTorch's
documentation.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.optim import Optimizer

__all__ = ["Captured", "Stepping"]

Stepping = Callable[[Tensor, Tensor], Tensor]
"""Images (B, C, H, W) and labels (B,) to the loss, a scalar; the weights have taken a step."""

WARMUP_STEPS = 3  # steps that are computed as they are first: in them libraries set up what a recording must not hold


class Captured:
    """A step of training that is recorded, and replayed from then on.

    The numbers are those of the step itself. A batch of another size than the recorded one (the last of an epoch, say)
    is computed as it is. A recording works on the same memory each time: the loss that it gives is overwritten by the
    next step.

    Args:
        step: forward, backward and update, without anything that waits for the GPU.
        optimizer: that takes the step. Its learning rates are numbers between steps and tensors during a step, because
            a captured graph would keep a number forever.
        device: the GPU.
        record: False never records, and gives the same numbers.
    """

    def __init__(self, step: Stepping, optimizer: Optimizer, device: torch.device, *, record: bool = True) -> None:
        self._step = step
        self._groups = optimizer.param_groups
        self._rates = [torch.full((), group["lr"], dtype=torch.float32, device=device) for group in self._groups]
        self._numbers = [group["lr"] for group in self._groups]  # that the tensors hold
        self._stream = torch.cuda.Stream(device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._images: Tensor  # of the recording, as its labels and loss
        self._labels: Tensor
        self._loss: Tensor
        self._seen: torch.Size | None = None  # the shape of the last images
        self._times = 0  # in a row
        self._may_capture = record

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """Take a step; for the arguments see :data:`Stepping`."""
        self._update_rates()
        if self._graph is None and self._may_capture:
            self._times = self._times + 1 if images.shape == self._seen else 1
            self._seen = images.shape
            if self._times > WARMUP_STEPS:
                self._record(images, labels)
        if self._graph is None or images.shape != self._images.shape:
            return self._run_eagerly(images, labels)
        self._images.copy_(images)
        self._labels.copy_(labels)
        self._graph.replay()
        return self._loss

    def _update_rates(self) -> None:
        """Bring learning rates that have changed to the GPU."""
        for index, group in enumerate(self._groups):
            if group["lr"] != self._numbers[index]:
                self._numbers[index] = group["lr"]
                self._rates[index].fill_(group["lr"])

    @contextlib.contextmanager
    def _with_rates(self, **options: bool) -> Iterator[None]:
        """Give the optimizer its learning rates as tensors, and those of some options that it has."""
        before = [dict(group) for group in self._groups]
        for rate, group in zip(self._rates, self._groups, strict=True):
            group.update({"lr": rate, **{name: value for name, value in options.items() if name in group}})
        try:
            yield
        finally:
            for group, old in zip(self._groups, before, strict=True):
                group.update(old)

    def _run_eagerly(self, images: Tensor, labels: Tensor) -> Tensor:
        """A step as it is; beside the stream of everything else, as a recording wants what comes before it."""
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream), self._with_rates():
            loss = self._step(images, labels)
        self._stream.synchronize()
        return loss

    def _record(self, images: Tensor, labels: Tensor) -> None:
        """Record a step; nothing is computed. Where that cannot be done, say so and do without."""
        self._images, self._labels = torch.empty_like(images), torch.empty_like(labels)
        graph = torch.cuda.CUDAGraph()
        random = torch.cuda.default_generators[images.device.index]
        before = random.clone_state()
        try:
            with (
                torch.cuda.stream(self._stream),  # brings back the stream before also where the recording's end fails
                self._with_rates(capturable=True),
                torch.cuda.graph(graph, stream=self._stream),
            ):
                self._loss = self._step(self._images, self._labels)
        except RuntimeError as error:
            random.graphsafe_set_state(before)
            self._may_capture = False
            reason = str(error).strip().partition("\n")[0]
            print(f"train: warning: no CUDA graph was captured, launching kernels one by one: {reason}", flush=True)
            return
        self._graph = graph
