"""A network that answers, on ONNX Runtime: without PyTorch, which takes seconds to import."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from mnistflow import reader
from mnistflow.exporting import BATCH, FORMAT, KEY, digest
from mnistflow.reader import Reading

__all__ = ["Identity", "Predictor"]

MOST_PIXELS = 512  # of a side of an image, as for data sets
MOST_VALUES = 2**24  # that a network computes on its way from one image to its answer
_KINDS = ("FLOAT", "INT", "STRING", "TENSOR", "FLOATS", "INTS", "STRINGS")
PLAIN = {onnx.AttributeProto.AttributeType.Value(kind) for kind in _KINDS}  # attributes that hold no graph
CROPPED = ("mnist",)  # data sets whose images are cropped to the ink and centred by mass; others are whole pictures


@dataclass(frozen=True)
class Identity:
    """Which model it is that answers."""

    name: str  # model and recipe, or that of the file
    weights: str  # SHA-256 of the file model.safetensors
    dataset: str  # that it was trained on
    classes: tuple[str, ...]
    image_size: tuple[int, int]  # height, width: raw, before padding
    run: str | None  # in MLflow
    test_accuracy: float | None  # 0 to 1


class Predictor:
    """Answers for images by an ONNX graph that :func:`mnistflow.exporting.onnx_of` wrote.

    May be used by several threads at once; the same images in the same batch get the same bits.

    Args:
        path: of the graph.
        run: its MLflow run, if it has one.
        test_accuracy: 0 to 1; None: what the graph says.
        name: None: what the graph says, or the name of its file.
        threads: that one batch is computed with.

    Raises:
        ValueError: the file is missing or damaged, or was not written by this project.
    """

    def __init__(
        self,
        path: Path,
        *,
        run: str | None = None,
        test_accuracy: float | None = None,
        name: str | None = None,
        threads: int = 1,
    ) -> None:
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.inter_op_num_threads = 1
        self._options.log_severity_level = 3  # errors
        self._path = path
        self._graph = _read(path)
        _refuse_harmful(path, self._graph)
        self._session = self._opened(self._graph)
        said = _said(path, self._graph, self._session)
        try:
            self._maps = {str(value): str(layer) for layer, value in said["maps"]}  # type: ignore[attr-defined]
            height, width = map(int, said["image_size"])  # type: ignore[call-overload]
            if not (0 < height <= MOST_PIXELS and 0 < width <= MOST_PIXELS):
                raise ValueError(f"images of {height} x {width} pixels; at most {MOST_PIXELS} either way are possible")
            accuracy = said["test_accuracy"] if test_accuracy is None else test_accuracy
            self.identity = Identity(
                name=name or str(said["name"] or path.name),
                weights=str(said["weights"]),
                dataset=str(said["dataset"]),
                classes=tuple(said["classes"]),  # type: ignore[arg-type]
                image_size=(height, width),
                run=run,
                test_accuracy=None if accuracy is None else float(accuracy),  # type: ignore[arg-type]
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged: it does not say what it is: {error!r}") from error
        self._with_maps: onnxruntime.InferenceSession | None = None

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the network says of images, any number of them.

        Args:
            images: (N, H, W) of the size in ``identity``, 0 is background.

        Returns:
            (N, classes); rows sum to 1.

        Raises:
            ValueError: the images are of another type or shape; says which.
        """
        self._check(images)
        parts = [
            self._session.run(["probabilities"], {"images": np.ascontiguousarray(images[start : start + BATCH])})[0]
            for start in range(0, len(images), BATCH)
        ]
        return np.concatenate([np.empty((0, len(self.identity.classes)), np.float32), *parts])

    def feature_maps(self, image: NDArray[np.uint8]) -> list[tuple[str, NDArray[np.float32]]]:
        """What each convolution makes of one image, after its activation.

        Args:
            image: (H, W) of the size in ``identity``, 0 is background.

        Returns:
            The name of each convolution and (C, h, w); none for a network without.

        Raises:
            ValueError: the image is of another type or shape; says which.
        """
        batch = np.asarray(image)[None]
        self._check(batch)
        if not self._maps:
            return []
        if self._with_maps is None:
            self._with_maps = self._opened(_with_outputs(self._graph, list(self._maps)))
        outputs = self._with_maps.run(list(self._maps), {"images": np.ascontiguousarray(batch)})
        return [(layer, maps[0]) for layer, maps in zip(self._maps.values(), outputs, strict=True)]

    def read(self, grey: NDArray[np.uint8], several: bool = True) -> Reading:
        """Find in a picture what this network reads.

        Args:
            grey: (H, W) of any size.
            several: there may be several digits side by side. Networks that were trained on whole pictures, of clothes
                say, see each picture as one.
        """
        height, width = self.identity.image_size
        if height != width:
            raise ValueError(f"{self.identity.name} takes images of {height} x {width} pixels; pictures become squares")
        if self.identity.dataset in CROPPED:
            return reader.read(grey, size=height, several=several)
        digit = reader.resized(grey, size=height)
        return Reading((digit,), (("grey", grey), ("resized", digit.image)))

    def _check(self, images: NDArray[np.uint8]) -> None:
        height, width = self.identity.image_size
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[1:] != (height, width):
            got = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
            raise ValueError(
                f"{self.identity.name} takes images as uint8 (N, {height}, {width}), 0 to 255 with 0 as background, "
                f"not {got}"
            )

    def _opened(self, graph: bytes) -> onnxruntime.InferenceSession:
        try:
            return onnxruntime.InferenceSession(graph, self._options, providers=["CPUExecutionProvider"])
        except Exception as error:
            said = " ".join(str(error).split())
            raise ValueError(f"{self._path} is damaged, or no ONNX graph: {said[:200]}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}; `mnistflow export` makes one") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _refuse_harmful(path: Path, graph: bytes) -> None:
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
            raise ValueError(f"{path} takes weights from other files, which no graph of this project does; not opened")
        attributes = [attribute for node in inner.node for attribute in node.attribute]
        if model.functions or inner.sparse_initializer or any(each.type not in PLAIN for each in attributes):
            raise ValueError(f"{path} holds loops, functions or sparse weights, which no graph of this project does")
        del inner.value_info[:]
        for value in inner.input:
            value.type.tensor_type.shape.dim[0].dim_value = 1
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    except ValueError:
        raise
    except Exception as error:  # protobuf's and ONNX's own kinds
        raise ValueError(f"{path} is damaged, or no ONNX graph: {' '.join(str(error).split())[:200]}") from error
    known = {value.name: value.type.tensor_type for value in (*inferred.value_info, *inferred.output)}
    values = 0
    for node in inferred.node:
        for name in filter(None, node.output):
            has_shape = name in known and known[name].HasField("shape")
            if not (has_shape and all(side.HasField("dim_value") for side in known[name].shape.dim)):
                raise ValueError(f"{path} has a value whose size is not known beforehand ({node.op_type}); not opened")
            values += math.prod(side.dim_value for side in known[name].shape.dim)
    if values > MOST_VALUES:
        raise ValueError(f"{path} computes {values:,} values for an image; at most {MOST_VALUES:,} are possible")


def _said(path: Path, graph: bytes, session: onnxruntime.InferenceSession) -> Mapping[str, object]:
    """What a graph says of itself, checked against its digest."""
    text = session.get_modelmeta().custom_metadata_map.get(KEY)
    if text is None:
        raise ValueError(f"{path} was not written by mnistflow: it does not say what it is; `mnistflow export` does")
    try:
        said = json.loads(text)
        version, expected = said.get("format"), said.pop("sha256", None)
        found = digest(graph[: said["bytes"]], said) if version == FORMAT else None
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: it does not say what it is: {error!r}") from error
    if version != FORMAT:
        raise ValueError(
            f"{path} was written by another version of mnistflow: its format is {version!r}, not {FORMAT}; "
            "`mnistflow export` makes it anew"
        )
    if expected != found:
        raise ValueError(f"{path} is damaged: the SHA-256 of its content is {found}, expected {expected}")
    assert isinstance(said, dict)
    return said


def _with_outputs(graph: bytes, values: list[str]) -> bytes:
    """A graph that gives values from inside it as well."""
    model = onnx.load_model_from_string(graph)
    known = {info.name: info for info in model.graph.value_info}
    model.graph.output.extend(known[value] for value in values)
    extended: bytes = model.SerializeToString()
    return extended
