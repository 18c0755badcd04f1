"""What several test modules share: real data, and real checkouts with the real DVC in them."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import pytest
import torch
from filelock import FileLock
from numpy.typing import NDArray

from mnistflow import models
from mnistflow.config.params import load
from mnistflow.core import devices
from mnistflow.core.tensors import Split
from mnistflow.data import datasets, preprocessing
from mnistflow.data.datasets.mnist import SHA256
from mnistflow.export import formats
from mnistflow.pipeline import fork_server
from mnistflow.tracking.relocation import relocate
from mnistflow.training.assembly import assemble
from mnistflow.training.certainty import certainty_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parents[1]

Splits = tuple[Split, Split, Split]

STAGES = ["check", "download", "preprocess", "train", "evaluate", "plot"]

OWN_IMPORTS = {fork_server.NAME: ""}  # in an environment that decides how a process imports, or while it does
COMMAND = str(Path(__file__).with_name("command.py"))
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", metavar="DIR", help="show the UI over the runs of this clone, and take pictures")


def pytest_collection_finish() -> None:
    # Tests look through no more of what is imported for garbage than a command does.
    gc.freeze()
    gc.set_threshold(100_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # What runs the pipeline takes most of the time. It comes first, the longest (of test_tracking) before the others;
    # with `--dist loadgroup` each process of xdist takes the next one, so that none is left alone in the end. While one
    # of them makes the finished checkout, the others take what does not need it.
    runs = [item for item in reversed(items) if {"clean", "shown"} & set(getattr(item, "fixturenames", ()))]
    runs.sort(key=lambda item: "finished" in getattr(item, "fixturenames", ()))
    items[:] = [*runs, *(item for item in items if item not in runs)]
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="there is no CUDA device on this machine"))


def lacking(message: str) -> NoReturn:
    """Skip a test that this machine has not what it needs for; in CI, where all is to be had, it fails."""
    if "CI" in os.environ:
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(autouse=True)
def as_processors_come() -> Iterator[None]:
    """What a test makes of the smallest numbers is not for the next one."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    """scikit-learn's digits as training (1,293 images), validation (144) and test split (360)."""
    folder = tmp_path_factory.mktemp("digits")
    dataset = datasets.build("digits", {})
    dataset.fetch(folder, timeout=1)
    return preprocessing.prepare(
        dataset.read(folder),
        dataset="digits",
        validation_size=0.1,
        normalize="standard",
        pad=0,
        seed=0,
        device=torch.device("cpu"),
    )


@pytest.fixture(scope="session")
def mnist_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The four real files of MNIST: those that `make repro` left, or fetched."""
    here = ROOT / "data" / "raw" / "mnist"
    if not all((here / "MNIST" / "raw" / name).is_file() for name in SHA256):
        here = tmp_path_factory.mktemp("mnist")
        try:
            datasets.build("mnist", {}).fetch(here, timeout=10)
        except ValueError as error:
            lacking(f"needs MNIST: {error}")
    return here / "MNIST" / "raw"


def _session() -> int:
    """The process of the test session, which starts those of xdist."""
    return os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()


class Checkout:
    """A git checkout of this project, with its working-tree state, in a folder of its own.

    Its stages, and the commands of :meth:`mnistflow`, are forked from one process that has imported what they need, as
    the stages of a study are; but for those that run with :data:`OWN_IMPORTS`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        unwanted = ("DVC_", "MLFLOW_", "PYTHON", "GIT_")
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith(unwanted)}
        self.environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{self.environment['PATH']}"
        self.environment |= {
            "OMP_WAIT_POLICY": "PASSIVE",  # threads that wait for work leave the cores to the other tests; same bits
            "GIT_AUTHOR_NAME": "test",
            "GIT_AUTHOR_EMAIL": "test@example.org",
            "GIT_COMMITTER_NAME": "test",
            "GIT_COMMITTER_EMAIL": "test@example.org",
            fork_server.NAME: fork_server.name_of(_session()),
        }

    def run(self, *command: str, status: int | None = 0, **environment: str) -> str:
        """Run a command there and return what it printed; its exit status must be as given (None: any but 0)."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        as_wanted = done.returncode != 0 if status is None else done.returncode == status
        assert as_wanted, f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def dvc(self, *arguments: str, status: int | None = 0, **environment: str) -> str:
        return self.run("dvc", *arguments, status=status, **environment)

    def mnistflow(self, *arguments: str, status: int | None = 0) -> str:
        return self.run(sys.executable, COMMAND, *arguments, status=status)

    def git(self, *arguments: str) -> str:
        return self.run("git", *arguments)

    def read(self, path: str) -> str:
        return (self.folder / path).read_text(encoding="utf-8")

    def replace(self, path: str, old: str, new: str) -> None:
        """Change a file; the old text must be there."""
        text = self.read(path)
        assert old in text, f"{path} has no {old!r}"
        (self.folder / path).write_text(text.replace(old, new, 1), encoding="utf-8")

    def copy(self, folder: Path) -> Checkout:
        """Another checkout with the same state, DVC's cache included; its store is its own, as after its first use."""
        shutil.copytree(self.folder, folder, symlinks=True)
        with contextlib.redirect_stderr(io.StringIO()):
            relocate(folder / "mlflow.db", folder.resolve())
        return Checkout(folder)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real browser; where there is none what needs it is skipped, but not in CI."""
    from playwright.sync_api import sync_playwright  # here, because tests of networks run without it

    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        lacking(f"needs a browser, one of {', '.join(BROWSERS)}; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        sandbox = os.getuid() != 0  # Chromium has none for root
        window = playwright.chromium.launch(executable_path=found, chromium_sandbox=sandbox)
        yield window
        window.close()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def answering(
    command: list[str], address: str, folder: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A server, run in a folder, from when it answers at an address; ended with the block."""
    # Without the eight processes of MLflow's that wait for jobs of language models.
    environment = {**environment, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            for _ in range(2000):
                with contextlib.suppress(OSError), urllib.request.urlopen(address):
                    break
                with contextlib.suppress(subprocess.TimeoutExpired):
                    log.seek(0)
                    pytest.fail(f"the server ended with status {process.wait(0.1)}: {log.read().decode()}")
            else:
                log.seek(0)
                pytest.fail(f"the server does not answer: {log.read().decode()}")
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def mounted() -> Iterator[Callable[[Path, str], Callable[[], None]]]:
    """Mounts a file system in memory over a folder, with options (a disk that is small, or read-only), and gives what
    takes it away again."""
    with contextlib.ExitStack() as stack:

        def mount(folder: Path, options: str) -> Callable[[], None]:
            folder.mkdir(parents=True, exist_ok=True)
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", options, "none", folder], capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                lacking(f"needs root, to mount a small disk: {done.stderr.strip()}")
            one = stack.enter_context(contextlib.ExitStack())
            one.callback(lambda: subprocess.run(["umount", folder], check=True))
            return one.close

        yield mount


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the processes of pytest-xdist share, for what only one of them makes."""
    here = tmp_path_factory.getbasetemp()
    folder = (here.parent if "PYTEST_XDIST_WORKER" in os.environ else here) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


def made_once(folder: Path, make: Callable[[Checkout], None]) -> Checkout:
    """A checkout in a folder, by the first process that comes; the others wait for it."""
    checkout, done = Checkout(folder), folder.with_suffix(".done")
    with FileLock(folder.with_suffix(".lock")):
        if not done.exists():
            make(checkout)
            done.touch()
    return checkout


@pytest.fixture(scope="session")
def clean(shared: Path) -> Checkout:
    """A fresh checkout, nothing run in it; digits for two epochs, so that a run takes seconds. Not to be changed."""
    return made_once(shared / "clean", _bring_clean)


def _bring_clean(checkout: Checkout) -> None:
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file() and name != "dvc.lock" and not name.startswith("metrics/"):
            (checkout.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, checkout.folder / name)
    if (process := fork_server.start(_session(), checkout.environment)) is not None:
        process.returncode = 0  # nobody waits for it: it ends with the session
    checkout.replace("params.yaml", "dataset: mnist", "dataset: digits")
    checkout.replace("params.yaml", "epochs: 6", "epochs: 2")
    checkout.replace("params.yaml", "dpi: 110", "dpi: 50")
    checkout.git("init", "--quiet")
    checkout.git("add", "--all")
    checkout.git("commit", "--quiet", "--message", "clean")


@pytest.fixture(scope="session")
def finished(clean: Checkout, shared: Path) -> Checkout:
    """A checkout in which `dvc repro` has run, and its result is committed. Not to be changed: take a copy."""

    def make(checkout: Checkout) -> None:
        clean.copy(checkout.folder)
        output = checkout.dvc("repro")
        assert "tracking: warning" not in output, output
        checkout.git("add", "--all")
        checkout.git("commit", "--quiet", "--message", "result")

    return made_once(shared / "finished", make)


@pytest.fixture(scope="session")
def compared(finished: Checkout, shared: Path) -> Checkout:
    """The finished checkout after an experiment with another model, `with-mlp`. Not to be changed."""

    def make(checkout: Checkout) -> None:
        finished.copy(checkout.folder)
        output = checkout.dvc("exp", "run", "-S", "model=mlp", "--name", "with-mlp")
        assert "tracking: warning" not in output, output

    return made_once(shared / "compared", make)


@pytest.fixture(scope="session")
def untracked(finished: Checkout, shared: Path) -> Checkout:
    """The finished checkout with MLflow off, which takes most of a small run. Not to be changed."""

    def make(checkout: Checkout) -> None:
        finished.copy(checkout.folder)
        checkout.replace("params.yaml", "enabled: true", "enabled: false")
        checkout.dvc("repro", "check")
        checkout.git("commit", "--quiet", "--all", "--message", "untracked")

    return made_once(shared / "untracked", make)


@pytest.fixture(scope="session")
def serving(clean: Checkout, mnist_folder: Path, shared: Path) -> Checkout:
    """A checkout with two networks that read MNIST, `fast.safetensors` (about 99 %), which has seen outliers, and
    `mlp.safetensors` (97 %), trained here for three epochs and for one."""

    def make(checkout: Checkout) -> None:
        clean.copy(checkout.folder)
        published = datasets.build("mnist", {}).read(mnist_folder.parents[1])
        train, validation, _ = preprocessing.prepare(
            published,
            dataset="mnist",
            validation_size=0.1,
            normalize="standard",
            pad=0,
            seed=0,
            device=torch.device("cpu"),
        )
        changes = {"epochs": 3, "drawn_digits": 4000, "outliers": 8000}
        _train("fast", "fast994", changes, train, validation, checkout.folder / "fast.safetensors")
        _train("mlp", "default", {"epochs": 1}, train, validation, checkout.folder / "mlp.safetensors")
        # Their graphs are made in a process that ends: a server that makes them keeps PyTorch in its memory.
        program = (
            "from mnistflow.serving.catalogue import open_predictor\n"
            "open_predictor('fast.safetensors')\nopen_predictor('mlp.safetensors')"
        )
        checkout.run(sys.executable, "-c", program, PYTHONPATH="src")

    return made_once(shared / "serving", make)


def _train(name: str, recipe_name: str, changes: dict[str, int], train: Split, validation: Split, path: Path) -> None:
    """A network of params.yaml, by a recipe of it with changes."""
    params = load(ROOT / "params.yaml")
    block, recipe = params.models[name], params.recipes[recipe_name]
    generator = devices.seeded(0, 2, torch.device("cpu"))
    model = models.build(block.architecture, train.image_shape, len(train.inputs.classes), block.arguments)
    others = {"augment": None, "precision": "fp32", "keep": "last"}
    training = assemble(model, train, generator, **recipe.arguments | others | changes)
    for _ in training.events():
        pass
    about = (block.architecture, block.arguments, train.image_shape, train.inputs, recipe.loss)
    models.save(path, model, models.ModelMetadata(*about, *certainty_of(model, validation, recipe.loss)))


@pytest.fixture
def workspace(untracked: Checkout, tmp_path: Path) -> Checkout:
    """A copy of the finished checkout, to be changed at will; MLflow is off in it."""
    return untracked.copy(tmp_path / "checkout")


@pytest.fixture
def recorded(finished: Checkout, tmp_path: Path) -> Checkout:
    """A copy of the finished checkout, to be changed at will; its runs are recorded in the copy."""
    return finished.copy(tmp_path / "checkout")


Network = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@pytest.fixture(scope="session")
def reads_digits(serving: Checkout) -> Network:
    """A network that was trained for seconds on real digits: (N, 28, 28) uint8 to (N, 10)."""
    probabilities = formats.eager(serving.folder / "fast.safetensors")
    return lambda images: probabilities(np.array(images))  # PyTorch wants arrays that can be written to
