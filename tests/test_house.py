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

# Top to bottom; a module imports only from floors below its own. A package counts as one module.
FLOORS = [
    {"__main__"},
    {"cli"},
    {"studies", "lineage", "comparison", "report", "verification", "gates", "server", "conversion"},
    {"check"},
    {"experiments", "checkpoints", "catalogue", "answers"},
    {"tracking", "figures", "progress", "stage", "predictor"},
    {"exporting"},
    {"training", "evaluation", "preprocessing", "serving", "diagnostics"},
    {"corruptions", "calibration", "projection"},
    {"inference", "handwriting"},
    {"models", "datasets", "augment"},
    {"recipes", "artifacts", "params", "paths", "scores"},
    {"devices", "splits", "durations", "graphs", "reader"},
    {"files", "git", "pictures", "provenance"},
    {"text"},
    {"__init__"},
]
MODULES = {module for floor in FLOORS for module in floor}
FILES = sorted(SOURCE.rglob("*.py"))
assert len(FILES) > 20


def module_of(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports_of(file: Path) -> set[str]:
    """Dotted names of everything that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_every_module_has_its_floor() -> None:
    assert {module_of(file) for file in FILES} == MODULES


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_arrows_point_down(file: Path) -> None:
    own = module_of(file)
    (floor,) = (number for number, modules in enumerate(FLOORS) if own in modules)
    below = {module for modules in FLOORS[floor + 1 :] for module in modules}
    for name in imports_of(file):
        head, *parts = name.split(".")
        assert head not in ("stages", "tests")
        if head == "mnistflow":
            target = parts[0] if parts and parts[0] in MODULES else "__init__"
            assert target in below or target == own, f"{own} imports {target}"


@pytest.mark.parametrize(
    ("package", "users"),
    [
        ("mlflow", {"tracking"}),
        ("matplotlib", {"figures"}),
        ("jinja2", {"report"}),
        ("fastapi", {"server"}),
        ("starlette", {"server"}),
        ("uvicorn", {"server"}),
        ("python_multipart", {"server"}),
        ("prometheus_client", {"server"}),
        ("torchvision", {"datasets"}),
        ("PIL", {"datasets", "pictures", "reader"}),
        ("cv2", {"reader", "handwriting"}),
        ("onnx", {"exporting", "predictor"}),
        ("onnxruntime", {"exporting", "predictor"}),
        ("sklearn", set()),  # it carries the data set `digits`
        ("pydantic", {"params", "check", "files", "experiments", "report", "studies"}),  # files: for a type alone
        ("dvc", {"experiments"}),
        ("pickle", set()),
    ],
)
def test_a_package_is_imported_only_where_it_belongs(package: str, users: set[str]) -> None:
    found = {module_of(file) for file in FILES if any(name.split(".")[0] == package for name in imports_of(file))}
    assert found == users


def test_training_needs_torch_and_little_else() -> None:
    program = f"""
import sys
for name in ("dvc", "matplotlib", "mlflow", "pydantic", "sklearn", "torchvision", "tqdm"):
    sys.modules[name] = None  # importing it fails
sys.path.insert(0, {str(ROOT / "src")!r})
from mnistflow import augment, corruptions, devices, diagnostics, evaluation, inference, models, recipes, serving
from mnistflow import training
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
