"""Faults around a project: full and read-only disks, a clock that goes back, another PyTorch, two users."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import OWN_IMPORTS, Checkout, lacking
from faults import HANGS, assert_whole, attempt, digests, remove_outputs, stage_command, start, until
from mlflow import MlflowClient

from mnistflow.pipeline import fork_server

Mounted = Callable[[Path, str], Callable[[], None]]


def interrupted(checkout: Checkout) -> dict[str, str]:
    """Train in twelve epochs, once to the end and once until the third, or later; what the whole training leaves."""
    checkout.replace("params.yaml", "epochs: 2", "epochs: 12")
    remove_outputs(checkout, "train")
    checkout.run(*stage_command("train"))
    expected = digests(checkout, "train")
    remove_outputs(checkout, "train")
    tried = attempt(checkout, stage_command("train"), begins="epoch 2/12", kill=signal.SIGTERM)
    assert tried.status == 128 + signal.SIGTERM, tried.output
    return expected


def test_a_full_cache_fails_in_one_line_and_costs_nothing(workspace: Checkout, mounted: Mounted) -> None:
    workspace.replace("params.yaml", "dpi: 50", "dpi: 51")
    unmount = mounted(workspace.folder / ".dvc" / "cache", "size=32k")
    output = workspace.dvc("repro", status=None)
    assert "No space left on device" in output
    assert "Traceback" not in output
    assert_whole(workspace)
    unmount()
    workspace.dvc("repro")
    assert workspace.dvc("status").strip() == "Data and pipelines are up to date."


def test_a_full_disk_fails_in_one_line_and_costs_nothing(untracked: Checkout, tmp_path: Path, mounted: Mounted) -> None:
    folder = tmp_path / "disk"
    used = sum(path.lstat().st_blocks * 512 for path in untracked.folder.rglob("*"))
    mounted(folder, f"size={used + 400_000}")
    checkout = untracked.copy(folder / "checkout")
    checkout.replace("params.yaml", "seed: 0", "seed: 1")
    output = checkout.dvc("repro", status=None)
    assert "No space left on device" in output
    assert "Traceback" not in output
    assert_whole(checkout)
    subprocess.run(["mount", "-o", "remount,size=1g", folder], check=True)
    checkout.dvc("repro")
    assert_whole(checkout)
    assert checkout.dvc("status").strip() == "Data and pipelines are up to date."


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["show"], 0),
        (["compare", "lenet5 · default", "with-mlp"], 1),
        (["report", "--output", "OUT/report.html"], 0),
        (["export", "--output", "OUT/model.onnx"], 0),
        (["predict", "OUT/picture.png"], 0),
        (["report"], 1),
        (["export"], 1),
        (["track", "--all"], 1),
        (["promote", "with-mlp"], 1),
        (["restore", "with-mlp"], 1),
        (["study", "run", "seeds"], 1),
        (["run"], None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_commands_in_a_read_only_project(
    arguments: list[str], status: int | None, read_only: Checkout, tmp_path: Path
) -> None:
    shutil.copy(read_only.folder / "metrics" / "figures" / "samples.png", tmp_path / "picture.png")
    output = read_only.mnistflow(*(argument.replace("OUT", str(tmp_path)) for argument in arguments), status=status)
    assert "Traceback" not in output
    if status == 1:
        assert "read-only" in output.splitlines()[-1].lower(), output


@pytest.fixture(scope="module")
def read_only(compared: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """A project with a result and an experiment, which nobody can write to."""
    checkout = compared.copy(tmp_path_factory.mktemp("read-only") / "checkout")
    checkout.git("checkout", "--quiet", "--", "params.yaml", "dvc.lock", "metrics")  # back to the first result
    bound = ["mount", "--bind", str(checkout.folder), str(checkout.folder)]
    done = subprocess.run(bound, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lacking(f"needs root, to make a folder read-only: {done.stderr.strip()}")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", checkout.folder], check=True)
        yield checkout
    finally:
        subprocess.run(["umount", checkout.folder], check=True)


def test_a_clock_that_goes_back_changes_no_result(workspace: Checkout, finished: Checkout, tmp_path: Path) -> None:
    if shutil.which("faketime") is None:
        lacking("needs faketime; on Debian: apt-get install faketime")
    earlier = ["faketime", "--exclude-monotonic", "-f", "-2d"]
    expected = interrupted(workspace)
    output = workspace.run(*earlier, *stage_command("train"), MNISTFLOW_FORK_SERVER="")
    assert "train: resumes after" in output, output
    assert digests(workspace, "train") == expected

    recorded = finished.copy(tmp_path / "recorded")
    recorded.replace("params.yaml", "epochs: 2", "epochs: 3")
    process = start(recorded, ["dvc", "repro"])
    until(process, "epoch 1/3")
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=HANGS)
    output = recorded.run("env", "-u", fork_server.NAME, *earlier, "dvc", "repro")
    assert "tracking: warning" not in output
    assert recorded.dvc("status").strip() == "Data and pipelines are up to date."
    client = MlflowClient(f"sqlite:///{recorded.folder / 'mlflow.db'}")
    newest, older = client.search_runs(["1"], order_by=["start_time DESC"])
    for run in (newest, older):
        assert run.info.status == "FINISHED"
        assert run.info.end_time >= run.info.start_time
    assert {run.info.run_name for run in (newest, older)} == {"lenet5 · default", "lenet5 · default epochs=3"}


def test_a_checkpoint_of_another_pytorch_is_not_resumed(workspace: Checkout, tmp_path: Path) -> None:
    expected = interrupted(workspace)
    described = tmp_path / "torch-99.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 99.0\n", encoding="utf-8")
    output = workspace.run(*stage_command("train"), PYTHONPATH=str(tmp_path), MNISTFLOW_FORK_SERVER="")
    assert "resumes" not in output
    output = workspace.run(*stage_command("train"))  # that of this one is still there
    assert "train: resumes after" in output, output
    assert digests(workspace, "train") == expected


SOMEBODY = 65534  # the user and group "nobody" of every Linux


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A temporary folder that every user may look into."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def somebody(open_folder: Path) -> list[str]:
    """How a command is run as another user of this machine, who can run this Python."""
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        lacking("needs root and setpriv, to become another user")
    other = ["setpriv", f"--reuid={SOMEBODY}", f"--regid={SOMEBODY}", "--clear-groups"]
    if subprocess.run([*other, sys.executable, "-c", "import yaml"], check=False, capture_output=True).returncode:
        pytest.skip(f"another user cannot run {sys.executable}")
    return other


def test_results_do_not_depend_on_the_user(finished: Checkout, open_folder: Path, somebody: list[str]) -> None:
    checkout = finished.copy(open_folder / "checkout")
    before = {path: path.lstat().st_mtime_ns for path in checkout.folder.rglob("*") if path.is_file()}
    home = {"HOME": str(open_folder), "PYTHONPATH": "src", "PYTHONDONTWRITEBYTECODE": "1", **OWN_IMPORTS}
    for command in (
        ["dvc", "repro"],
        [sys.executable, "-m", "mnistflow", "track", "--all"],
        [sys.executable, "-m", "mnistflow", "restore", "x"],
        [sys.executable, "stages/train.py"],
    ):
        output = checkout.run(*somebody, *command, status=None, **home)
        assert "Traceback" not in output, output
    assert {path: path.lstat().st_mtime_ns for path in checkout.folder.rglob("*") if path.is_file()} == before


# As `umask 002; python stages/train.py`, without a shell, which another user might not start this Python from.
SHARING = """
import os, runpy, sys
sys.path.insert(0, "stages")
os.umask(0o002)
runpy.run_path("stages/train.py", run_name="__main__")
"""


def test_two_users_of_one_group_share_checkpoints(untracked: Checkout, open_folder: Path, somebody: list[str]) -> None:
    checkout = untracked.copy(open_folder / "checkout")
    checkout.environment |= {"HOME": str(open_folder), **OWN_IMPORTS}
    checkout.run("chgrp", "-R", str(SOMEBODY), ".")
    checkout.run("chmod", "-R", "g+rwXs", ".")
    kept = checkout.folder / ".mnistflow" / "checkpoints"
    train = [sys.executable, "-c", SHARING]
    users = {"root": ["setpriv", f"--regid={SOMEBODY}", "--clear-groups", *train], "somebody": [*somebody, *train]}

    def trained(user: str, epochs: int) -> str:
        """Train until it has gone on from a checkpoint, or come to the end of the second epoch; then stop it."""
        text = checkout.read("params.yaml")
        (checkout.folder / "params.yaml").write_text(
            re.sub(r"epochs: (2|400|401)\b", f"epochs: {epochs}", text, count=1)
        )
        process = start(checkout, users[user])
        printed = until(process, f"epoch 2/{epochs}")
        os.killpg(process.pid, signal.SIGTERM)
        printed += process.communicate(timeout=HANGS)[0]
        assert f"epoch 2/{epochs}" in printed or "resumes after" in printed, printed
        assert "train: interrupted; after" in printed, printed
        assert "Traceback" not in printed
        return printed

    for user, epochs, resumed in (
        ("root", 400, False), ("somebody", 401, False), ("somebody", 400, True), ("root", 401, True)
    ):  # fmt: skip
        printed = trained(user, epochs)
        assert ("resumes after" in printed) == resumed, printed
        assert "warning" not in printed

    (checkpoint,) = [path for path in kept.glob("*.safetensors") if path.stat().st_uid == 0]
    checkpoint.chmod(0o600)  # as a umask of 077 leaves it
    printed = trained("somebody", 401)
    assert "resumes after" not in printed
    assert f"warning: the checkpoint is not used: [Errno 13] Permission denied: '{checkpoint}'" in printed
    assert not list(kept.glob("*.damaged"))
