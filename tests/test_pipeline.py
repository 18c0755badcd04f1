"""The pipeline as a whole: real DVC, real MLflow, in temporary checkouts, on scikit-learn's digits."""

from __future__ import annotations

import ast
import csv
import hashlib
import html
import io
import json
import random
import re
import sys
import urllib.request
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import unquote, urlparse

import pytest
from conftest import ROOT, STAGES, Checkout, answering, free_port
from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image, ImageDraw

from mnistflow.config.params import load
from mnistflow.config.paths import Paths
from mnistflow.core.files import read_csv, read_json, read_yaml
from mnistflow.data import datasets
from mnistflow.pipeline import fork_server
from mnistflow.pipeline.code import OBSERVERS, rooms
from mnistflow.reports.report import FIGURES

PIPELINE: Any = read_yaml(ROOT / "dvc.yaml")
PARAMS: Any = read_yaml(ROOT / "params.yaml")

# What a stage may read without it being one of its params: it changes no result.
NO_RESULT = {"download.timeout", "train.report_every", "train.checkpoint_every", "train.cuda_graph"}


def ran(output: str) -> list[str]:
    return re.findall(r"Running stage '(\w+)'", output)


# ---------------------------------------------------------------------------------------------------------------------
# dvc.yaml says what the scripts do


def test_the_stages_are_the_scripts() -> None:
    assert list(PIPELINE["stages"]) == STAGES
    assert {path.stem for path in (ROOT / "stages").glob("*.py")} == {*STAGES, "runner"}
    for name in STAGES:
        assert PIPELINE["stages"][name]["cmd"] == f"python stages/{name}.py"


@pytest.mark.parametrize("name", STAGES)
def test_deps_are_the_script_and_the_rooms_that_it_reaches(name: str) -> None:
    script = ROOT / "stages" / f"{name}.py"
    declared = [dep for dep in PIPELINE["stages"][name]["deps"] if dep.startswith(("stages/", "src/"))]
    expected = [path.relative_to(ROOT).as_posix() for path in (script, *rooms(script))]
    assert declared == expected, f"dvc.yaml must say: {', '.join(expected)}"


def test_dvc_yaml_is_short() -> None:
    lines = (ROOT / "dvc.yaml").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 170
    assert sum("src/mnistflow" in line for line in lines) <= 30


def flattened(tree: Any, prefix: str) -> set[str]:
    if not isinstance(tree, dict):
        return {prefix}
    return {leaf for key, value in tree.items() for leaf in flattened(value, f"{prefix}.{key}")}


def attributes(script: Path, name: str) -> set[str]:
    """Dotted paths of the attributes of a variable that a script reads, the longest of each."""
    chains = set()
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.insert(0, node.attr)
            node = node.value
        if parts and isinstance(node, ast.Name) and node.id == name:
            chains.add(".".join(parts))
    return {chain for chain in chains if not any(other.startswith(f"{chain}.") for other in chains)}


@pytest.mark.parametrize("name", STAGES[1:-1])
def test_params_are_what_the_script_reads(name: str) -> None:
    chosen = {
        "dataset_arguments": ["dataset", "datasets.${dataset}"],
        "model_block": ["model", "models.${model}"],
        "recipe_block": ["recipe", "recipes.${recipe}"],
        "threads": ["train.threads"],
    }
    read: set[str] = set()
    for chain in attributes(ROOT / "stages" / f"{name}.py", "params"):
        read.update(chosen.get(chain.partition(".")[0], [chain]))
    declared: set[str] = set()
    for path in PIPELINE["stages"][name]["params"]:
        block = PARAMS
        for key in path.split(".") if "$" not in path else ():
            block = block[key]
        declared |= {path} if "$" in path else flattened(block, path)
    assert read - NO_RESULT == declared
    assert not [path for path in declared if path.startswith("tracking")]


def test_plot_runs_whenever_a_param_changes_that_it_records() -> None:
    declared: set[str] = set()
    for path in PIPELINE["stages"]["plot"]["params"]:
        declared |= {path} if "$" in path else flattened(PARAMS[path], path) if path in PARAMS else {path}
    selected = {"datasets": "datasets.${dataset}", "models": "models.${model}", "recipes": "recipes.${recipe}"}
    params = load(ROOT / "params.yaml")
    recorded = {
        selected.get(path.partition(".")[0], path)
        for dataset in params.datasets
        for path in params.model_copy(update={"dataset": dataset}).selected()
    }
    assert len(recorded) > 10
    assert {path for path in declared if not path.startswith("plot.")} == recorded


def test_check_alone_reads_all_of_params_yaml() -> None:
    assert PIPELINE["stages"]["check"]["params"] == [{"params.yaml": None}]


@pytest.mark.parametrize("name", STAGES)
def test_every_path_of_a_stage_is_one_that_its_script_uses(name: str) -> None:
    stage = PIPELINE["stages"][name]
    entries = [entry for key in ("deps", "outs", "metrics", "plots") for entry in stage.get(key, [])]
    texts = [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]
    declared = {found for text in texts for found in re.findall(r"\$\{paths\.(\w+)\}", text)}
    used = attributes(ROOT / "stages" / f"{name}.py", "paths")
    # checked is there for the order alone; source is for DVC, which sees through it what the user brings. What check
    # links to is not an output of it: DVC would delete it.
    order_only = {"checked", "source"} if name == "download" else set()
    links = {"source", "start"} if name == "check" else set()
    assert {path.partition(".")[0] for path in used} - links == declared - order_only


def test_metrics_and_plots_at_the_top_name_files_of_stages() -> None:
    files = {str(path) for path in vars(Paths.load(ROOT / "dvc.yaml")).values()}
    assert set(PIPELINE["metrics"]) <= files
    drawn = {
        file
        for entry in PIPELINE["plots"]
        for file in ([entry] if isinstance(entry, str) else next(iter(entry.values()))["y"])
    }
    assert drawn <= files
    assert len(drawn) == 5


# ---------------------------------------------------------------------------------------------------------------------
# A run


def test_a_run_leaves_everything_it_promises(finished: Checkout) -> None:
    paths = Paths.load(finished.folder / "dvc.yaml")
    for path in (paths.train_split, paths.validation_split, paths.test_split, paths.weights):
        assert (finished.folder / path).stat().st_size > 1000
    figures = sorted(path.name for path in (finished.folder / paths.figures).iterdir())
    assert figures == [f"{name}.png" for name in sorted(FIGURES)]

    data = read_json(finished.folder / paths.data_metrics)
    assert (data["train_images"], data["validation_images"], data["test_images"]) == (1293, 144, 360)
    train = read_json(finished.folder / paths.train_metrics)
    history = read_csv(finished.folder / paths.history)
    assert (train["epochs"], train["kept_epoch"], len(history)) == (2, 2, 2)
    assert float(history[-1]["val_accuracy"]) == train["val_accuracy"]
    assert train["device"] in ("cpu", "cuda", "mps")
    assert 0 < len(read_csv(finished.folder / paths.steps)) <= 2000

    test = read_json(finished.folder / paths.test_metrics)
    predictions = read_csv(finished.folder / paths.predictions)
    assert [int(row["index"]) for row in predictions] == list(range(360))
    assert sum(row["label"] == row["prediction"] for row in predictions) / 360 == pytest.approx(test["accuracy"])
    plain, *harder = read_csv(finished.folder / paths.robustness, numbers=("strength", "amount", "accuracy"))
    assert (plain["corruption"], float(plain["accuracy"])) == ("none", test["accuracy"])
    assert len(harder) == 24
    assert fmean(float(row["accuracy"]) for row in harder) == pytest.approx(test["robust_accuracy"], abs=1e-6)


def test_up_to_date_stages_do_not_run_again(workspace: Checkout) -> None:
    output = workspace.dvc("repro")
    assert ran(output) == []
    assert output.count("didn't change, skipping") == len(STAGES)
    assert workspace.dvc("status").strip() == "Data and pipelines are up to date."


def test_a_change_runs_only_what_depends_on_it(workspace: Checkout) -> None:
    for old, new in (
        ("    - 256", "    - 128"),  # of mlp, which is not chosen
        ("experiment: mnistflow", "experiment: other"),
        ("timeout: 10.0", "timeout: 5.0"),
        ("report_every: 200", "report_every: 100"),
        ("min_accuracy:\n", "min_accuracy: 0.5\n"),
    ):
        workspace.replace("params.yaml", old, new)
    assert ran(workspace.dvc("repro")) == ["check"]
    workspace.replace("params.yaml", "dpi: 50", "dpi: 60")
    assert ran(workspace.dvc("repro")) == ["check", "plot"]


def test_a_comment_in_the_training_loop_trains_again_and_runs_nothing_else(recorded: Checkout) -> None:
    def weights() -> str:
        return hashlib.md5((recorded.folder / "models/model.safetensors").read_bytes()).hexdigest()

    client = MlflowClient(f"sqlite:///{recorded.folder / 'mlflow.db'}")
    before, (run,) = weights(), client.search_runs(["1"])
    recorded.replace("src/mnistflow/training/loop.py", "import math", "import math  # a comment")
    assert ran(recorded.dvc("repro")) == ["train"]
    assert weights() == before
    (same,) = client.search_runs(["1"])
    assert (same.info.run_id, same.info.status) == (run.info.run_id, "FINISHED")
    assert same.data.to_dictionary() == run.data.to_dictionary()


@pytest.mark.parametrize("room", sorted(OBSERVERS))
def test_a_change_of_an_observer_runs_nothing(room: str, workspace: Checkout) -> None:
    for file in (workspace.folder / "src" / "mnistflow" / room).glob("*.py"):
        file.write_text(file.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    assert ran(workspace.dvc("repro")) == []


def test_weights_that_come_out_the_same_in_another_store_are_recorded_there(recorded: Checkout, tmp_path: Path) -> None:
    """DVC has no reason then to run the stage that records a result."""
    recorded.replace("src/mnistflow/training/loop.py", "import math", "import math  # a comment")
    store = f"sqlite:///{tmp_path / 'other.db'}"
    assert ran(recorded.dvc("repro", MLFLOW_TRACKING_URI=store)) == ["train"]
    client = MlflowClient(store)
    (run,) = client.search_runs(["1"])
    assert run.info.status == "FINISHED"
    assert "test_accuracy" in run.data.metrics


def test_a_recipe_without_validation_that_reports_on_the_test_split(workspace: Checkout) -> None:
    overrides = (
        "preprocess.validation_size=0",
        "preprocess.normalize=unit",
        "recipes.default.monitor=test",
        "recipes.default.loss=mse",
        "recipes.default.label_smoothing=0",
        "recipes.default.optimizer=adam",
        "recipes.default.momentum=null",
        "recipes.default.nesterov=false",
        "recipes.default.schedule=constant",
        "recipes.default.warmup=null",
        "recipes.default.lr=0.001",
    )
    (workspace.folder / "mlflow.db").unlink()
    output = workspace.dvc("exp", "run", *(part for override in overrides for part in ("-S", override)))
    assert "tracking: warning" not in output
    assert not (workspace.folder / "mlflow.db").exists()  # tracking.enabled is false here
    data = read_json(workspace.folder / "metrics/preprocess.json")
    assert (data["train_images"], data["validation_images"]) == (1437, 0)
    assert (data["mean"], data["std"]) == (0.0, 1.0)
    history = read_csv(workspace.folder / "metrics/history.csv")
    assert [row["val_accuracy"] for row in history] == ["", ""]
    test = read_json(workspace.folder / "metrics/evaluate.json")
    assert float(history[-1]["test_accuracy"]) == pytest.approx(float(str(test["accuracy"])), abs=1e-5)
    assert "validation accuracy  not monitored" in workspace.mnistflow("show")


# Settings of a user and of a system, none of which may reach an output.
HOSTILE = {
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "LC_ALL": "C",
    "LANG": "tr_TR.UTF-8",
    "LANGUAGE": "tr",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONUTF8": "0",
    "PYTHONIOENCODING": "ascii",
    "PYTHONOPTIMIZE": "2",
    "PYTHONHASHSEED": "7",
    "TZ": "Asia/Kathmandu",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "TORCH_LOGS": "+dynamo",
    "TORCHDYNAMO_DISABLE": "1",
    "CUBLAS_WORKSPACE_CONFIG": ":16:8",
    "NPY_DISABLE_CPU_FEATURES": "",
    "COLUMNS": "20",
    "LINES": "5",
    "NO_COLOR": "1",
    "TERM": "dumb",
}


def test_every_stage_makes_the_same_bytes_in_a_hostile_environment(workspace: Checkout, tmp_path: Path) -> None:
    settings = tmp_path / "matplotlib"
    settings.mkdir()
    for folder in (settings, workspace.folder):
        (folder / "matplotlibrc").write_text("font.family: serif\nsavefig.bbox: tight\nsavefig.facecolor: pink\n")
    before, lock = state(workspace), workspace.read("dvc.lock")
    del workspace.environment[fork_server.NAME]  # DVC's own is of this environment, that of the tests is not
    workspace.environment |= {**HOSTILE, "MPLCONFIGDIR": str(settings), "HOME": str(tmp_path)}
    output = workspace.run("sh", "-c", "umask 077 && dvc repro --force")
    assert set(ran(output)) == set(STAGES)
    assert workspace.read("dvc.lock") == lock
    assert state(workspace) == before


def test_after_dvc_pull_in_a_clone_nothing_runs(workspace: Checkout, tmp_path: Path) -> None:
    workspace.dvc("remote", "add", "--default", "storage", str(tmp_path / "remote"))
    workspace.git("commit", "--quiet", "--all", "--message", "remote")
    workspace.dvc("push")
    workspace.git("clone", "--quiet", ".", str(tmp_path / "elsewhere"))
    elsewhere = Checkout(tmp_path / "elsewhere")
    elsewhere.dvc("pull")
    assert ran(elsewhere.dvc("repro")) == []
    assert elsewhere.dvc("status").strip() == "Data and pipelines are up to date."
    assert elsewhere.git("status", "--porcelain") == ""
    assert elsewhere.read("metrics/predictions.csv") == workspace.read("metrics/predictions.csv")


def test_no_output_holds_a_time_or_a_path_of_its_machine(finished: Checkout) -> None:
    paths = Paths.load(finished.folder / "dvc.yaml")
    files = [path for path in vars(paths).values() if (finished.folder / path).is_file()]
    files += [path.relative_to(finished.folder) for path in (finished.folder / paths.figures).iterdir()]
    assert len(files) > 12
    for file in files:
        data = (finished.folder / file).read_bytes()
        assert str(finished.folder).encode() not in data, file
        assert b"seconds" not in data, file


# ---------------------------------------------------------------------------------------------------------------------
# What the user brings


# Classes as people may call them, in characters that mean something to Matplotlib, HTML, Markdown, spreadsheets, shells
# and DVC, in three scripts, one of them from right to left, and long.
NAMES = {
    "circle": r"""$\frac$ Ba$$in <img src=x onerror=alert(1)> &amp; "q'""",
    "square": "=cmd|'calc'!A1, **b** _i_ [a](b) `ls` $(x); %s {x} ${y} #1",
    "triangle": "-猫 שלום " + "n" * 190,
}


def draw_shapes(folder: Path, count: int) -> None:
    """Circles, squares and triangles of random size and place, white on black, in turn."""
    numbers = random.Random(0)
    for number in range(count):
        shape = ("circle", "square", "triangle")[number % 3]
        name = NAMES[shape]
        left, top, size = numbers.randrange(2, 10), numbers.randrange(2, 10), numbers.randrange(14, 20)
        image = Image.new("L", (32, 32))
        pen, box = ImageDraw.Draw(image), (left, top, left + size, top + size)
        if shape == "triangle":
            pen.polygon([(left, top + size), (left + size, top + size), (left + size // 2, top)], fill=255)
        else:
            {"circle": pen.ellipse, "square": pen.rectangle}[shape](box, fill=255)
        (folder / "train" / name).mkdir(parents=True, exist_ok=True)
        image.save(folder / "train" / name / f"{number}.png")


def test_a_folder_of_images_is_learned_under_the_names_of_its_classes(recorded: Checkout, tmp_path: Path) -> None:
    draw_shapes(tmp_path / "shapes", 200)
    overrides = [
        "dataset=folder",
        f"datasets.folder.path={tmp_path / 'shapes'}",
        "datasets.folder.size=32",
        "model=mlp",
    ]
    overrides += ["recipes.default.epochs=20", "recipes.default.batch_size=16"]
    sets = [part for override in overrides for part in ("-S", override)]
    recorded.dvc("exp", "run", "--temp", "--name", "shapes", *sets)  # in a copy, as queued experiments are
    recorded.dvc("exp", "apply", "shapes")
    names = set(NAMES.values())
    rows = read_csv(recorded.folder / "metrics" / "predictions.csv")
    assert len(rows) == 40
    assert {row["label"] for row in rows} == names
    assert {row["prediction"] for row in rows} <= names
    assert sum(row["label"] == row["prediction"] for row in rows) > 30
    test: Any = read_json(recorded.folder / "metrics" / "evaluate.json")
    assert [row["class"] for row in test["classes"]] == sorted(names)
    client = MlflowClient(f"sqlite:///{recorded.folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("mnistflow")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], "tags.`dvc.experiment` = 'shapes'")
    recorded.mnistflow("promote", "shapes")
    run = client.get_run(run.info.run_id)
    served = client.get_logged_model(run.data.tags["mnistflow.model"].removeprefix("models:/"))
    info: Any = read_yaml(Path(unquote(urlparse(str(served.artifact_location)).path)) / "MLmodel")
    assert info["metadata"]["classes"] == sorted(names)

    reads_as_named(recorded, tmp_path, run)

    assert ran(recorded.dvc("repro", "download")) == ["check"]  # which makes the link again
    assert ran(recorded.dvc("repro", "download")) == []
    first = tmp_path / "shapes" / "train" / NAMES["circle"] / "0.png"
    Image.open(first).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(first)
    assert ran(recorded.dvc("repro", "download")) == ["download"]
    Image.open(first).save(first.with_name("new.png"))
    assert ran(recorded.dvc("repro", "download")) == ["download"]


def reads_as_named(checkout: Checkout, tmp_path: Path, run: Run) -> None:
    """Figures, report, comparison, answers, export and data come with the names of the classes as they stand."""
    names = sorted(NAMES.values())
    note = run.data.tags["mlflow.note.content"]
    assert not any(mark in note for mark in ("<img src", "**b**", "[a](b)"))
    page = tmp_path / "result.html"
    checkout.mnistflow("report", "--output", str(page))
    text = page.read_text(encoding="utf-8")
    assert "<img src=x" not in text
    for name in names:
        assert name in html.unescape(text)
    assert "test_accuracy" in checkout.mnistflow("compare", "shapes", "lenet5 · default")

    files = [str(next((tmp_path / "shapes" / "train" / name).iterdir())) for name in names]
    lines = checkout.mnistflow("predict", *files).splitlines()
    assert len(lines) == 3
    answers = [json.loads(line) for line in checkout.mnistflow("predict", "--json", *files).splitlines()]
    assert {name for answer in answers for name in answer["digits"][0]["probabilities"]} == set(names)
    table = checkout.mnistflow("predict", "--csv", *files)
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [row["label"].removeprefix("'") for row in rows] == [answer["digits"][0]["label"] for answer in answers]
    assert not any(cell[:1] in "=+-@" for row in rows for cell in (row["file"], row["label"], row["second"]) if cell)

    document = json.loads(checkout.mnistflow("export", "--json", "--output", str(tmp_path / "model.onnx")))
    assert document["parity"]["images"] == 40
    port = free_port()
    command = [sys.executable, "-m", "mnistflow", "serve", "--port", str(port), "--model", str(tmp_path / "model.onnx")]
    address = f"http://127.0.0.1:{port}"
    with answering(command, f"{address}/healthz", checkout.folder, {**checkout.environment, "PYTHONPATH": "src"}):
        for path in ("/", "/models", "/metrics"):
            with urllib.request.urlopen(f"{address}{path}") as answer:
                assert answer.status == 200
        request = urllib.request.Request(
            f"{address}/predict",
            data=json.dumps({"images": [[[0] * 32] * 32]}).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            text = json.dumps(json.load(answer), ensure_ascii=False)
            assert all(json.dumps(name, ensure_ascii=False) in text for name in names)

    checkout.mnistflow("data", "export", str(tmp_path / "back"))
    assert datasets.build("folder", {"path": str(tmp_path / "back")}).classes == tuple(names)


def test_training_goes_on_from_given_weights(recorded: Checkout) -> None:
    (recorded.folder / "start.safetensors").write_bytes((recorded.folder / "models/model.safetensors").read_bytes())
    first = recorded.read("metrics/history.csv")
    before = read_csv(recorded.folder / "metrics/history.csv")
    (run,) = re.findall(r"recorded as run (\w+)", recorded.mnistflow("track"))

    recorded.replace("params.yaml", "init_from:\n", f"init_from: {run}\n")
    recorded.dvc("repro", "check")
    fetched = recorded.folder / "inputs" / "weights" / "given"
    assert run in str(fetched.readlink())
    assert fetched.read_bytes() == (recorded.folder / "start.safetensors").read_bytes()

    recorded.replace("params.yaml", f"init_from: {run}\n", "init_from: start.safetensors\n")
    output = recorded.dvc("repro", "train")
    assert ran(output) == ["check", "train"]
    assert f"train: starting from {recorded.folder / 'start.safetensors'}" in output
    after = read_csv(recorded.folder / "metrics/history.csv")
    assert float(after[0]["train_loss"]) < float(before[0]["train_loss"])

    # As in another clone, or after an experiment from elsewhere: the link is made again, and nothing else.
    fetched.unlink()
    (recorded.folder / "inputs" / "brought" / "links.json").unlink()
    assert ran(recorded.dvc("repro", "train")) == ["check"]
    # What was brought is gone, and is not wanted any more.
    (recorded.folder / "start.safetensors").unlink()
    assert "train.init_from: there is no file" in recorded.dvc("repro", "--force", "check", status=None)
    recorded.git("checkout", "params.yaml")
    assert ran(recorded.dvc("repro", "train")) == ["check"]  # DVC remembers what came of fresh weights
    assert not fetched.is_symlink()
    assert recorded.read("metrics/history.csv") == first


# ---------------------------------------------------------------------------------------------------------------------
# Mistakes


OUTPUTS = ("data/processed", "models", "metrics")


def state(checkout: Checkout) -> dict[str, bytes]:
    files = [path for folder in OUTPUTS for path in (checkout.folder / folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(checkout.folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model=lenet6", "model: there is no model 'lenet6'; did you mean 'lenet5'?"),
        ("recipes.default.epoch=3", "Could not override 'recipes.default.epoch'"),  # DVC's own
        # as long as what it replaces: git could take the file for unchanged
        ("train.device=mpss", "train.device: expected auto, cpu, cuda, cuda:N or mps; got 'mpss'"),
    ],
)
def test_a_mistake_deletes_nothing_and_is_undone_by_one_command(
    workspace: Checkout, override: str, message: str
) -> None:
    before = state(workspace)
    output = workspace.dvc("exp", "run", "-S", override, status=None)
    assert message in output
    assert "Traceback" not in output
    assert set(ran(output)) <= {"check"}
    assert state(workspace) == before
    if ran(output):
        assert "git checkout params.yaml" in output
        workspace.git("checkout", "params.yaml")
    assert set(ran(workspace.dvc("repro"))) <= {"check"}
    assert workspace.git("status", "--porcelain") == ""


def test_one_flipped_byte_of_a_raw_file_is_refused_by_name(workspace: Checkout) -> None:
    raw = workspace.folder / "data" / "raw" / "digits" / "digits.csv"
    data = bytearray(raw.read_bytes())
    data[5000] ^= 1
    raw.chmod(0o644)
    raw.write_bytes(data)
    before = state(workspace)
    output = workspace.dvc("repro", status=None)
    assert "data/raw/digits/digits.csv is not scikit-learn's file: SHA-256 is " in output
    assert "rm data/raw/digits/digits.csv" in output
    assert ran(output) == ["download"]
    assert state(workspace) == before
    raw.unlink()
    assert ran(workspace.dvc("repro")) == ["download"]


# ---------------------------------------------------------------------------------------------------------------------
# Whose code runs


def test_a_checkout_runs_its_own_code_whatever_is_installed(workspace: Checkout) -> None:
    workspace.replace("stages/plot.py", "plot: ", "plot, of this checkout: ")
    workspace.replace(
        "src/mnistflow/figures/images.py", "def samples(", "print('figures, of this checkout')\n\n\ndef samples("
    )
    output = workspace.dvc("repro", PYTHONPATH=str(ROOT / "src"))
    assert "figures, of this checkout" in output
    assert "plot, of this checkout: " in output
