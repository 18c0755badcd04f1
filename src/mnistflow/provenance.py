"""What a result rests on: source files, and a digest of everything that decides it."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

__all__ = ["closure", "code_digest", "digest", "git_commit"]

PACKAGE = Path(__file__).parent


def closure(script: Path) -> list[Path]:
    """The files of this package that a script imports, directly or not.

    A package whose modules register themselves (``models``, ``datasets``) counts as a whole and stands in the answer
    as its folder: which of them are used is decided at run time.

    Returns:
        Sorted absolute paths; the script itself is not among them.
    """
    found: set[Path] = set()
    waiting = [script.resolve()]
    while waiting:
        for target in _imported(waiting.pop()):
            if target not in found:
                found.add(target)
                waiting += sorted(target.glob("*.py")) if target.is_dir() else [target]
    return sorted(path for path in found if path.parent not in found)


def code_digest(*modules: ModuleType) -> str:
    """SHA-256 over the names and bytes of modules of this package and of all that they import from it."""
    files: set[Path] = set()
    for module in modules:
        assert module.__file__ is not None
        origin = Path(module.__file__)
        for path in [origin.parent if origin.name == "__init__.py" else origin, *closure(origin)]:
            files.update(path.glob("*.py") if path.is_dir() else [path])
    seen = hashlib.sha256()
    for file in sorted(files):
        seen.update(f"{file.relative_to(PACKAGE).as_posix()}\0{file.stat().st_size}\0".encode())
        seen.update(file.read_bytes())
    return seen.hexdigest()


def digest(tree: Mapping[str, object]) -> str:
    """SHA-256 of a mapping's JSON, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(tree, sort_keys=True, allow_nan=False).encode()).hexdigest()


def git_commit() -> str | None:
    """The commit that is checked out; None outside of git.

    ``-dirty`` stands behind it if what decides a result differs from it; results themselves, which DVC deletes before
    it makes them anew, do not count.
    """
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, env=environment)
        changed = subprocess.run(
            ["git", "diff", "--quiet", "HEAD", "--", "src", "stages", "dvc.yaml", "params.yaml"],
            capture_output=True,
            check=False,
            env=environment,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("-dirty" if changed.returncode else "")


def _imported(file: Path) -> Iterator[Path]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            head, *parts = name.split(".")
            if head != PACKAGE.name:
                continue
            yield PACKAGE / "__init__.py"
            # mnistflow.models.lenet5 needs all of mnistflow.models; mnistflow.models.LeNet5 is no file, but its package
            for depth in range(1, len(parts) + 1):
                place = PACKAGE.joinpath(*parts[:depth])
                if place.is_dir():
                    yield place
                elif place.with_suffix(".py").is_file():
                    yield place.with_suffix(".py")
