"""A network that answers, on ONNX Runtime: without PyTorch, which takes seconds to import."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from mnistflow.recognition import reader
from mnistflow.recognition.onnx_graph import BATCH, description, read_graph, refuse_harmful
from mnistflow.recognition.reader import Candidate, Reading, View

__all__ = ["Identity", "Predictor"]

MAX_PIXELS = 512  # of a side of an image, as for data sets
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
    threshold: float | None  # the probability from which an answer is sure; None: that is not known


class Predictor:
    """Answers for images by an ONNX graph that :func:`mnistflow.export.formats.onnx_of` wrote.

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
        self._graph = read_graph(path)
        refuse_harmful(path, self._graph)
        self._session = self._opened(self._graph)
        about = description(path, self._graph, self._session)
        try:
            self._maps = {str(value): str(layer) for layer, value in about["maps"]}  # type: ignore[attr-defined]
            height, width = map(int, about["image_size"])  # type: ignore[call-overload]
            if not (0 < height <= MAX_PIXELS and 0 < width <= MAX_PIXELS):
                raise ValueError(f"images of {height} x {width} pixels; a side may have at most {MAX_PIXELS}")
            accuracy = about["test_accuracy"] if test_accuracy is None else test_accuracy
            threshold = about.get("threshold")  # graphs of earlier versions have none
            self.identity = Identity(
                name=name or str(about["name"] or path.name),
                weights=str(about["weights"]),
                dataset=str(about["dataset"]),
                classes=tuple(about["classes"]),  # type: ignore[arg-type]
                image_size=(height, width),
                run=run,
                test_accuracy=None if accuracy is None else float(accuracy),  # type: ignore[arg-type]
                threshold=None if threshold is None else float(threshold),  # type: ignore[arg-type]
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
        """Find in a picture what this network reads: of its :meth:`views`, that of which the network is surest."""
        return reader.likeliest(self.views(grey, several), self.probabilities)

    def views(self, grey: NDArray[np.uint8], several: bool = True) -> list[View]:
        """The ways to see a picture; see :func:`mnistflow.recognition.reader.views`.

        Args:
            grey: (H, W) of any size.
            several: there may be several digits side by side. Networks that were trained on whole pictures, of clothes
                say, see each picture as one.
        """
        height, width = self.identity.image_size
        if height != width:
            raise ValueError(f"{self.identity.name} takes images of {height} x {width} pixels; pictures become squares")
        if self.identity.dataset in CROPPED:
            return reader.views(grey, size=height, several=several)
        whole = Candidate(0, 1, reader.resized(grey, size=height), usual=True)
        return [View((("grey", grey),), ((whole,),))]

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
            reason = " ".join(str(error).split())
            raise ValueError(f"{self._path} is damaged, or not an ONNX graph: {reason[:200]}") from error


def _with_outputs(graph: bytes, values: list[str]) -> bytes:
    """A graph that gives values from inside it as well."""
    model = onnx.load_model_from_string(graph)
    known = {info.name: info for info in model.graph.value_info}
    model.graph.output.extend(known[value] for value in values)
    extended: bytes = model.SerializeToString()
    return extended
