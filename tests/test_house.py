"""The structure of the library: arrows point down, and heavy packages are imported where they are used."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

SOURCE = ROOT / "src" / "mnistflow"

# Top to bottom; a room imports only from floors below its own.
FLOORS = [
    {"cli"},
    {"experiments", "reports", "serving"},
    {"checks"},
    {"tracking"},
    {"pipeline", "export"},
    {"figures"},
    {"recognition", "training"},
    {"evaluation"},
    {"data", "models", "config"},
    {"core"},
]
ROOMS = {room for floor in FLOORS for room in floor}
FILES = sorted(SOURCE.rglob("*.py"))
assert len(FILES) > 20
MAX_FILES, MAX_LINES = 12, 450


def room_of(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0]


def imports_of(file: Path) -> set[str]:
    """Dotted names of everything that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_every_file_is_in_a_room_that_says_what_belongs_there() -> None:
    assert {room_of(file) for file in FILES if file.parent != SOURCE} == ROOMS
    assert {file.name for file in FILES if file.parent == SOURCE} == {"__init__.py", "__main__.py"}
    for room in ROOMS:
        text = ast.get_docstring(ast.parse((SOURCE / room / "__init__.py").read_text(encoding="utf-8")))
        assert text is not None
        assert "mport" in text, f"{room} does not say what it may import"


def test_rooms_and_files_are_small() -> None:
    for room in ROOMS:
        files = list((SOURCE / room).glob("*.py"))
        assert len(files) <= MAX_FILES, f"{room} has {len(files)} files"
    lines = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in FILES}
    assert not {file: count for file, count in lines.items() if count > MAX_LINES}


def test_module_names_are_unique() -> None:
    names = [file.stem for file in FILES if file.stem not in ("__init__", "__main__")]
    assert not {name for name in names if names.count(name) > 1}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_rooms_import_only_from_rooms_below(file: Path) -> None:
    own = room_of(file)
    names = {name.split(".")[1] for name in imports_of(file) if name.startswith("mnistflow.")}
    assert not {name for name in imports_of(file) if name.split(".")[0] in ("stages", "tests", "benchmarks")}
    if file.parent == SOURCE:
        return
    (floor,) = (number for number, rooms in enumerate(FLOORS) if own in rooms)
    below = {room for rooms in FLOORS[floor + 1 :] for room in rooms}
    assert names & ROOMS <= below | {own}


def test_models_and_training_never_see_the_params_object() -> None:
    for room in ("core", "data", "models", "training"):
        for file in (SOURCE / room).rglob("*.py"):
            assert not {name for name in imports_of(file) if name.startswith("mnistflow.config")}, file


@pytest.mark.parametrize(
    ("package", "users"),
    [
        ("mlflow", {"tracking"}),
        ("matplotlib", {"figures"}),
        ("jinja2", {"reports"}),
        ("fastapi", {"serving"}),
        ("starlette", {"serving"}),
        ("uvicorn", {"serving"}),
        ("python_multipart", set()),  # Starlette needs it, to parse forms
        ("prometheus_client", {"serving"}),
        ("torchvision", {"data"}),
        ("PIL", {"data", "recognition"}),
        ("cv2", {"recognition", "training"}),  # training: to draw digits
        ("onnx", {"export", "recognition"}),
        ("onnxruntime", {"export", "recognition", "tracking"}),
        ("sklearn", set()),  # it carries the data set `digits`
        (
            "pydantic",
            {"config", "checks", "core", "experiments", "pipeline", "reports", "serving"},
        ),  # core: for a type alone
        ("dvc", {"experiments"}),
        ("pickle", set()),
    ],
)
def test_a_package_is_imported_only_where_it_belongs(package: str, users: set[str]) -> None:
    found = {room_of(file) for file in FILES if any(name.split(".")[0] == package for name in imports_of(file))}
    assert found == users


def test_training_needs_torch_and_little_else() -> None:
    program = f"""
import sys
for name in ("dvc", "matplotlib", "mlflow", "pydantic", "sklearn", "torchvision", "tqdm"):
    sys.modules[name] = None  # importing it fails
sys.path.insert(0, {str(ROOT / "src")!r})
from mnistflow.core import affine, devices
from mnistflow.evaluation import calibration, corruptions, measures, projection
from mnistflow.export import recogniser
from mnistflow.training import assembly, diagnostics
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_tests_of_networks_run_without_the_packages_of_the_others(tmp_path: Path) -> None:
    """As on a machine that is lent for its GPU, with PyTorch and little else."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.modules |= dict.fromkeys(('playwright', 'hypothesis', 'mlflow', 'dvc', 'fastapi'))\n",
        encoding="utf-8",
    )
    files = [str(file) for file in (ROOT / "tests").glob("test_*.py") if "mark.gpu" in file.read_text(encoding="utf-8")]
    assert len(files) > 4
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu", "--collect-only", *files],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
