"""The files of MLflow's model, made in a process of their own: what goes wrong there ends no stage."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

from mnistflow import exporting

__all__ = ["export"]

EXPORT_SECONDS = 600  # after which an export counts as hanging


def export(weights: Path, model: Path, graph: Path) -> str | None:
    """Write the network as MLflow's model, with its preparation inside, and as an ONNX graph.

    PyTorch's writer of archives throws in a destructor where the disk is full, which ends the process. A process that
    is forked has everything imported already and costs milliseconds; it computes with one thread, as the children of
    PyTorch's DataLoader do. Where CUDA is in use, or elsewhere than on Linux, it is a fresh one, which imports again.

    Args:
        weights: what :func:`mnistflow.models.save` wrote.
        model: the folder to write MLflow's model into; must not exist.
        graph: the file to write the graph to, unless it is there; beside the model where that cannot be written.

    Returns:
        Why there is no graph, if the network has none: one of one's own, say, with an operation that ONNX lacks.

    Raises:
        OSError: it could not be written; says why.
    """
    torch = sys.modules.get("torch")
    forks = sys.platform == "linux" and not (torch is not None and torch.cuda.is_initialized())
    context = multiprocessing.get_context("fork") if forks else multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    with _messages() as messages:
        inherited = messages.fileno() if forks else -1
        process = context.Process(target=_export, args=(weights, model, graph, sender, inherited))
        process.start()
        sender.close()
        answer: tuple[str | None] | str | None = None
        with contextlib.closing(receiver):
            try:
                if receiver.poll(EXPORT_SECONDS):
                    answer = receiver.recv()
                else:
                    answer = f"it took longer than {EXPORT_SECONDS} seconds"
            except EOFError:  # it ended without an answer
                process.join()
                answer = f"its process ended with status {process.exitcode}; is {tempfile.gettempdir()} full?"
            finally:
                if not isinstance(answer, tuple):
                    process.kill()
                process.join()
        messages.seek(0)
        printed = messages.read().decode(errors="replace").strip()
    if isinstance(answer, str):
        raise OSError(f"the model could not be exported: {answer}")
    if printed:
        print(printed, file=sys.stderr, flush=True)
    return answer[0]


@contextlib.contextmanager
def _messages() -> Iterator[IO[bytes]]:
    """A file in memory for what the process prints; a disk may be full."""
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("messages", 0), "w+b") as file:
            yield file
    else:
        with tempfile.TemporaryFile() as file:
            yield file


def _export(weights: Path, model: Path, graph: Path, sender: Connection, messages: int) -> None:
    """Export in this process, and send a tuple of what there is to say, or the message of an error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the parent ends this one
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if messages >= 0:
        os.dup2(messages, 1)
        os.dup2(messages, 2)
    try:
        _save(weights, model)
        missing = None
        if not graph.is_file():
            try:
                try:
                    exporting.onnx_of(weights, graph)
                except OSError:  # nothing can be kept there
                    exporting.onnx_of(weights, model.parent / graph.name)
            except ValueError as error:
                missing = str(error)
        sender.send((missing,))
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent reports it
        sender.send(f"{type(error).__name__}: {(str(error).strip() or repr(error)).splitlines()[0]}")
    finally:
        sender.close()
        sys.stdout.flush()
        sys.stderr.flush()


def _save(weights: Path, folder: Path) -> None:
    import mlflow
    import numpy as np
    import torch
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    from mnistflow import models
    from mnistflow.serving import Recogniser

    torch.set_num_threads(1)
    model, card = models.load(weights)
    height, width = (side - 2 * card.inputs.padding for side in card.image_shape[1:])
    mlflow.pytorch.save_model(
        Recogniser(model, card),
        str(folder),
        signature=ModelSignature(
            inputs=Schema([TensorSpec(np.dtype("uint8"), (-1, height, width))]),
            outputs=Schema([TensorSpec(np.dtype("float32"), (-1, len(card.inputs.classes)))]),
        ),
        input_example=np.zeros((2, height, width), dtype=np.uint8),
        pip_requirements=[f"{name}=={version(name)}" for name in ("mlflow", "torch", "numpy")],
        metadata={"classes": list(card.inputs.classes), "inputs": asdict(card.inputs)},
    )
