"""What git is asked about a project, wherever the project is: real git in every kind of place."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Checkout

from mnistflow.experiments import cache
from mnistflow.pipeline import git

# Names are relative to the folder of the project, also where that is a part of its repository.
PROGRAM = """
import json
from pathlib import Path
from mnistflow.experiments import cache, results
from mnistflow.pipeline import git
code = results.committed_code()
(result,) = results.completed()
params = Path("params.yaml")
params.write_text(params.read_text().replace("dpi: 50", "dpi: 60"))
main = git.main_worktree()
with cache.files(result.commit) as (_, paths):
    weights = paths.weights.stat().st_size
print(json.dumps({
    "missing": code.count("missing"),
    "same_code": result.code == code,
    "name": result.name,
    "origin": results.origin(result.commit)[0] == git.run("rev-parse", "HEAD").strip(),
    "holds": result.commit in results.commits_with_output(result.weights),
    "changed": results.changed_files(),
    "main": None if main is None else str(main),
    "weights": weights > 0,
}))
"""


def clone(source: Checkout, folder: Path, *options: str) -> Checkout:
    source.git("clone", "--quiet", *options, source.folder.as_uri(), str(folder))
    return Checkout(folder)


def in_a_clone(source: Checkout, folder: Path) -> Checkout:
    return clone(source, folder / "é #%20 ?&")


def in_a_subfolder(source: Checkout, folder: Path) -> Checkout:
    project = clone(source, folder / "monorepo" / "project")
    shutil.rmtree(project.folder / ".git")
    top = Checkout(folder / "monorepo")
    top.git("init", "--quiet")
    top.git("add", "--all")
    top.git("commit", "--quiet", "--message", "all projects")
    return project


def in_a_linked_worktree(source: Checkout, folder: Path) -> Checkout:
    clone(source, folder / "main").git("worktree", "add", "--quiet", str(folder / "linked"), "-b", "other")
    return Checkout(folder / "linked")


def in_a_submodule(source: Checkout, folder: Path) -> Checkout:
    (folder / "super").mkdir()
    top = Checkout(folder / "super")
    top.git("init", "--quiet")
    uri = source.folder.as_uri()
    top.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", uri, "project")
    return Checkout(folder / "super" / "project")


def in_a_shallow_clone(source: Checkout, folder: Path) -> Checkout:
    return clone(source, folder / "shallow", "--depth", "1")


def on_no_branch(source: Checkout, folder: Path) -> Checkout:
    checkout = clone(source, folder / "detached")
    checkout.git("checkout", "--quiet", "--detach", "HEAD")
    return checkout


PLACES = [in_a_clone, in_a_subfolder, in_a_linked_worktree, in_a_submodule, in_a_shallow_clone, on_no_branch]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_experiments_are_read_wherever_the_project_is(
    place: Callable[[Checkout, Path], Checkout], untracked: Checkout, tmp_path: Path
) -> None:
    checkout = place(untracked, tmp_path)
    # An experiment, as DVC keeps it: a commit on top of the one that it started from, under a ref of its own.
    commit = checkout.git("commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "experiment").strip()
    head = checkout.git("rev-parse", "HEAD").strip()
    checkout.git("update-ref", f"refs/exps/{head[:2]}/{head[2:]}/one", commit)
    checkout.dvc("config", "--local", "cache.dir", str(untracked.folder / ".dvc" / "cache"))
    found = json.loads(checkout.run(sys.executable, "-c", PROGRAM, PYTHONPATH="src"))
    # The commit itself did not change dvc.lock, unless its parent is out of sight.
    found.pop("holds")
    assert found == {
        "missing": 0,
        "same_code": True,
        "name": "one",
        "origin": True,
        "changed": ["params.yaml"],
        "main": str(tmp_path / "main") if place is in_a_linked_worktree else None,
        "weights": True,
    }


def test_an_experiment_that_dvc_would_lose_in_a_shallow_clone_is_refused(untracked: Checkout, tmp_path: Path) -> None:
    checkout = in_a_shallow_clone(untracked, tmp_path)
    command = ["exp", "run", "--temp", "--name", "one", "-S", "seed=1"]
    output = checkout.dvc(*command, status=None)
    assert "\ncheck: this is a shallow clone, in which DVC loses the experiments" in output
    assert "Traceback" not in output
    study = checkout.mnistflow("study", "run", "pooling", status=1)
    assert study.splitlines()[-1].startswith("mnistflow: this is a shallow clone")
    checkout.git("fetch", "--quiet", "--unshallow")  # as it says
    shutil.copytree(untracked.folder / ".dvc" / "cache", checkout.folder / ".dvc" / "cache", dirs_exist_ok=True)
    checkout.dvc(*command)
    assert checkout.git("for-each-ref", "refs/exps").count("/one\n") == 1


def test_a_study_in_a_path_that_dvc_cannot_copy_from_is_refused(untracked: Checkout, tmp_path: Path) -> None:
    checkout = in_a_clone(untracked, tmp_path)
    output = checkout.mnistflow("study", "run", "pooling", status=1)
    assert output.splitlines()[-1].startswith(f"mnistflow: the path {checkout.folder} contains a #")
    assert not list((checkout.folder / ".mnistflow").glob("experiments/*"))


def test_a_lock_of_another_git_is_one_line(clean: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = clone(clean, tmp_path / "checkout")
    monkeypatch.chdir(checkout.folder)
    lock = checkout.folder / ".git" / "index.lock"
    lock.touch()
    with pytest.raises(ValueError, match="another git command is running here") as raised:
        git.run("checkout", "--quiet", "HEAD", "--", "params.yaml")
    assert str(lock) in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_missing_git_prerequisites_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="is not in a git repository.*git init.*core.no_scm true"):
        git.experiments()
    git.run("init", "--quiet")
    assert git.experiments() == []
    with pytest.raises(ValueError, match="there is no commit here yet"):
        git.run("rev-parse", "HEAD")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="git is not installed"):
        git.run("status")


def test_changed_files_with_odd_names_are_named_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    git.run("init", "--quiet", str(tmp_path))
    (project / "é f.txt").touch()
    (tmp_path / "other.txt").touch()
    git.run("add", "é f.txt")
    assert git.changed_files(".") == ["é f.txt"]


def test_line_endings_stay_under_autocrlf(clean: Checkout, tmp_path: Path) -> None:
    """`core.autocrlf=true` is the default of Git for Windows."""
    checkout = clone(clean, tmp_path / "checkout", "--config", "core.autocrlf=true")
    names = checkout.git("ls-files", "-z").split("\0")[:-1]
    assert len(names) > 50
    changed = [name for name in names if (checkout.folder / name).read_bytes() != (clean.folder / name).read_bytes()]
    assert changed == []


def test_a_linked_worktree_is_told_where_the_cache_is(
    untracked: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = in_a_linked_worktree(untracked, tmp_path)
    monkeypatch.chdir(checkout.folder)
    head = git.run("rev-parse", "HEAD").strip()
    own = tmp_path / "main" / ".dvc" / "cache"
    with (
        pytest.raises(ValueError, match=f"dvc config --local cache.dir '{own}'"),
        cache.files(head),
    ):
        pytest.fail("there is nothing in its cache")
    checkout.dvc("config", "--local", "cache.dir", str(untracked.folder / ".dvc" / "cache"))  # as it says
    with cache.files(head) as (_, paths):
        assert paths.weights.is_file()


@pytest.mark.parametrize("climbing", ["../../evil.png", "/evil.png"])
def test_an_experiment_that_would_write_outside_of_the_project_is_refused(
    climbing: str, untracked: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = untracked.copy(tmp_path / "checkout")
    monkeypatch.chdir(checkout.folder)
    (known,) = re.findall(r"path: metrics/figures\n +hash: md5\n +md5: (\w+)\.dir", checkout.read("dvc.lock"))
    objects = checkout.folder / ".dvc" / "cache" / "files" / "md5"
    entries = json.loads((objects / known[:2] / f"{known[2:]}.dir").read_text(encoding="utf-8"))
    manifest = json.dumps([*entries, {**entries[0], "relpath": climbing}]).encode()
    digest = hashlib.md5(manifest).hexdigest()
    (objects / digest[:2]).mkdir(exist_ok=True)
    (objects / digest[:2] / f"{digest[2:]}.dir").write_bytes(manifest)
    checkout.replace("dvc.lock", known, digest)
    checkout.git("commit", "--quiet", "--all", "--message", "evil")
    with pytest.raises(ValueError, match="would write outside of this project"), cache.files("HEAD"):
        pytest.fail("its files were brought")
