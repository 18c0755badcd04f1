"""Checkpoints, from which an interrupted training resumes.

A checkpoint holds a :class:`~mnistflow.training.loop.State` and the random states of the process. It is kept in the
main repository, outside of DVC's outputs, under a digest of everything that determines the result; a training of
anything else does not find it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from mnistflow.core.files import digest, project_root, remove
from mnistflow.core.tensors import read_tensors, write_tensors
from mnistflow.training.history import Epoch
from mnistflow.training.loop import Diverged, State

__all__ = ["Checkpoint"]

LISTS = ("step_losses", "step_lrs")  # fields of an epoch that are kept as tensors


class Checkpoint:
    """The checkpoint of one training, whoever runs it.

    Args:
        fingerprint: digest of everything that determines the result.
        device: that it is trained on.
        every: seconds after which :meth:`is_due`.
    """

    def __init__(self, fingerprint: str, device: torch.device, every: float) -> None:
        # What rounds differently and is in no params file: weights half from one kind of processor and half from
        # another would be those of neither.
        self.key = digest({"training": fingerprint, "processor": torch.backends.cpu.get_cpu_capability()})
        self.path = project_root() / ".mnistflow" / "checkpoints" / f"{self.key[:16]}.safetensors"
        self.device = device
        self.every = every
        self._saved = time.monotonic()
        self._failed = False

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others from running the same training; wait for one that does.

        Where nothing can be written, training runs all the same, without checkpoints and without the lock.
        """
        lock = FileLock(self.path.with_suffix(".lock"))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            print("train: the same training is running in another process; waiting for it to finish", flush=True)
            lock.acquire()
        except OSError as error:
            self._warn(error)
        self._saved = time.monotonic()
        try:
            yield
        except Diverged:
            self.remove()  # from there it would come to the same again
            raise
        finally:
            lock.release()

    def is_due(self) -> bool:
        """Whether the last one is so old that within an epoch there should be a new one."""
        return time.monotonic() - self._saved >= self.every

    def save(self, state: State) -> None:
        """Write the state, whole or not at all. That it cannot be written is a warning: training continues without."""
        self._saved = time.monotonic()
        try:
            write_tensors(self.path, _tensors(state, self.device), {"key": self.key, **_metadata(state)})
        except OSError as error:
            self._warn(error)

    def _warn(self, error: OSError) -> None:
        if not self._failed:
            print(f"train: warning: no checkpoint saved: {error}; training continues without one", flush=True)
        self._failed = True

    def restore(self, state: State) -> bool:
        """Bring a fresh state to where the checkpoint was written, and the random states of this process.

        One that is damaged, or of another training, is set aside with a warning; one that may not be read stays.

        Returns:
            Whether there was one that could be used.
        """
        if not self.path.is_file():
            return False
        try:
            self.path.open("rb").close()
        except OSError as error:
            print(f"train: warning: the checkpoint is not used: {error}", flush=True)
            return False
        try:
            tensors, metadata = read_tensors(self.path)
            if metadata.get("key") != self.key:
                raise ValueError(f"{self.path} belongs to another training")
            _restore(state, tensors, metadata, self.device)
        except ValueError as error:
            aside = self.path.with_suffix(".damaged")
            with contextlib.suppress(OSError):  # where nothing can be written, it stays
                self.path.replace(aside)
            print(f"train: warning: the checkpoint is not used: {error}; set aside as {aside}", flush=True)
            return False
        return True

    def remove(self) -> None:
        """Take the checkpoint away: the training has come to its end, or to nothing."""
        with contextlib.suppress(OSError):  # one that cannot be removed is found complete by the next training
            remove(self.path)
            self.path.with_suffix(".lock").unlink(missing_ok=True)


def _tensors(state: State, device: torch.device) -> dict[str, Tensor]:
    tensors = {f"model.{name}": tensor for name, tensor in state.model.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in state.best_weights.items()}
    for index, values in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items() if isinstance(value, Tensor)}
    tensors["random.generator"] = state.generator.get_state()
    tensors["random.cpu"] = torch.get_rng_state()
    if device.type == "cuda":
        tensors["random.device"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        tensors["random.device"] = torch.mps.get_rng_state()
    tensors["lrs"] = torch.tensor(state.lrs, dtype=torch.float64)
    if state.losses is not None:
        tensors["losses"] = state.losses
    if state.order is not None:
        tensors["order"] = state.order
    for name in LISTS:  # (epochs, steps); a float64 keeps what was float32
        tensors[name] = torch.tensor([getattr(epoch, name) for epoch in state.epochs], dtype=torch.float64)
    return tensors


def _metadata(state: State) -> dict[str, object]:
    epochs = [{name: value for name, value in vars(epoch).items() if name not in LISTS} for epoch in state.epochs]
    return {
        "epochs": epochs,
        "seconds": time.perf_counter() - state.started if state.losses is not None else 0.0,
        "optimizer": state.optimizer.state_dict()["param_groups"],
        "schedule": None if state.schedule is None else state.schedule.state_dict(),
    }


def _restore(state: State, tensors: Mapping[str, Tensor], metadata: Mapping[str, object], device: torch.device) -> None:
    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

    state.model.load_state_dict(part("model."))
    state.best_weights = {name: tensor.to(device) for name, tensor in part("best.").items()}
    values: dict[int, dict[str, Tensor]] = {}
    for name, tensor in part("optimizer.").items():
        index, _, key = name.partition(".")
        values.setdefault(int(index), {})[key] = tensor
    state.optimizer.load_state_dict({"state": values, "param_groups": metadata["optimizer"]})
    for parameter, kept in state.optimizer.state.items():
        for name, value in kept.items():
            if value.shape == parameter.shape:  # laid out alike: the fused optimizers go through both as they lie
                kept[name] = torch.empty_like(parameter).copy_(value)
    if state.schedule is not None:
        state.schedule.load_state_dict(cast("dict[str, Any]", metadata["schedule"]))

    rows = cast("list[dict[str, Any]]", metadata["epochs"])
    lists = {name: tensors[name].tolist() for name in LISTS}
    # In place: whoever has begun to read the state's epochs goes on reading them.
    state.epochs[:] = [Epoch(**row, **{name: lists[name][index] for name in LISTS}) for index, row in enumerate(rows)]
    state.order = tensors.get("order")
    state.losses = tensors["losses"].to(device) if "losses" in tensors else None
    state.lrs = tensors["lrs"].tolist()
    state.started = time.perf_counter() - float(str(metadata["seconds"]))
    # Last: nothing above may draw from them.
    state.generator.set_state(tensors["random.generator"])
    torch.set_rng_state(tensors["random.cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(tensors["random.device"], device)
    elif device.type == "mps":
        torch.mps.set_rng_state(tensors["random.device"])
