"""The console command ``mnistflow``."""

from __future__ import annotations

import argparse
import gc
import inspect
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from mnistflow import __version__
from mnistflow.cli.arguments import count, host_name, model, port, root_path
from mnistflow.cli.networks import evaluate, export, predict, serve
from mnistflow.cli.study import data_export, study_list, study_run, study_show
from mnistflow.cli.tracked import compare, promote, restore, run, track, ui
from mnistflow.cli.workspace import gate, report, show, verify
from mnistflow.config.forms import ParamsError
from mnistflow.core.text import for_terminal

__all__ = ["main"]


def main() -> None:
    """Run a command of ``mnistflow``; what the user can fix ends as one message and exit status 1."""
    gc.set_threshold(100_000)  # objects, not 700: what a command imports is not garbage
    gc.enable()
    parser = argparse.ArgumentParser(
        prog="mnistflow", description="Show, record, compare and restore the results of `dvc repro` and `dvc exp run`."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="command")
    _command(commands, "show", show)
    _command(commands, "gate", gate)
    command = _command(commands, "track", track)
    command.add_argument("--all", dest="every", action="store_true", help="also record every DVC experiment")
    _command(commands, "run", run)
    which = "a run: its id (or the start of it), its name, or the name of its DVC experiment"
    command = _command(commands, "restore", restore)
    command.add_argument("wanted", metavar="RUN", help=which)
    command = _command(commands, "compare", compare)
    command.add_argument("wanted", nargs="+", metavar="RUN", help=which)
    command.add_argument("--figure", type=Path, default=Path("compare.png"), help="output file (default: %(default)s)")
    command = _command(commands, "report", report)
    command.add_argument("--output", type=Path, default=Path("report.html"), help="output file (default: %(default)s)")
    command = _command(commands, "promote", promote)
    command.add_argument("wanted", metavar="RUN", help=which)
    _command(commands, "verify", verify)
    a_model = "a weights file, an ONNX file, an MLflow run, or models:/name@alias"
    command = _command(commands, "evaluate", evaluate)
    command.add_argument("--on", choices=["digits-uci", "photographs"], required=True, help="the test set")
    command.add_argument("--model", type=model, metavar="MODEL", help=f"{a_model} (default: the result in this folder)")
    command.add_argument("--images", type=count, metavar="N", help="use only the first N pictures (default: all)")
    command.add_argument("--json", dest="as_json", action="store_true", help="print one JSON object")
    command = _command(commands, "ui", ui)
    command.add_argument("--port", type=port, default=5000, help="port on 127.0.0.1 (default: %(default)s)")

    command = _command(commands, "predict", predict)
    command.add_argument("files", nargs="+", metavar="FILE", help="picture, folder or pattern; - for standard input")
    command.add_argument("--model", type=model, metavar="MODEL", help=f"{a_model} (default: the result in this folder)")
    command.add_argument("--one", action="store_true", help="read each picture as a single digit")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", dest="form", action="store_const", const="json", help="print one JSON object per line")
    form.add_argument("--csv", dest="form", action="store_const", const="csv", help="print one CSV row per digit")
    command.add_argument("--explain", type=Path, metavar="PNG", help="draw how the picture was read (one picture only)")
    command.set_defaults(here=Path())
    command = _command(commands, "export", export)
    command.add_argument("--format", dest="form", choices=("onnx", "pt2"), default="onnx", help="(default: onnx)")
    command.add_argument("--int8", action="store_true", help="quantise to 8-bit integers, if accuracy hardly suffers")
    command.add_argument("--model", type=model, metavar="MODEL", help=f"{a_model} (default: the result in this folder)")
    command.add_argument("--output", type=Path, help="file to write (default: models/model.onnx, .pt2 or .int8.onnx)")
    command.add_argument("--json", dest="as_json", action="store_true", help="print the result as a JSON object")

    command = _command(commands, "serve", serve)
    command.add_argument(
        "--model",
        dest="models",
        type=model,
        action="append",
        default=[],
        metavar="MODEL",
        help=f"{a_model}; repeat for several (default: the result in this folder)",
    )
    command.add_argument(
        "--recorded", type=count, default=0, metavar="N", help="serve the N runs with the best validation"
    )
    command.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; 0.0.0.0: all interfaces (default: %(default)s)"
    )
    command.add_argument(
        "--allowed-host",
        dest="allowed_hosts",
        type=host_name,
        action="append",
        default=[],
        metavar="NAME",
        help="another host name to answer to, such as that of a reverse proxy; repeat for several",
    )
    command.add_argument(
        "--root-path",
        type=root_path,
        default="",
        metavar="PATH",
        help="path prefix under which a reverse proxy serves it, such as /proxy/8000",
    )
    command.add_argument("--port", type=port, default=8000, help="0: any free port (default: %(default)s)")
    command.add_argument(
        "--max-megabytes", type=count, default=16, metavar="N", help="size of a request, in MiB (default: %(default)s)"
    )
    command.add_argument(
        "--max-pixels", type=count, default=24_000_000, metavar="N", help="pixels per picture (default: %(default)s)"
    )
    command.add_argument(
        "--max-images", type=count, default=256, metavar="N", help="images per request (default: %(default)s)"
    )
    command.add_argument(
        "--max-waiting", type=count, default=128, metavar="N", help="concurrent requests (default: %(default)s)"
    )

    data = commands.add_parser("data", help="Export data sets.").add_subparsers(required=True, metavar="command")
    command = _command(data, "export", data_export)
    command.add_argument("directory", type=Path, metavar="DIR", help="folder to write; must not exist yet, or be empty")
    command.add_argument("--dataset", metavar="NAME", help="a data set in params.yaml (default: the chosen one)")

    study = commands.add_parser("study", help="Run and show studies.").add_subparsers(required=True, metavar="command")
    _command(study, "list", study_list)
    command = _command(study, "run", study_run)
    command.add_argument("name", metavar="NAME", help="of a file in studies/")
    command.add_argument("--only", nargs="+", default=[], metavar="ENTRY", help="run only these entries")
    command.add_argument("--jobs", type=count, default=1, metavar="N", help="in parallel (default: %(default)s)")
    command.add_argument("--full", action="store_true", help="ignore the limits that entries set, such as fewer epochs")
    command = _command(study, "show", study_show)
    command.add_argument("name", metavar="NAME", help="of a file in studies/")

    arguments = vars(parser.parse_args())
    for number in (signal.SIGINT, signal.SIGTERM):  # to stop is to stop, in the background as well
        signal.signal(number, signal.default_int_handler)
    try:
        arguments.pop("function")(**_from_the_top(arguments))
        sys.stdout.flush()
    except ParamsError as error:
        sys.exit("mnistflow: params.yaml is invalid:\n" + "\n".join(f"  {problem}" for problem in error.problems))
    except BrokenPipeError:  # whoever read it, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except (ValueError, OSError) as error:
        sys.exit("mnistflow: " + "\n".join(map(for_terminal, str(error).split("\n"))))
    except KeyboardInterrupt:
        print("\nmnistflow: interrupted", file=sys.stderr)
        sys.exit(130)


def _from_the_top(arguments: dict[str, object]) -> dict[str, object]:
    """Go to the folder of the project, from wherever in it, and keep the paths among the arguments what they were."""
    working = Path.cwd()
    top = next((folder for folder in (working, *working.parents) if (folder / "dvc.yaml").is_file()), None)
    if top is None:
        raise ValueError(f"there is no dvc.yaml in {working} or above it; run this in a clone of the project")
    if top == working:
        return arguments
    os.chdir(top)
    return {name: _from(working, value) for name, value in arguments.items()}


def _from(here: Path, value: object) -> object:
    if isinstance(value, list):
        return [_from(here, part) for part in value]
    return here / value if isinstance(value, Path) else value


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, function: Callable[..., None]
) -> argparse.ArgumentParser:
    """Add a command that calls a function, and says of itself what its docstring says.

    Python leaves docstrings out with -OO; the commands and their options stay.
    """
    text = inspect.getdoc(function) or name
    command = commands.add_parser(name, help=text.splitlines()[0], description=text)
    command.set_defaults(function=function)
    return command
