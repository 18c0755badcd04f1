from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import ROOT
from numpy.typing import NDArray
from test_exporting import images, saved

from mnistflow.core.tensors import Inputs
from mnistflow.export import formats
from mnistflow.recognition.onnx_graph import KEY
from mnistflow.recognition.predictor import Predictor


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graph")
    weights = saved(folder / "model.safetensors", "lenet5", {})
    formats.onnx_of(weights, folder / "model.onnx", name="lenet5 · default", test_accuracy=0.5)
    return folder / "model.onnx"


def test_any_number_of_images_is_answered_the_same(graph: Path) -> None:
    predictor = Predictor(graph)
    raw = images(2001)
    together = predictor.probabilities(raw)
    assert together.shape == (2001, 3)
    np.testing.assert_allclose(together.sum(axis=1), 1, atol=1e-5)
    assert np.array_equal(together, predictor.probabilities(raw))
    np.testing.assert_allclose(predictor.probabilities(raw[1000:1001]), together[1000:1001], atol=1e-6)
    assert predictor.probabilities(raw[:0]).shape == (0, 3)
    turned = np.ascontiguousarray(raw[:5].transpose(0, 2, 1)).transpose(0, 2, 1)  # the same, laid out otherwise
    np.testing.assert_allclose(predictor.probabilities(turned), together[:5], atol=1e-6)
    np.testing.assert_allclose(Predictor(graph, threads=2).probabilities(raw), together, atol=1e-6)


def external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../../etc/passwd")


def foreign(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "org.example"
    model.opset_import.add(domain="org.example", version=1)


def added(model: onnx.ModelProto, operator: str, *inputs: NDArray[Any], **attributes: Any) -> None:
    """Put an operator behind the last one, whose output has the name that the last one's had."""
    names = []
    for number, values in enumerate(inputs):
        names.append(f"added{number}")
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, names[-1]))
    model.graph.node.append(onnx.helper.make_node(operator, names, ["unused"], **attributes))


def filled(model: onnx.ModelProto) -> None:
    added(model, "ConstantOfShape", np.array([200_000, 200_000]))


def stretched(model: onnx.ModelProto) -> None:
    added(model, "Expand", np.zeros((1, 1), np.float32), np.array([200_000, 200_000]))


def counted(model: onnx.ModelProto) -> None:
    added(model, "Range", np.array(0), np.array(10**11), np.array(1))


def padded(model: onnx.ModelProto) -> None:
    (first,) = [node for node in model.graph.node if node.op_type == "Conv"][:1]
    (pads,) = [attribute for attribute in first.attribute if attribute.name == "pads"]
    pads.ints[:] = [100_000] * 4
    del model.graph.value_info[:]


def unknown(model: onnx.ModelProto) -> None:
    added(model, "NonZero", np.ones((3, 3), np.float32))


def looped(model: onnx.ModelProto) -> None:
    body = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["more"], ["again"])],
        "body",
        [
            onnx.helper.make_tensor_value_info("number", onnx.TensorProto.INT64, []),
            onnx.helper.make_tensor_value_info("more", onnx.TensorProto.BOOL, []),
        ],
        [onnx.helper.make_tensor_value_info("again", onnx.TensorProto.BOOL, [])],
    )
    added(model, "Loop", np.array(2**62), np.array(True), body=body)


def sparse(model: onnx.ModelProto) -> None:
    values = onnx.numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    model.graph.sparse_initializer.append(
        onnx.helper.make_sparse_tensor(values, onnx.numpy_helper.from_array(np.zeros(1, np.int64)), [200_000, 200_000])
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (external, "loads weights from other files"),
        (foreign, r"a value of unknown size \(Unsqueeze\)"),
        (filled, r"computes 40,000,\d+,\d+ values for an image; at most"),
        (stretched, r"computes 40,000,\d+,\d+ values for an image; at most"),
        (counted, r"computes 100,000,\d+,\d+ values for an image; at most|a value of unknown size \(Range\)"),
        (padded, r"computes [\d,]+ values for an image; at most|is damaged, or not an ONNX graph"),
        (unknown, r"a value of unknown size \(NonZero\)"),
        (looped, "holds loops, functions or sparse weights"),
        (sparse, "holds loops, functions or sparse weights"),
    ],
)
def test_a_graph_that_could_do_harm_is_refused(
    graph: Path, tmp_path: Path, change: Callable[[onnx.ModelProto], None], message: str
) -> None:
    model = onnx.load_model(graph)
    change(model)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=message) as caught:
        Predictor(tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)


def test_a_graph_for_images_that_are_too_large_is_refused(graph: Path, tmp_path: Path) -> None:
    model = onnx.load_model(graph)
    (entry,) = [entry for entry in model.metadata_props if entry.key == KEY]
    metadata = json.loads(entry.value) | {"image_size": [100_000, 100_000]}
    del model.metadata_props[:]
    formats._write(
        model, {key: metadata[key] for key in metadata.keys() - {"bytes", "sha256", "format"}}, tmp_path / "model.onnx"
    )
    with pytest.raises(ValueError, match="images of 100000 x 100000 pixels; a side may have at most 512"):
        Predictor(tmp_path / "model.onnx")


def test_threads_that_ask_at_once_get_their_own_answers(graph: Path) -> None:
    predictor = Predictor(graph)
    raw = images(64)
    alone = [predictor.probabilities(raw[[number]]) for number in range(64)]
    maps = [predictor.feature_maps(image) for image in raw]
    fresh = Predictor(graph)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda number: fresh.probabilities(raw[[number]]), range(64)))
        again = list(threads.map(fresh.feature_maps, raw))
    assert all(np.array_equal(*pair) for pair in zip(alone, found, strict=True))
    for one, other in zip(maps, again, strict=True):
        assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (np.zeros((2, 28, 28), dtype=np.float32), r"not float32 \(2, 28, 28\)"),
        (np.zeros((28, 28), dtype=np.uint8), r"not uint8 \(28, 28\)"),
        (np.zeros((2, 28, 27), dtype=np.uint8), r"not uint8 \(2, 28, 27\)"),
        (np.zeros((2, 1, 28, 28), dtype=np.uint8), r"not uint8 \(2, 1, 28, 28\)"),
        ([[0]], "not list"),
    ],
)
def test_other_images_are_refused_in_one_line(graph: Path, wrong: Any, named: str) -> None:
    with pytest.raises(ValueError, match=r"lenet5 · default takes images as uint8 \(N, 28, 28\).*" + named):
        Predictor(graph).probabilities(wrong)


def test_feature_maps_are_those_of_each_convolution(graph: Path, tmp_path: Path) -> None:
    predictor = Predictor(graph)
    maps = predictor.feature_maps(images(1)[0])
    assert [(name, found.shape) for name, found in maps] == [
        ("features.0", (6, 14, 14)),
        ("features.3", (16, 5, 5)),
    ]
    assert all((found >= 0).all() and (found > 0).any() for _, found in maps)  # after ReLU
    with pytest.raises(ValueError, match="takes images as uint8"):
        predictor.feature_maps(images(1))
    weights = saved(tmp_path / "model.safetensors", "mlp", {"hidden": [8]})
    formats.onnx_of(weights, tmp_path / "model.onnx")
    assert Predictor(tmp_path / "model.onnx").feature_maps(images(1)[0]) == []


def test_foreign_or_damaged_graphs_are_refused_in_one_line(graph: Path, tmp_path: Path) -> None:
    data, path = graph.read_bytes(), tmp_path / "wrong.onnx"
    with pytest.raises(ValueError, match="there is no file"):
        Predictor(path)
    with pytest.raises(ValueError, match="cannot be read"):
        Predictor(tmp_path)
    foreign = onnx.load(graph)
    del foreign.metadata_props[:]
    cases = {
        b"": "is damaged, or not an ONNX graph",
        b"no graph at all": "is damaged, or not an ONNX graph",
        data[:1000]: "is damaged",
        foreign.SerializeToString(): "was not written by mnistflow",
        data.replace(b'"format": 1', b'"format": 7'): "another version of mnistflow: its format is 7, not 1",
        data.replace(b'"classes": ["zero"', b'"classes": ["nero"'): "is damaged: the SHA-256 of its content",
    }
    middle = len(data) // 2
    cases[data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]] = "is damaged"  # one bit, of a weight
    assert len(cases) == 7
    for content, message in cases.items():
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message) as caught:
            Predictor(path)
        assert "\n" not in str(caught.value)


def test_every_cut_and_flip_is_noticed(graph: Path, tmp_path: Path) -> None:
    data, path = graph.read_bytes(), tmp_path / "wrong.onnx"
    random = np.random.default_rng(0)
    for place in random.integers(0, len(data), 40):
        for content in (data[:place], data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]):
            path.write_bytes(content)
            with pytest.raises(ValueError, match="damaged|not written by"):
                Predictor(path)


def test_pictures_are_read_as_the_network_was_trained(tmp_path: Path) -> None:
    weights = saved(tmp_path / "model.safetensors", "mlp", {"hidden": [8]})
    formats.onnx_of(weights, tmp_path / "model.onnx")
    picture = np.full((100, 200), 255, dtype=np.uint8)
    picture[20:80, 30:50] = picture[20:80, 140:160] = 0
    whole = Predictor(tmp_path / "model.onnx").read(picture)  # of `digits`
    assert [digit.image.shape for digit in whole.digits] == [(28, 28)]
    assert [digit.box.width for digit in whole.digits] == [200]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("test_exporting.INPUTS", Inputs("mnist", ("a", "b", "c"), padding=2, mean=0.1, std=0.3))
        formats.onnx_of(saved(weights, "mlp", {"hidden": [8]}), tmp_path / "mnist.onnx")
    reads = Predictor(tmp_path / "mnist.onnx")
    assert [digit.box.left // 100 for digit in reads.read(picture).digits] == [0, 1]
    assert len(reads.read(picture, several=False).digits) == 1


def test_neither_pytorch_nor_mlflow_is_imported(graph: Path) -> None:
    program = f"""
import sys
sys.path.insert(0, {str(ROOT / "src")!r})
from pathlib import Path
import numpy as np
from mnistflow.recognition.predictor import Predictor
predictor = Predictor(Path(sys.argv[1]))
predictor.probabilities(np.zeros((3, 28, 28), dtype=np.uint8))
predictor.read(np.zeros((50, 50), dtype=np.uint8))
unwanted = ("torch", "mlflow", "matplotlib", "pydantic")
print([name for name in unwanted if name in sys.modules])
predictor.feature_maps(np.zeros((28, 28), dtype=np.uint8))
print([name for name in unwanted if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program, str(graph)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "[]"]
    assert done.stderr == ""
