from __future__ import annotations

import contextlib
import csv
import functools
import json
import os
import re
import shlex
import shutil
import signal
import sys
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired
from typing import Any

import numpy as np
import pytest
from conftest import Checkout
from PIL import Image

from mnistflow.core.files import read_json
from mnistflow.data import datasets
from mnistflow.recognition.decoding import decode
from mnistflow.recognition.predictor import Predictor
from mnistflow.recognition.reader import resized

COMMAND = (sys.executable, "-m", "mnistflow")


def test_help_names_every_command(clean: Checkout) -> None:
    output = clean.run(*COMMAND, "--help", PYTHONPATH="src")
    for command in ("show", "gate", "track", "ui", "predict", "export", "data"):
        assert f"\n    {command} " in output
    assert "mnistflow: error: the following arguments are required: command" in clean.run(
        *COMMAND, status=2, PYTHONPATH="src"
    )


@pytest.mark.parametrize("command", ["show", "gate", "predict", "study run", "data export"])
def test_a_command_explains_itself_without_docstrings(command: str, clean: Checkout) -> None:
    output = clean.run(*COMMAND, *command.split(), "--help", PYTHONPATH="src", PYTHONOPTIMIZE="2")
    assert f"usage: mnistflow {command}" in output


def test_names_are_printed_in_any_encoding_and_without_control_characters(
    finished: Checkout, pictures: Path, tmp_path: Path
) -> None:
    names = [b"\xe7\x8c\xab.png", b"\x1b[31mred.png", b"not-utf-8-\xff.png"]
    for name in names:
        shutil.copy(pictures / "digits" / "5.png", tmp_path / os.fsdecode(name))
    shown = functools.partial(
        finished.run, *COMMAND, PYTHONPATH="src", PYTHONIOENCODING="ascii", PYTHONOPTIMIZE="2", LC_ALL="C"
    )
    output = shown("predict", str(tmp_path))
    for name_shown in (r"\u732b.png", r"\x1b[31mred.png", r"not-utf-8-\udcff.png"):
        assert name_shown in output
    assert "\x1b" not in output
    lines = shown("predict", "--json", str(tmp_path)).splitlines()
    assert {os.fsencode(Path(json.loads(line)["file"]).name) for line in lines} == set(names)
    assert "lenet5 \\xb7 default on digits" in shown("show")


def test_broken_pipe_exits_quietly(clean: Checkout) -> None:
    environment = {**clean.environment, "PYTHONPATH": "src"}
    with Popen((*COMMAND, "study", "list"), cwd=clean.folder, env=environment, stdout=PIPE, stderr=PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_show_prints_the_result_and_what_to_try_next(finished: Checkout) -> None:
    output = finished.run(*COMMAND, "show", PYTHONPATH="src")
    figures = read_json(finished.folder / "metrics" / "evaluate.json")
    assert output.splitlines()[1] == "lenet5 · default on digits"
    assert f"{float(str(figures['accuracy'])):.2%} (" in output
    assert "61,706 parameters, trained on " in output
    assert "dvc exp run -S model=mlp" in output


def test_show_without_a_result_says_what_to_do(clean: Checkout, tmp_path: Path) -> None:
    output = clean.run(*COMMAND, "show", status=1, PYTHONPATH="src")
    assert output.startswith("mnistflow: there is no result in this folder yet")
    assert "dvc repro" in output
    source = str(clean.folder / "src")
    below = Checkout(clean.folder / "tests").run(*COMMAND, "show", status=1, PYTHONPATH=source)
    assert below.startswith("mnistflow: there is no result in this folder yet")
    outside = Checkout(tmp_path).run(*COMMAND, "show", status=1, PYTHONPATH=source)
    assert outside == f"mnistflow: there is no dvc.yaml in {tmp_path} or above it; run this in a clone of the project\n"


def test_gates_pass_or_fail_and_change_no_result(workspace: Checkout) -> None:
    assert workspace.mnistflow("gate") == "no gate is set; evaluate.gates in params.yaml lists all gates\n"
    figures: Any = read_json(workspace.folder / "metrics" / "evaluate.json")
    worst = min(figure["recall"] for figure in figures["classes"])
    workspace.replace("params.yaml", "min_accuracy:\n", f"min_accuracy: {figures['accuracy']}\n")
    workspace.replace("params.yaml", "max_loss:\n", "max_loss: 100\n")
    assert re.findall("Running stage '(.*)'", workspace.dvc("repro")) == ["check"]
    lines = workspace.mnistflow("gate").splitlines()
    assert [line.split()[0] for line in lines] == ["min_accuracy", "max_loss"]
    assert [line.rpartition(": ")[2].split()[0] for line in lines] == ["passed", "passed"]

    workspace.replace("params.yaml", "min_class_recall:\n", "min_class_recall: 1\n")
    failed = workspace.mnistflow("gate", status=1).splitlines()
    assert failed[:2] == lines
    assert failed[2:] == [
        f"min_class_recall     {worst:.6g}, required at least 1: FAILED by {1 - worst:.2g}",
        "mnistflow: 1 of 3 gates failed: min_class_recall",
    ]
    workspace.replace("params.yaml", "min_class_recall: 1\n", "min_class_recall: 100\n")
    assert "evaluate.gates.min_class_recall: expected a number from 0 to 1" in workspace.mnistflow("gate", status=1)


def test_make_repro_ends_as_the_gates_do(workspace: Checkout) -> None:
    binaries = workspace.folder / "venv" / "bin"
    binaries.mkdir(parents=True)
    for name in ("python", "dvc"):
        (binaries / name).write_text(f'#!/bin/sh\nexec "{Path(sys.prefix, "bin", name)}" "$@"\n', encoding="utf-8")
        (binaries / name).chmod(0o755)
    (workspace.folder / "venv" / ".mnistflow-ready").touch()  # so that nothing is installed
    make = ("make", "repro", f"VENV={workspace.folder / 'venv'}")
    assert "no gate is set" in workspace.run(*make)
    workspace.replace("params.yaml", "min_accuracy:\n", "min_accuracy: 1\n")
    assert "1 of 1 gates failed: min_accuracy" in workspace.run(*make, status=2)
    workspace.replace("params.yaml", "min_accuracy: 1\n", "min_accuracy: 0.01\n")
    assert "passed by" in workspace.run(*make)


def test_gates_without_a_result_say_what_to_do(clean: Checkout) -> None:
    output = clean.mnistflow("gate", status=1)
    assert output.startswith("mnistflow: there is no result in this folder yet")


def test_paths_are_relative_to_the_current_folder(finished: Checkout, tmp_path: Path) -> None:
    checkout = Checkout(finished.copy(tmp_path / "checkout").folder / "docs")
    source = str(checkout.folder.parent / "src")
    checkout.run(*COMMAND, "data", "export", "digits", PYTHONPATH=source)
    assert len(list((checkout.folder / "digits" / "test").glob("*/*.png"))) == 360


def test_track_refuses_a_result_that_is_not_that_of_the_params(recorded: Checkout) -> None:
    recorded.replace("params.yaml", "model: lenet5", "model: mlp")
    output = recorded.run(*COMMAND, "track", status=1, PYTHONPATH="src")
    assert output.startswith("mnistflow: the result in this folder does not match its params and code; run `dvc repro`")
    assert "params.yaml:" in output
    recorded.replace("params.yaml", "enabled: true", "enabled: false")
    assert "tracking.enabled in params.yaml is false" in recorded.run(*COMMAND, "track", status=1, PYTHONPATH="src")


def test_a_data_set_becomes_a_folder_that_the_pipeline_takes(clean: Checkout, tmp_path: Path) -> None:
    checkout = clean.copy(tmp_path / "checkout")
    checkout.replace("params.yaml", "size: 28", "size: 32")  # of digits
    output = checkout.run(*COMMAND, "data", "export", str(tmp_path / "out"), PYTHONPATH="src")
    assert "digits: 1,437 training and 360 test images of 10 classes in\n" in output
    command = f"-S dataset=folder -S datasets.folder.path={tmp_path / 'out'} -S datasets.folder.size=32"
    assert output.splitlines()[-1] == f"  dvc exp run {command}"
    for part, count in (("train", 1437), ("test", 360)):
        assert len(list((tmp_path / "out" / part).glob("[0-9]/*.png"))) == count

    checkout.git("checkout", "params.yaml")
    checkout.replace("params.yaml", "dataset: digits", "dataset: folder")
    checkout.replace("params.yaml", "  folder:\n    path:\n", f"  folder:\n    path: {tmp_path / 'out'}\n")
    checkout.dvc("repro", "preprocess")
    data = read_json(checkout.folder / "metrics" / "preprocess.json")
    assert (data["train_images"], data["validation_images"], data["test_images"]) == (1293, 144, 360)
    assert data["dataset"] == "folder"


def test_an_export_that_cannot_work_is_one_message(clean: Checkout, tmp_path: Path) -> None:
    checkout = clean.copy(tmp_path / "checkout")
    for arguments, message in (
        (("out", "--dataset", "mnits"), "mnistflow: there is no data set 'mnits'; did you mean 'mnist'?"),
        (("out", "--dataset", "folder"), "mnistflow: params.yaml is invalid:\n  datasets.folder.path: set it to your"),
        (("src",), f"{checkout.folder / 'src'} exists and is not an empty folder; choose another\n"),
    ):
        output = checkout.run(*COMMAND, "data", "export", *arguments, status=1, PYTHONPATH="src")
        assert message in output
        assert "Traceback" not in output
    assert not (checkout.folder / "out").exists()


def test_an_interrupted_export_leaves_nothing_behind(clean: Checkout, tmp_path: Path) -> None:
    checkout = clean.copy(tmp_path / "checkout")
    checkout.replace("params.yaml", "size: 28", "size: 256")  # so that it takes a while
    environment = {**checkout.environment, "PYTHONPATH": "src"}
    place = tmp_path / "place"
    command = [*COMMAND, "data", "export", str(place / "out")]
    export = Popen(command, cwd=checkout.folder, env=environment, stdout=DEVNULL, stderr=PIPE, text=True)
    try:
        while not list(place.glob(".out.*/out/train/*/*.png")):
            with contextlib.suppress(TimeoutExpired):
                pytest.fail(f"the export ended with status {export.wait(0.05)}")
        os.kill(export.pid, signal.SIGINT)
        _, printed = export.communicate(timeout=60)
    finally:
        export.kill()
        export.wait()
    assert (export.returncode, printed) == (130, "\nmnistflow: interrupted\n")
    assert list(place.iterdir()) == []


def test_a_server_has_its_own_ui(clean: Checkout) -> None:
    server = "http://127.0.0.1:9"
    output = clean.run(*COMMAND, "ui", status=1, PYTHONPATH="src", MLFLOW_TRACKING_URI=server)
    assert output == f"mnistflow: runs are recorded on a server, which has its own UI: {server}\n"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a picture of a test digit of each class, an empty one of no ink, and one that is cut short."""
    folder = tmp_path_factory.mktemp("pictures")
    dataset = datasets.build("digits", {})
    dataset.fetch(folder / "raw", timeout=1)
    test = dataset.read(folder / "raw").test
    (folder / "digits").mkdir()
    for number in range(10):
        image = test.images[int((test.labels == number).nonzero()[0])]
        Image.fromarray(255 - image.numpy()).resize((140, 140)).save(folder / "digits" / f"{number}.png")
    whole = (folder / "digits" / "3.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    return folder


def test_predict_reads_pictures_for_people_and_for_programs(finished: Checkout, pictures: Path) -> None:
    lines = finished.mnistflow("predict", str(pictures / "digits")).splitlines()
    assert [line.split()[0] for line in lines] == [str(pictures / "digits" / f"{number}.png") for number in range(10)]
    (graph,) = (finished.folder / ".mnistflow" / "onnx").iterdir()
    seen = [resized(decode(pictures / "digits" / f"{number}.png"), size=28).image for number in range(10)]
    expected = Predictor(graph).probabilities(np.stack(seen)).argmax(axis=1)
    assert [line.split()[1] for line in lines] == [str(label) for label in expected]
    assert all(re.fullmatch(r"\S+  \d  \d+\.\d%   (unsure, )?then \d \d+\.\d%, \d \d+\.\d%", line) for line in lines)

    answers = [json.loads(line) for line in finished.mnistflow("predict", "--json", f"{pictures}/*/*.png").splitlines()]
    assert [answer["text"] for answer in answers] == [line.split()[1] for line in lines]
    assert all(sum(answer["digits"][0]["probabilities"].values()) == pytest.approx(1, abs=1e-5) for answer in answers)
    assert all(answer["model"]["name"] == "lenet5 · default" for answer in answers)

    rows = list(csv.DictReader(finished.mnistflow("predict", "--csv", f"{pictures}/digits/[0-4].png").splitlines()))
    assert [row["label"] for row in rows] == [answer["text"] for answer in answers[:5]]


def test_predict_works_below_the_project_and_from_standard_input(finished: Checkout, pictures: Path) -> None:
    source = str(finished.folder / "src")
    below = Checkout(finished.folder / "docs")
    here = os.path.relpath(pictures / "digits" / "1.png", below.folder)
    weights = "../models/model.safetensors"
    (named,) = below.run(*COMMAND, "predict", here, "--model", weights, PYTHONPATH=source).splitlines()
    assert named.split()[0] == here
    command = f"{shlex.join(COMMAND)} predict - < {shlex.quote(here)}"
    (piped,) = below.run("sh", "-c", command, PYTHONPATH=source).splitlines()
    assert piped.split() == ["-", *named.split()[1:]]


def test_predict_reports_and_skips_unreadable_files(finished: Checkout, pictures: Path) -> None:
    files = [str(pictures / name) for name in ("gone.png", "cut.png", "digits/7.png")]
    output = finished.mnistflow("predict", *files, status=1)
    assert f"mnistflow: there is no file {files[0]}\n" in output
    assert f"mnistflow: {files[1]} is damaged" in output
    assert re.search(rf"^{re.escape(files[2])}  \d  ", output, re.MULTILINE)
    assert output.count("mnistflow: 2 of 3 files could not be read\n") == 1
    assert "Traceback" not in output
    lines = finished.mnistflow("predict", "--json", *files, status=1).splitlines()
    assert [sorted(json.loads(line))[:2] for line in lines if line.startswith("{")] == [
        ["error", "file"],
        ["error", "file"],
        ["digits", "file"],
    ]


def test_predict_without_a_model_says_what_to_do(clean: Checkout, pictures: Path) -> None:
    output = clean.mnistflow("predict", str(pictures / "cut.png"), status=1)
    assert output == "mnistflow: there is no model in this folder yet; `dvc repro` (or `make repro`) makes one\n"


def test_predict_explains_one_picture(finished: Checkout, pictures: Path, tmp_path: Path) -> None:
    finished.mnistflow("predict", str(pictures / "digits" / "5.png"), "--explain", str(tmp_path / "how.png"))
    with Image.open(tmp_path / "how.png") as figure:
        assert min(figure.size) > 200  # at 50 dots an inch
    output = finished.mnistflow("predict", str(pictures), "--explain", str(tmp_path / "how.png"), status=1)
    assert "--explain draws how one picture was read, but 11 were given" in output


def test_many_files_show_a_progress_bar(finished: Checkout, pictures: Path) -> None:
    many = [str(pictures / "digits" / "1.png")] * 21
    quiet = finished.mnistflow("predict", *many)
    assert len(quiet.splitlines()) == 21
    command = "stty rows 24 cols 80; " + shlex.join([*COMMAND, "predict", *many])  # a terminal of some size
    output = finished.run("script", "--quiet", "--return", "--command", command, "/dev/null", PYTHONPATH="src")
    assert re.search(r"21/21 ", output)
    assert output.count("1.png  ") == 21


def test_after_a_run_the_first_answer_needs_neither_pytorch_nor_mlflow(finished: Checkout, pictures: Path) -> None:
    picture = str(pictures / "digits" / "1.png")
    output = finished.run(sys.executable, "-X", "importtime", "-m", "mnistflow", "predict", picture, PYTHONPATH="src")
    imported = {line.rpartition("|")[2].strip() for line in output.splitlines() if line.startswith("import time:")}
    assert "onnxruntime" in imported
    assert not imported & {"torch", "mlflow", "matplotlib", "dvc"}
    assert "making the ONNX graph" not in output


def test_export_writes_what_answers_as_the_weights(recorded: Checkout, pictures: Path) -> None:
    output = recorded.mnistflow("export")
    assert output.startswith("models/model.onnx: lenet5 · default, onnx, opset 20, ")
    assert "360 of 360 test images get the same label" in output
    export_document = json.loads(recorded.mnistflow("export", "--format", "pt2", "--output", "own.pt2", "--json"))
    assert (export_document["path"], export_document["parity"]["agreeing"], export_document["parity"]["images"]) == (
        "own.pt2",
        360,
        360,
    )
    picture = str(pictures / "digits" / "1.png")
    again = recorded.mnistflow("predict", picture, "--model", "models/model.onnx")
    assert again == recorded.mnistflow("predict", picture)
    assert "--int8 requires --format onnx" in recorded.mnistflow("export", "--int8", "--format", "pt2", status=1)
    assert "models/model.onnx is an ONNX file" in recorded.mnistflow("export", "--model", "models/model.onnx", status=1)
    assert recorded.git("status", "--porcelain").split() == ["??", "own.pt2"]
