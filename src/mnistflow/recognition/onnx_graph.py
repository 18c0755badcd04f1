"""ONNX graphs of this project: their metadata, and checks that a file is safe to open."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path

import onnx
import onnxruntime

from mnistflow.core.files import project_root

__all__ = ["BATCH", "FORMAT", "KEY", "cached_graph_path", "description", "digest", "read_graph", "refuse_harmful"]


FORMAT = 1  # of what an ONNX file says of itself


KEY = "mnistflow"  # under which it says it


BATCH = 1000  # images at once


def cached_graph_path(weights: str) -> Path:
    """Where the ONNX graph of weights is kept between runs.

    Args:
        weights: SHA-256 of their file.
    """
    return project_root() / ".mnistflow" / "onnx" / f"{weights}.onnx"


def digest(body: bytes, about: Mapping[str, object]) -> str:
    """SHA-256 of a graph and of what it says of itself."""
    seen = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    seen.update(body)
    return seen.hexdigest()


MAX_VALUES = 2**24  # that a network computes on its way from one image to its answer


_KINDS = ("FLOAT", "INT", "STRING", "TENSOR", "FLOATS", "INTS", "STRINGS")


PLAIN = {onnx.AttributeProto.AttributeType.Value(kind) for kind in _KINDS}  # attributes that hold no graph


def read_graph(path: Path) -> bytes:
    """The bytes of a graph file; raises ValueError if it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}; `mnistflow export` makes one") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def refuse_harmful(path: Path, graph: bytes) -> None:
    """Refuse a graph that takes weights from other files, or could take any amount of memory or time.

    ONNX Runtime computes what is constant when it opens a graph, so this comes before. The size of every value is
    inferred anew, for one image, by the operators' own rules (https://onnx.ai/onnx/repo-docs/ShapeInference.html); what
    the file says of sizes counts for nothing.

    Raises:
        ValueError: it is one, or no graph at all.
    """
    try:
        model = onnx.load_model_from_string(graph)
        inner = model.graph
        if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in inner.initializer):
            raise ValueError(f"{path} loads weights from other files, which no graph of this project does; refused")
        attributes = [attribute for node in inner.node for attribute in node.attribute]
        if model.functions or inner.sparse_initializer or any(attribute.type not in PLAIN for attribute in attributes):
            raise ValueError(f"{path} holds loops, functions or sparse weights, which no graph of this project does")
        del inner.value_info[:]
        for value in inner.input:
            value.type.tensor_type.shape.dim[0].dim_value = 1
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    except ValueError:
        raise
    except Exception as error:  # protobuf's and ONNX's own kinds
        raise ValueError(f"{path} is damaged, or not an ONNX graph: {' '.join(str(error).split())[:200]}") from error
    known = {value.name: value.type.tensor_type for value in (*inferred.value_info, *inferred.output)}
    values = 0
    for node in inferred.node:
        for name in filter(None, node.output):
            has_shape = name in known and known[name].HasField("shape")
            if not (has_shape and all(side.HasField("dim_value") for side in known[name].shape.dim)):
                raise ValueError(f"{path} has a value of unknown size ({node.op_type}); refused")
            values += math.prod(side.dim_value for side in known[name].shape.dim)
    if values > MAX_VALUES:
        raise ValueError(f"{path} computes {values:,} values for an image; at most {MAX_VALUES:,} are allowed")


def description(path: Path, graph: bytes, session: onnxruntime.InferenceSession) -> Mapping[str, object]:
    """What a graph says of itself, checked against its digest."""
    text = session.get_modelmeta().custom_metadata_map.get(KEY)
    if text is None:
        raise ValueError(f"{path} was not written by mnistflow: it has no metadata; `mnistflow export` adds it")
    try:
        about = json.loads(text)
        version, expected = about.get("format"), about.pop("sha256", None)
        actual = digest(graph[: about["bytes"]], about) if version == FORMAT else None
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: it does not say what it is: {error!r}") from error
    if version != FORMAT:
        raise ValueError(
            f"{path} was written by another version of mnistflow: its format is {version!r}, not {FORMAT}; "
            "`mnistflow export` recreates it"
        )
    if expected != actual:
        raise ValueError(f"{path} is damaged: the SHA-256 of its content is {actual}, expected {expected}")
    assert isinstance(about, dict)
    return about
