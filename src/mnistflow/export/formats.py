"""Networks as files that other programs run: ONNX, PyTorch's own exported graph, and ONNX in 8-bit integers.

What is written takes raw images and gives probabilities, as :class:`mnistflow.export.recogniser.Recogniser` does, and
says of itself which weights it was made of. Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mnistflow.core.files import atomic_write, sha256
from mnistflow.recognition.onnx_graph import BATCH, FORMAT, KEY, digest

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray
    from torch import Tensor

    from mnistflow.export.recogniser import Recogniser
    from mnistflow.models import ModelMetadata

    Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]  # (N, H, W), 0 is background, to (N, classes)

__all__ = [
    "OPSET",
    "Parity",
    "Source",
    "eager",
    "int8_of",
    "note_accuracy",
    "onnx_of",
    "parity",
    "pt2_of",
]

OPSET = 20


@dataclass(frozen=True)
class Source:
    """Weights, and what is known of them."""

    weights: Path
    name: str  # model and recipe, or that of the file
    test_accuracy: float | None  # 0 to 1


# ---------------------------------------------------------------------------------------------------------------------
# Writing


def onnx_of(weights: Path, target: Path, *, name: str | None = None, test_accuracy: float | None = None) -> None:
    """Write weights as an ONNX graph; the same weights, name and accuracy give the same bytes.

    The graph takes ``images``, (N, H, W) uint8 with 0 as background, and gives ``probabilities``, (N, classes) float32,
    for any N. Under the key ``mnistflow`` of its metadata is JSON: the SHA-256 of the weights' file, the data set, its
    classes, height and width of an image, the architecture, the probability from which an answer is sure, and which
    values inside are feature maps.

    Args:
        weights: what :func:`mnistflow.models.save` wrote.
        target: to write.
        name: to call the model by; None: it is not known.
        test_accuracy: 0 to 1; None: it is not known.

    Raises:
        ValueError: the weights are damaged, or the network cannot be exported.
    """
    import onnx
    import torch

    network, metadata, example = _network(weights)
    batch = torch.export.Dim("N")
    with _refused(weights, "ONNX"):
        program = torch.onnx.export(
            network,
            (example,),
            input_names=["images"],
            output_names=["probabilities"],
            dynamic_shapes=({0: batch},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        graph = program.model_proto
        _strip(graph)
        onnx.checker.check_model(graph, full_check=True)
    about = {
        "weights": sha256(weights),
        "name": name,
        "test_accuracy": test_accuracy,
        "dataset": metadata.inputs.dataset,
        "classes": list(metadata.inputs.classes),
        "image_size": list(example.shape[1:]),
        "architecture": metadata.architecture,
        "threshold": metadata.threshold,
        "precision": "fp32",
        "maps": _maps(graph),
    }
    _write(graph, about, target)


def pt2_of(weights: Path, target: Path) -> Predict:
    """Write weights as a graph of torch.export, which needs PyTorch but not this project.

    Returns:
        What the graph answers: that in memory, for the format may hold a pickle, and none is loaded here.

    Raises:
        ValueError: the weights are damaged, or the network cannot be exported.
    """
    import torch

    network, metadata, example = _network(weights)
    about = {"weights": sha256(weights), "dataset": metadata.inputs.dataset, "classes": list(metadata.inputs.classes)}
    with _refused(weights, "torch.export"):
        program = torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("N")},))
        for node in program.graph.nodes:  # without the lines of code that it comes from, and their places here
            node.meta.pop("stack_trace", None)
    with atomic_write(target) as temporary, temporary.open("wb") as file:
        torch.export.save(program, file, extra_files={f"{KEY}.json": json.dumps(about, sort_keys=True)})
    return _predict(program.module())


def int8_of(graph: Path, target: Path, images: NDArray[np.uint8]) -> None:
    """Quantise an ONNX graph: its convolutions and dense layers then multiply 8-bit integers.

    A quarter of the size; what it costs in accuracy is for the caller to measure.

    Args:
        graph: what :func:`onnx_of` wrote.
        target: to write.
        images: (N, H, W), 0 is background, that show how large values get; not those that it will be measured on.

    Raises:
        ValueError: the network cannot be brought into this form.
    """
    import onnx
    from onnxruntime import quantization

    batches = iter([{"images": images[start : start + BATCH]} for start in range(0, len(images), BATCH)])

    class Images(quantization.CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            return next(batches, None)

    model = onnx.load(graph)
    about = json.loads(model.metadata_props[0].value)
    with _refused(graph, "int8"), tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "int8.onnx"
        quantization.quantize_static(
            model,
            str(place),
            Images(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Gemm", "MatMul"],
            per_channel=True,
        )
        quantised = onnx.load(place)
    _strip(quantised)
    del about["sha256"]
    about |= {"precision": "int8", "maps": _maps(quantised), "test_accuracy": None}  # that was of the other graph
    _write(quantised, about, target)


def note_accuracy(graph: Path, test_accuracy: float) -> None:
    """Write what was measured into a graph."""
    import onnx

    model = onnx.load(graph)
    about = json.loads(model.metadata_props[0].value)
    del model.metadata_props[:], about["sha256"]
    _write(model, about | {"test_accuracy": test_accuracy}, graph)


def _network(weights: Path) -> tuple[Recogniser, ModelMetadata, Tensor]:
    """The network with its preparation, what it says of itself, and two empty images."""
    import torch

    from mnistflow import models
    from mnistflow.export.recogniser import Recogniser

    model, metadata = models.load(weights)
    height, width = (side - 2 * metadata.inputs.padding for side in metadata.image_shape[1:])
    # One image alone would be taken for the only number there is.
    return Recogniser(model, metadata).eval(), metadata, torch.zeros(2, height, width, dtype=torch.uint8)


@contextlib.contextmanager
def _refused(weights: Path, form: str) -> Iterator[None]:
    """Without what exporters print; what they raise, of many kinds and many lines, becomes one line."""
    loud = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir", "root")]
    levels = [logger.level for logger in loud]
    for logger in loud:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        reason = next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)
        raise ValueError(f"the network of {weights} cannot be exported as {form}: {reason}") from error
    finally:
        for logger, level in zip(loud, levels, strict=True):
            logger.setLevel(level)


def _strip(graph: onnx.ModelProto) -> None:
    """Take out what the exporter tells of the program that it exported: stack traces, places on this machine."""
    inner = graph.graph
    del graph.metadata_props[:], inner.metadata_props[:]
    graph.doc_string = inner.doc_string = ""
    for part in (*inner.node, *inner.value_info, *inner.input, *inner.output, *inner.initializer):
        del part.metadata_props[:]
        part.doc_string = ""


def _maps(graph: onnx.ModelProto) -> list[list[str]]:
    """The convolutions, as the weights name them, and the value that each leaves after its activation.

    Normalisation and pooling may come between; of several activations in a row the first one counts.
    """
    between = {"BatchNormalization", "MaxPool", "AveragePool", "Slice", "QuantizeLinear", "DequantizeLinear"}
    activations = {"Relu", "Sigmoid", "Tanh", "LeakyRelu", "PRelu", "Gelu"}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.graph.node:
        for value in node.input:
            users.setdefault(value, []).append(node)
    maps = []
    for node in graph.graph.node:
        if node.op_type != "Conv":
            continue
        value = plain = node.output[0]
        while len(users.get(value, [])) == 1:
            (following,) = users[value]
            if following.op_type not in between | activations:
                break
            value = following.output[0]
            if following.op_type in activations:
                plain = value
                break
        layer = node.input[1].removesuffix("_DequantizeLinear_Output").removeprefix("model.").removesuffix(".weight")
        maps.append([layer, plain])
    return maps


def _write(graph: onnx.ModelProto, about: Mapping[str, object], target: Path) -> None:
    """Write a graph, and behind it what it says of itself, with the SHA-256 of both."""
    body = graph.SerializeToString(deterministic=True)
    about = {**about, "format": FORMAT, "bytes": len(body)}
    text = json.dumps({**about, "sha256": digest(body, about)}, sort_keys=True)
    # As protocol buffers are read, the fields of a second message are added to those of the first.
    behind = type(graph)()
    behind.metadata_props.add(key=KEY, value=text)
    with atomic_write(target) as temporary:
        temporary.write_bytes(body + behind.SerializeToString(deterministic=True))


# ---------------------------------------------------------------------------------------------------------------------
# Whether all of them say the same


@dataclass(frozen=True)
class Parity:
    """How two forms of one network answer the same images."""

    images: int
    agreeing: int  # images that both give the same label
    largest_difference: float  # of the probability of any class of any image


def parity(one: NDArray[np.float32], other: NDArray[np.float32]) -> Parity:
    """Compare the answers of two forms of one network, (N, classes) each."""
    import numpy as np

    agreeing = int((one.argmax(axis=1) == other.argmax(axis=1)).sum())
    return Parity(len(one), agreeing, float(np.abs(one - other).max(initial=0)))


def eager(weights: Path) -> Predict:
    """The network as PyTorch computes it, without any export.

    Raises:
        ValueError: the file is missing or damaged.
    """
    return _predict(_network(weights)[0])


def _predict(network: Callable[[Tensor], Tensor]) -> Predict:
    import torch

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            parts = [network(part) for part in torch.from_numpy(images).split(BATCH)]
            return torch.cat(parts).numpy()

    return predict
