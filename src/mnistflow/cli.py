"""The console command ``mnistflow``."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import cast

from mnistflow import __version__
from mnistflow.files import project_root, read_json
from mnistflow.params import ParamsError, load, nearest
from mnistflow.paths import Paths

__all__ = ["main"]

NEXT = """\
Next:
  make ui                                    compare runs in the browser
  {activate}
  dvc exp run -S model=mlp                   another model
  dvc exp run -S recipes.default.epochs=3    another training
  dvc exp run -S dataset=digits -S recipes.default.epochs=60    another data set, without a network
  dvc exp show                               all experiments in the terminal
"""


def main() -> None:
    """Run a command of ``mnistflow``; what the user can mend ends as one message and exit status 1."""
    parser = argparse.ArgumentParser(prog="mnistflow", description="Look at and record what `dvc repro` made.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="command")
    for function in (show, track, ui):
        name, text = function.__name__, str(function.__doc__).splitlines()[0]
        command = commands.add_parser(name, help=text, description=function.__doc__)
        command.set_defaults(function=function)
        if function is ui:
            command.add_argument("--port", type=int, default=5000, help="on 127.0.0.1 (default: %(default)s)")
    data = commands.add_parser("data", help="Data sets as files.").add_subparsers(required=True, metavar="command")
    command = data.add_parser("export", help=str(export.__doc__).splitlines()[0], description=export.__doc__)
    command.set_defaults(function=export)
    command.add_argument("directory", type=Path, metavar="DIR", help="a folder that does not exist yet, or is empty")
    command.add_argument("--dataset", metavar="NAME", help="a block under datasets (default: the chosen data set)")
    arguments = vars(parser.parse_args())
    try:
        arguments.pop("function")(**arguments)
    except ParamsError as error:
        sys.exit("mnistflow: params.yaml is wrong:\n" + "\n".join(f"  {problem}" for problem in error.problems))
    except (ValueError, OSError) as error:
        sys.exit(f"mnistflow: {error}")
    except KeyboardInterrupt:
        print("\nmnistflow: interrupted", file=sys.stderr)
        sys.exit(130)


def show() -> None:
    """Print the result in this folder, and what to try next."""
    paths = Paths.load()
    if not paths.test_metrics.is_file():
        raise ValueError("there is no result in this folder yet; `dvc repro` (or `make repro`) makes one")
    data, train, test = (read_json(path) for path in (paths.data_metrics, paths.train_metrics, paths.test_metrics))
    accuracy, images = float(cast(float, test["accuracy"])), int(cast(int, test["images"]))
    lines = {
        "test accuracy": f"{accuracy:.2%} ({round(images * (1 - accuracy)):,} of {images:,} wrong), "
        f"mean loss {test['loss']:.4f}",
        "validation accuracy": "not monitored"
        if train["val_accuracy"] is None
        else f"{train['val_accuracy']:.2%} after epoch {train['kept_epoch']} of {train['epochs']}",
        "network": f"{train['parameters']:,} parameters, trained on {train['device']}",
        "weights": str(paths.weights),
        "figures": f"{paths.figures}{os.sep}*.png",
    }
    print(f"\n{train['model']} · {train['recipe']} on {data['dataset']}")
    for name, text in lines.items():
        print(f"  {name:<20} {text}")
    activate = os.path.relpath(Path(sys.prefix, "bin", "activate"))
    print("\n" + NEXT.format(activate=f". {activate:<40} then:"), end="")


def track() -> None:
    """Record the result in this folder in MLflow, if it is not recorded yet."""
    from mnistflow import models, tracking  # here, because they take seconds to import

    params, paths = load(), Paths.load()
    if not params.tracking.enabled:
        raise ValueError("tracking.enabled in params.yaml is false; `mnistflow track` needs true")
    with tracking.lock("track"):  # dvc status refuses to run twice at once
        # What is recorded is the params, so they must be those that the files were made with.
        command = [sys.executable, "-m", "dvc", "status", "preprocess", "train", "evaluate", "plot"]
        status = subprocess.run(command, capture_output=True, text=True, check=False)
        if status.returncode != 0 or "up to date" not in status.stdout:
            said = (status.stdout or status.stderr).strip()
            raise ValueError(
                f"the result in this folder is not that of its params and code; `dvc repro` first:\n{said}"
            )
        _, card = models.load(paths.weights)
        with tracking.recording(params, paths, card.determinants) as record:
            record.figures()
    if record.failure is not None:
        sys.exit(1)
    print(f"recorded as run {record.run_id} in {tracking.store_uri(params.tracking)}")


def ui(port: int) -> None:
    """Open the MLflow UI over this project's runs, on 127.0.0.1."""
    from mnistflow.tracking import store_uri

    uri = store_uri(load().tracking)
    if uri.startswith("http"):
        raise ValueError(f"runs are recorded on a server, which has its own UI: {uri}")
    os.chdir(project_root())
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri]
    os.execv(sys.executable, [*command, "--host", "127.0.0.1", "--port", str(port)])


def export(directory: Path, dataset: str | None) -> None:
    """Write a data set as a folder of PNG images: DIR/train/<class>/*.png and DIR/test/<class>/*.png."""
    from mnistflow import datasets  # here, because they take seconds to import
    from mnistflow.check import dataset_problems
    from mnistflow.datasets.folder import write_folder

    params, paths = load(), Paths.load()
    name = dataset or params.dataset
    if name not in params.datasets:
        raise ValueError(f"there is no data set {name!r}; {nearest(name, params.datasets)}")
    if found := dataset_problems(name, params.datasets[name], build=True):
        raise ParamsError(found)
    chosen = datasets.build(name, params.datasets[name])
    chosen.fetch(paths.raw / name, params.download.timeout)
    published = chosen.read(paths.raw / name)
    write_folder(published, directory)
    train, test, classes = published
    print(f"{name}: {len(train.labels):,} training and {len(test.labels):,} test images of {len(classes)} classes in")
    print(f"  {directory}\n\nNext:")
    settings = ["dataset=folder", f"datasets.folder.path={directory}"]
    if (side := train.images.shape[-1]) != params.datasets.get("folder", {}).get("size"):
        settings.append(f"datasets.folder.size={side}")
    print("  dvc exp run " + " ".join(f"-S {shlex.quote(setting)}" for setting in settings))
