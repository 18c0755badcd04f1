"""MLflow's model of a result: an ONNX graph that includes the preprocessing, and the code that loads it."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, TYPE_CHECKING

from mnistflow.core.files import sha256
from mnistflow.export import formats
from mnistflow.recognition.onnx_graph import cached_graph_path
from mnistflow.tracking import served_network, tags

if TYPE_CHECKING:  # mlflow takes seconds to import
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["Export", "log_model"]

EXPORT_SECONDS = 600  # after which an export counts as hanging
PACKAGES = ("mlflow", "numpy", "onnxruntime")  # that the model needs where it is loaded


class Export:
    """The ONNX graph of weights, made in a process of its own while this one goes on; what goes wrong ends no stage.

    A process that is forked has everything imported already and costs milliseconds; it computes with one thread, as the
    children of PyTorch's DataLoader do. Where CUDA is in use, or elsewhere than on Linux, it is a fresh one, which
    imports again. Nothing is made where the graph of these weights is kept already, from a run before.

    Args:
        weights: what :func:`mnistflow.models.save` wrote.
    """

    def __init__(self, weights: Path) -> None:
        self._weights = weights
        self._graph = cached_graph_path(sha256(weights))
        self._folder = tempfile.TemporaryDirectory(prefix="mnistflow-", ignore_cleanup_errors=True)
        self._process: multiprocessing.process.BaseProcess | None = None
        if not self._graph.is_file():
            self._start()

    def _start(self) -> None:
        torch = sys.modules.get("torch")
        forks = sys.platform == "linux" and not (torch is not None and torch.cuda.is_initialized())
        context = multiprocessing.get_context("fork") if forks else multiprocessing.get_context("spawn")
        self._answer, sender = context.Pipe(duplex=False)
        self._messages = _messages()
        inherited = self._messages.fileno() if forks else -1
        temporary = Path(self._folder.name) / self._graph.name
        self._process = context.Process(target=_export, args=(self._weights, self._graph, temporary, sender, inherited))
        self._process.start()
        sender.close()

    def wait(self) -> Path:
        """The file of the graph, once it is there; it may be gone after :meth:`close`.

        Raises:
            OSError: it could not be made; says why.
            ValueError: the network cannot be exported: one of one's own, say, with an operation that ONNX lacks.
        """
        if self._process is None:
            return self._graph
        try:
            answer = self._answer.recv() if self._answer.poll(EXPORT_SECONDS) else None
            reason = f"it took longer than {EXPORT_SECONDS} seconds"
        except EOFError:  # it ended without an answer
            self._process.join()
            answer, reason = None, f"its process ended with status {self._process.exitcode}"
            reason += f"; is {tempfile.gettempdir()} full?"
        if answer is None:
            raise OSError(f"the model could not be exported: {reason}")
        self._process.join()
        self._messages.seek(0)
        if printed := self._messages.read().decode(errors="replace").strip():
            print(printed, file=sys.stderr, flush=True)
        if isinstance(answer, Exception):
            raise answer
        return Path(answer)

    def close(self) -> None:
        """End the process, if it is still at work."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._answer.close()
            self._messages.close()
        self._folder.cleanup()

    def __enter__(self) -> Export:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _messages() -> IO[bytes]:
    """A file in memory for what the process prints; a disk may be full."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("messages", 0), "w+b")
    return tempfile.TemporaryFile()


def _export(weights: Path, graph: Path, temporary: Path, sender: Connection, messages: int) -> None:
    """Export in this process; send the path of the graph, or an error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the parent ends this one
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if messages >= 0:
        os.dup2(messages, 1)
        os.dup2(messages, 2)
    try:
        import torch

        torch.set_num_threads(1)
        try:
            formats.onnx_of(weights, graph)
        except OSError:  # nothing can be kept there
            formats.onnx_of(weights, temporary)
            graph = temporary
        sender.send(str(graph))
    except ValueError as error:
        sender.send(error)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent reports it
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        sender.send(OSError(f"the model could not be exported: {type(error).__name__}: {reason}"))
    finally:
        sender.close()
        sys.stdout.flush()
        sys.stderr.flush()


def log_model(client: MlflowClient, run: Run, graph: Path) -> Run:
    """Log the network of a run as MLflow's model, and its graph as an artifact; one that a killed process has begun is
    completed.

    Args:
        client: of the store.
        run: that has no model yet.
        graph: what :class:`Export` made of its weights.

    Returns:
        The run, with the tags that name its model.
    """
    run_id = run.info.run_id
    with tempfile.TemporaryDirectory(prefix="mnistflow-") as name:
        folder, named = Path(name, "model"), Path(shutil.copy(graph, Path(name, "model.onnx")))
        _save(named, folder)
        client.log_artifact(run_id, str(named), "onnx")
        uri = _upload(client, run, folder)
        client.set_tag(run_id, tags.MODEL_SHA256, sha256(named))
    client.set_tag(run_id, tags.MODEL, uri)  # last: then the model is whole
    return client.get_run(run_id)


def _save(graph: Path, folder: Path) -> None:
    """Write MLflow's model of a graph, which must be named model.onnx, into a folder that does not exist."""
    import warnings

    import mlflow
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    from mnistflow.recognition.predictor import Predictor

    identity = Predictor(graph).identity
    height, width = identity.image_size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.pyfunc.save_model(
            str(folder),
            loader_module=Path(served_network.__file__).stem,
            data_path=str(graph),
            code_paths=[served_network.__file__],
            signature=ModelSignature(
                inputs=Schema([TensorSpec(np.dtype("uint8"), (-1, height, width))]),
                outputs=Schema([TensorSpec(np.dtype("float32"), (-1, len(identity.classes)))]),
            ),
            input_example=np.zeros((2, height, width), dtype=np.uint8),
            pip_requirements=[f"{package}=={version(package)}" for package in PACKAGES],
            metadata={
                "classes": list(identity.classes),
                "dataset": identity.dataset,
                "weights": identity.weights,
                "threshold": identity.threshold,
            },
        )


def _upload(client: MlflowClient, run: Run, folder: Path) -> str:
    """Make a logged model of a folder; returns its URI."""
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    run_id, experiment = run.info.run_id, run.info.experiment_id
    begun = client.search_logged_models([experiment], f"source_run_id = '{run_id}'")
    logged = next(iter(begun), None) or client.create_logged_model(
        experiment, name="model", source_run_id=run_id, params=run.data.params
    )
    outputs = run.outputs.model_outputs if run.outputs is not None else []
    if logged.model_id not in [output.model_id for output in outputs]:
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    description = Model.load(str(folder))
    description.run_id, description.model_uuid, description.model_id = run_id, logged.model_id, logged.model_id
    description.artifact_path = logged.artifact_location
    description.save(str(folder / "MLmodel"))
    client.log_model_artifacts(logged.model_id, str(folder))
    client.finalize_logged_model(logged.model_id, "READY")
    return str(logged.model_uri)
