"""The console command ``mnistflow``."""

from __future__ import annotations

import argparse
import contextlib
import csv
import gc
import inspect
import json
import os
import re
import shlex
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mnistflow import __version__
from mnistflow.files import project_root, read_json, read_yaml
from mnistflow.params import ParamsError, load, nearest
from mnistflow.paths import Paths
from mnistflow.text import for_spreadsheet, for_terminal

if TYPE_CHECKING:  # its own imports take seconds
    from tqdm import tqdm

    from mnistflow.studies import Experiment, Study

__all__ = ["main"]

MANY = 20  # files, from which on a bar shows how far it is

NEXT = """\
Next:
  make ui                                    compare runs in the browser
  {activate}
  dvc exp run -S model=mlp                   another model
  dvc exp run -S recipes.default.epochs=3    another training
  dvc exp run -S dataset=digits -S recipes.default.epochs=60
                                             another data set, without a network
  dvc exp show                               all experiments in the terminal
  mnistflow study list                       questions that many experiments answer together
"""


def main() -> None:
    """Run a command of ``mnistflow``; what the user can mend ends as one message and exit status 1."""
    gc.set_threshold(100_000)  # objects, not 700: what a command imports is no garbage
    gc.enable()
    parser = argparse.ArgumentParser(
        prog="mnistflow", description="Look at, record, compare and bring back what `dvc repro` and `dvc exp run` made."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="command")
    _command(commands, "show", show)
    _command(commands, "gate", gate)
    command = _command(commands, "track", track)
    command.add_argument("--all", dest="every", action="store_true", help="every DVC experiment as well")
    _command(commands, "run", run)
    which = "its id (or the beginning of it), its name, or the name of its DVC experiment"
    command = _command(commands, "restore", restore)
    command.add_argument("wanted", metavar="RUN", help=which)
    command = _command(commands, "compare", compare)
    command.add_argument("wanted", nargs="+", metavar="RUN", help=which)
    command.add_argument("--figure", type=Path, default=Path("compare.png"), help="(default: %(default)s)")
    command = _command(commands, "report", report)
    command.add_argument("--output", type=Path, default=Path("report.html"), help="(default: %(default)s)")
    command = _command(commands, "promote", promote)
    command.add_argument("wanted", metavar="RUN", help=which)
    _command(commands, "verify", verify)
    a_model = "a file with weights or an ONNX graph, an MLflow run, or models:/name@alias"
    command = _command(commands, "evaluate", evaluate)
    command.add_argument("--on", choices=["digits-uci", "photographs"], required=True, help="which pictures")
    command.add_argument(
        "--model", type=_model, metavar="MODEL", help=f"{a_model} (default: the result in this folder)"
    )
    command.add_argument("--images", type=_count, metavar="N", help="no more than so many (default: all)")
    command.add_argument("--json", dest="as_json", action="store_true", help="as one JSON object")
    command = _command(commands, "ui", ui)
    command.add_argument("--port", type=_port, default=5000, help="on 127.0.0.1 (default: %(default)s)")

    command = _command(commands, "predict", predict)
    command.add_argument("files", nargs="+", metavar="FILE", help="pictures, folders, patterns; - for standard input")
    command.add_argument(
        "--model", type=_model, metavar="MODEL", help=f"{a_model} (default: the result in this folder)"
    )
    command.add_argument("--one", action="store_true", help="each picture is one digit")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", dest="form", action="store_const", const="json", help="a JSON object on each line")
    form.add_argument("--csv", dest="form", action="store_const", const="csv", help="a row for each digit")
    command.add_argument("--explain", type=Path, metavar="PNG", help="draw how the one picture was read")
    command.set_defaults(here=Path())
    command = _command(commands, "export", export)
    command.add_argument("--format", dest="form", choices=("onnx", "pt2"), default="onnx", help="(default: onnx)")
    command.add_argument("--int8", action="store_true", help="in whole numbers, if that costs next to no accuracy")
    command.add_argument(
        "--model", type=_model, metavar="MODEL", help=f"{a_model} (default: the result in this folder)"
    )
    command.add_argument("--output", type=Path, help="(default: models/model.onnx, .pt2 or .int8.onnx)")
    command.add_argument("--json", dest="as_json", action="store_true", help="say it as a JSON object")

    command = _command(commands, "serve", serve)
    command.add_argument(
        "--model",
        dest="models",
        type=_model,
        action="append",
        default=[],
        metavar="MODEL",
        help=f"{a_model}; again for another one (default: the result in this folder)",
    )
    command.add_argument("--recorded", type=_count, default=0, metavar="N", help="the N best recorded runs as well")
    command.add_argument(
        "--host", default="127.0.0.1", help="0.0.0.0: everybody who reaches this machine (default: %(default)s)"
    )
    command.add_argument(
        "--allowed-host",
        dest="allowed_hosts",
        type=_host_name,
        action="append",
        default=[],
        metavar="NAME",
        help="a further name that it is called by, of a reverse proxy for example; again for another one",
    )
    command.add_argument(
        "--root-path",
        type=_root_path,
        default="",
        metavar="PATH",
        help="the prefix that a reverse proxy serves it under: /proxy/8000",
    )
    command.add_argument("--port", type=_port, default=8000, help="0: any that is free (default: %(default)s)")
    command.add_argument(
        "--most-megabytes", type=_count, default=16, metavar="N", help="of a request (default: %(default)s)"
    )
    command.add_argument(
        "--most-pixels", type=_count, default=24_000_000, metavar="N", help="of a picture (default: %(default)s)"
    )
    command.add_argument(
        "--most-images", type=_count, default=256, metavar="N", help="in a request (default: %(default)s)"
    )
    command.add_argument(
        "--most-waiting", type=_count, default=128, metavar="N", help="requests at once (default: %(default)s)"
    )

    data = commands.add_parser("data", help="Data sets as files.").add_subparsers(required=True, metavar="command")
    command = _command(data, "export", data_export)
    command.add_argument("directory", type=Path, metavar="DIR", help="a folder that does not exist yet, or is empty")
    command.add_argument("--dataset", metavar="NAME", help="a block under datasets (default: the chosen data set)")

    study = commands.add_parser("study", help="Sets of experiments.").add_subparsers(required=True, metavar="command")
    _command(study, "list", study_list)
    command = _command(study, "run", study_run)
    command.add_argument("name", metavar="NAME", help="of a file in studies/")
    command.add_argument("--only", nargs="+", default=[], metavar="ENTRY", help="no other entries")
    command.add_argument("--jobs", type=_count, default=1, metavar="N", help="at once (default: %(default)s)")
    command.add_argument("--full", action="store_true", help="in full, where an entry has a limit otherwise")
    command = _command(study, "show", study_show)
    command.add_argument("name", metavar="NAME", help="of a file in studies/")

    arguments = vars(parser.parse_args())
    for number in (signal.SIGINT, signal.SIGTERM):  # to stop is to stop, in the background as well
        signal.signal(number, signal.default_int_handler)
    try:
        arguments.pop("function")(**_from_the_top(arguments))
        sys.stdout.flush()
    except ParamsError as error:
        sys.exit("mnistflow: params.yaml is wrong:\n" + "\n".join(f"  {problem}" for problem in error.problems))
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
    here = Path.cwd()
    top = next((folder for folder in (here, *here.parents) if (folder / "dvc.yaml").is_file()), None)
    if top is None:
        raise ValueError(f"there is no dvc.yaml in {here} or above it; run this in a clone of the project")
    if top == here:
        return arguments
    os.chdir(top)
    return {name: _from(here, value) for name, value in arguments.items()}


def _from(here: Path, value: object) -> object:
    if isinstance(value, list):
        return [_from(here, each) for each in value]
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


def show() -> None:
    """Print the result in this folder, and what to try next."""
    paths = _with_result()
    data = read_json(paths.data_metrics, "dataset")
    train = read_json(
        paths.train_metrics, "model", "recipe", "parameters", "epochs", "kept_epoch", "val_accuracy", "device"
    )
    test = read_json(paths.test_metrics, "accuracy", "loss", "images")
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


def gate() -> None:
    """Hold the result in this folder against evaluate.gates in params.yaml; exit status 1 if it misses one.

    A command and no stage: DVC records no experiment whose stage fails.
    """
    from mnistflow import gates

    paths = _with_result()
    verdicts = gates.judge(load().evaluate.gates, {**read_json(paths.data_metrics), **read_json(paths.test_metrics)})
    if not verdicts:
        print("no gate is set; evaluate.gates in params.yaml has those there are")
        return
    print("\n".join(map(str, verdicts)), flush=True)
    failed = [verdict.gate for verdict in verdicts if not verdict.passed]
    if failed:
        raise ValueError(f"{len(failed)} of {len(verdicts)} gates failed: {', '.join(failed)}")


def _with_result() -> Paths:
    """The paths, where there is a result.

    Raises:
        ValueError: there is none.
    """
    paths = Paths.load()
    if not paths.test_metrics.is_file():
        raise ValueError("there is no result in this folder yet; `dvc repro` (or `make repro`) makes one")
    return paths


def track(every: bool) -> None:
    """Record the result in this folder in MLflow, if it is not recorded yet."""
    from mnistflow import lineage  # here, because it takes seconds to import

    settings = load().tracking
    if not settings.enabled:
        raise ValueError("tracking.enabled in params.yaml is false; `mnistflow track` needs true")
    try:
        print(f"recorded as run {lineage.record_workspace()} in {_store()}", flush=True)
    except ValueError as error:
        if not every:
            raise
        print(f"not recorded: {error}", flush=True)  # an experiment may be under way in it
    if every:
        outcomes = []
        for name, outcome in lineage.record_experiments():
            print(f"{name}: {outcome}", flush=True)
            outcomes.append(outcome)
        for run_id, name in lineage.refresh_names():
            print(f"{name}: the present name of run {run_id}", flush=True)
        failed = sum(outcome.startswith("FAILED") for outcome in outcomes)
        print(f"{len(outcomes) - failed} experiments recorded that were not")
        if failed:
            raise ValueError(f"{failed} experiments could not be recorded")


def run() -> None:
    """Print which MLflow run stands for the result in this folder."""
    from mnistflow import lineage  # here, because it takes seconds to import

    found = lineage.run_of_workspace()
    if found is None:
        raise ValueError(f"the result in this folder is not recorded in {_store()}; `mnistflow track` records it")
    print(f"{found.id}  {for_terminal(found.name)}  {found.status.lower()}\n{found.page}\nall runs: {found.table}")


def restore(wanted: str) -> None:
    """Bring the result of a run back into this folder: its params, metrics, weights and figures."""
    from mnistflow import lineage  # here, because it takes seconds to import

    found, place = lineage.restore(load().tracking, wanted)
    print(f"{found.id}  {for_terminal(found.name)}: {place}; the weights are those that it recorded")


def compare(wanted: Sequence[str], figure: Path) -> None:
    """Print runs side by side: their metrics, and the params in which they differ; draw their curves.

    Of two runs on the same test images, also whether the difference in their accuracy is more than chance.
    """
    from mnistflow import comparison, figures, studies, tracking  # here, because they take seconds to import

    params = load()
    runs = [tracking.find(params.tracking, each) for each in wanted]
    print("\n".join(studies.markdown(comparison.rows(runs))))
    if len(runs) == 2:
        try:
            print("\n" + comparison.verdict(runs, [tracking.predictions(params.tracking, run.id) for run in runs]))
        except ValueError as error:  # the curves come from the store itself
            print(f"mnistflow: warning: not compared image by image: {error}", file=sys.stderr)
    drawn = {
        name: found
        for name in ("val_accuracy", "test_accuracy", "train_loss")
        if (found := comparison.curves(runs, name))
    }
    figures.save(figures.comparison(drawn), figure, dpi=params.plot.dpi)
    print(f"\ncurves drawn into {figure}")


def report(output: Path) -> None:
    """Write the result in this folder as one page that needs nothing else, and add it to its MLflow run."""
    from mnistflow import lineage, tracking  # here, because they take seconds to import
    from mnistflow.files import whole
    from mnistflow.report import page

    paths, settings = _with_result(), load().tracking
    found, unrecorded = None, "tracking.enabled in params.yaml is false"
    if settings.enabled:
        try:
            found = lineage.run_of_workspace()
            unrecorded = "with params.yaml as it was when this page was written, no run stood for this result"
        except ValueError as error:
            print(f"mnistflow: warning: {error}", file=sys.stderr)
            unrecorded = "the store did not answer when this page was written"
    text = page(paths, found, unrecorded)
    with whole(output) as beside:
        beside.write_text(text, encoding="utf-8")
    print(f"written to {output}", flush=True)
    if found is None:
        print(f"no MLflow run: {unrecorded}; `mnistflow track` records it")
        return
    try:
        place = tracking.attach(settings, found.id, text, "report/report.html")
    except ValueError as error:  # the page is there all the same
        print(f"mnistflow: warning: not added to run {found.id}: {error}", file=sys.stderr)
    else:
        print(f"added to run {found.id} as {place}")


def promote(wanted: str) -> None:
    """Make the model of a run the champion of the registered model."""
    from mnistflow import tracking  # here, because it takes seconds to import

    settings = load().tracking
    found = tracking.find(settings, wanted)
    print(f"{for_terminal(found.name)} is now {tracking.promote(settings, found.id)}")


def verify() -> None:
    """Run the committed pipeline again from nothing, in a temporary clone, and compare every output byte for byte."""
    from mnistflow import verification  # here, because it takes seconds to import

    compared = verification.verify()
    width = max(len(each.path) for each in compared)
    print()
    for each in compared:
        said = "the same" if each.is_same else f"DIFFERENT: MD5 {each.one} in dvc.lock, {each.other} now"
        print(f"  {each.stage:<10}  {each.path:<{width}}  {said}")
    different = [each for each in compared if not each.is_same]
    if different:
        first = different[0]
        raise ValueError(
            f"{len(different)} of {len(compared)} outputs came out different. The first difference is in "
            f"{first.stage}: from {'the same' if first.from_the_same else 'other'} inputs it made another "
            f"{first.path}. Another kind of processor or another version of PyTorch rounds differently"
        )
    print(f"\nAll {len(compared)} outputs came out the same, byte for byte.")


def evaluate(on: str, model: str | Path | None, images: int | None, as_json: bool) -> None:
    """Score a model on handwriting that is not MNIST's, through the reader that pictures of one's own go through.

    digits-uci: scikit-learn's 1,797 digits, 8 x 8, of other writers. photographs: MNIST's test digits as ink on paper,
    at an angle, in uneven light, with noise and ruled lines, drawn by a seed. Neither is ever trained or chosen by.
    """
    from tqdm import tqdm

    from mnistflow import handwriting
    from mnistflow.catalogue import open_predictor

    predictor = open_predictor(model)
    identity = predictor.identity
    if identity.classes != tuple("0123456789"):
        raise ValueError(f"{identity.name} was trained on {identity.dataset}; only readers of digits can be scored")
    pictures, labels = handwriting.fair(on, Paths.load().raw / "mnist", images)
    bar = tqdm(pictures, desc=on, total=len(labels), unit="picture", disable=None, leave=False)
    gathered = handwriting.gather(bar, labels, lambda grey: predictor.read(grey, several=False), identity.image_size[0])
    score = handwriting.score(gathered, lambda batch: predictor.probabilities(batch).argmax(axis=1))
    low, high = score.interval
    if as_json:
        tree = {
            "on": on,
            "model": identity.name,
            "weights": identity.weights,
            "run": identity.run,
            "pictures": score.pictures,
            "accuracy": score.accuracy,
            "accuracy_low": round(low, 6),
            "accuracy_high": round(high, 6),
            "naive_accuracy": score.naive / score.pictures,
            "unreadable": score.unreadable,
            "confusions": [{"label": a, "prediction": b, "pictures": times} for a, b, times in score.confusions],
        }
        print(_json(tree, indent=2))
        return
    print(f"{identity.name} on {on}, {score.pictures:,} pictures")
    lines = {
        "accuracy": f"{score.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%})",
        "without the reader": f"{score.naive / score.pictures:.2%}, scaled to the size of the images and no more",
        "nothing found in": f"{score.unreadable:,}, counted as wrong",
        "worst confusions": ", ".join(f"{a} as {b}: {times}" for a, b, times in score.confusions[:5]) or "none",
    }
    for name, text in lines.items():
        print(f"  {name:<20} {text}")


def _store() -> str:
    from mnistflow.tracking import shown_uri

    return shown_uri(load().tracking)


def ui(port: int) -> None:
    """Open the MLflow UI over this project's runs, on 127.0.0.1."""
    from mnistflow.tracking import connect, failure, keep_ui_port, shown_uri, store_uri

    settings = load().tracking
    uri = store_uri(settings)
    if uri.startswith("http"):
        raise ValueError(f"runs are recorded on a server, which has its own UI: {shown_uri(settings)}")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ValueError(
                f"port {port} cannot be used ({error.strerror}); name another: --port {port + 1}"
            ) from None
    try:
        connect(settings)  # makes the store, or says why it cannot be opened
    except Exception as error:
        raise ValueError(failure(settings, "cannot be opened", error)) from error
    keep_ui_port(port)
    os.chdir(project_root())
    # One reader needs one process, and none of the eight that wait for jobs of language models.
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri]
    os.execv(sys.executable, [*command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"])


def predict(
    files: Sequence[str], here: Path, model: str | Path | None, one: bool, form: str | None, explain: Path | None
) -> None:
    """Read digits in pictures: of any size and colour, dark ink on light paper or the other way round.

    Several digits side by side are read from left to right. Files that cannot be read are named on standard error, the
    others are read all the same, and the exit status is 1.
    """
    from mnistflow import answers, catalogue  # here, because they take half a second to import
    from mnistflow.pictures import summary

    names, left_out = answers.pictures(files, here)
    if left_out:
        print(f"mnistflow: {summary(left_out)}", file=sys.stderr)
    if explain is not None and len(names) != 1:
        raise ValueError(f"--explain draws how one picture was read, and these are {len(names)}")
    predictor = catalogue.open_predictor(model)
    table = csv.DictWriter(sys.stdout, answers.COLUMNS, lineterminator="\n")
    if form == "csv":
        table.writeheader()
    width = max(map(len, names))
    failed = 0
    with _progress(names) as bar:
        for name in bar:
            try:
                answer, reading = answers.answer(predictor, name, here, several=not one)
            except (ValueError, OSError) as error:
                failed += 1
                said = f"{name}: {error.strerror}" if isinstance(error, OSError) else str(error)
                bar.write(f"mnistflow: {for_terminal(said)}", file=sys.stderr)
                if form == "json":
                    print(_json({"file": name, "error": said}))
                continue
            if form == "json":
                print(_json(answer.tree(predictor)))
            elif form == "csv":
                table.writerows(
                    {column: for_spreadsheet(str(cell)) for column, cell in row.items()} for row in answer.rows()
                )
            else:
                bar.write(for_terminal(answer.line(width)), file=sys.stdout)
    if explain is not None and not failed:
        from mnistflow import figures

        figure = figures.reading(reading, answer.chances(), predictor.identity.classes)
        figures.save(figure, explain, dpi=load().plot.dpi)
    if failed:
        raise ValueError(f"{failed} of {len(names)} files could not be read")


def _json(tree: Mapping[str, object], indent: int | None = None) -> str:
    """JSON in the encoding of standard output: where that is not UTF-8, other characters are JSON's escapes."""
    return json.dumps(tree, indent=indent, ensure_ascii="utf" not in (sys.stdout.encoding or "").lower())


def _progress(names: Sequence[str]) -> tqdm[str]:
    """A bar over many files, where a terminal shows it."""
    from tqdm import tqdm

    return tqdm(names, unit="file", disable=None if len(names) > MANY else True)


def export(form: str, int8: bool, model: str | Path | None, output: Path | None, as_json: bool) -> None:
    """Write a model as a file that other programs run: pictures in, probabilities out, preparation inside.

    It is held against PyTorch on every test image, and not written if one of them gets another label. With --int8 it
    computes in whole numbers, and is not written if that costs 0.05 points of accuracy on the validation split.
    """
    from mnistflow import catalogue, conversion  # here, because they take seconds to import

    if int8 and form != "onnx":
        raise ValueError("--int8 goes with --format onnx")
    source = catalogue.source(model)
    ending = "int8.onnx" if int8 else form
    target = output or Path("models") / f"model.{ending}"
    done = conversion.convert(source, target, ending, Paths.load())
    print(_json(asdict(done)) if as_json else done.text())


def serve(
    models: Sequence[str | Path],
    recorded: int,
    host: str,
    port: int,
    allowed_hosts: Sequence[str],
    root_path: str,
    most_megabytes: int,
    most_pixels: int,
    most_images: int,
    most_waiting: int,
) -> None:
    """Serve models over HTTP: a page to draw digits on, and an API for programs.

    Only this machine reaches it, unless --host says otherwise.
    """
    from mnistflow import catalogue, server  # here, because they take a second to import

    limits = server.Limits(body=most_megabytes * 2**20, pixels=most_pixels, images=most_images, waiting=most_waiting)
    wanted: list[str | Path | None] = list(models)
    if recorded:
        best = sorted(catalogue.recorded(1000), key=lambda run: -(run.test_accuracy or 0))
        if not best:
            raise ValueError(f"no complete run is recorded in {_store()}; `dvc repro` records one")
        wanted += [run.id for run in best[:recorded]]
    server.serve(
        [catalogue.open_predictor(each) for each in wanted or [None]],
        host=host,
        port=port,
        limits=limits,
        allowed_hosts=allowed_hosts,
        root_path=root_path,
    )


def data_export(directory: Path, dataset: str | None) -> None:
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


def study_list() -> None:
    """Print what studies there are, and what they ask."""
    from mnistflow import studies

    for name in studies.names():
        study = studies.load(name)
        print(f"{name}: {len(study.entries)} entries, {len(study.experiments())} experiments\n    {study.question}")


def study_run(name: str, only: Sequence[str], jobs: int, full: bool) -> None:
    """Run the experiments of a study that have not been run yet; run it again to go on where it stopped.

    Each is a DVC experiment of its own, on the commit that is checked out. One that comes to the same params and the
    same code as an experiment there is already, whatever that is called, is not run again.
    """
    from mnistflow import check, experiments, studies  # here, because they take seconds to import

    if changed := experiments.changed_files():
        raise ValueError(
            f"not committed: {', '.join(changed)}; every experiment would take it along. Commit it first, or take it "
            f"back: git checkout {' '.join(changed)}"
        )
    study = studies.load(name, full=full)
    wanted = study.experiments(only)
    with _only_study():
        _bring_data(study)
        for experiment in wanted:
            if found := check.document_problems(experiment.document):
                raise ParamsError([f"{name}: {experiment.name}: {problem}" for problem in found])
        code, there = experiments.code(), experiments.results()
        missing = [each for each in wanted if each.find(there, code) is None]
        print(f"{name}: {len(wanted)} experiments, {len(wanted) - len(missing)} of them there already", flush=True)
        failed = _run_experiments(missing, {each.name for each in there}, jobs)
        _name_study(study)
    if failed:
        raise ValueError("\n  ".join([f"{len(failed)} of {len(missing)} experiments failed; see", *failed]))
    print(f"\nNext: mnistflow study show {name}")


def study_show(name: str) -> None:
    """Print what a study has come to, and write it to studies/results/ as Markdown, CSV and figure.

    What only another version of the code has been run by is shown too, with the commit it was run on.
    """
    from mnistflow import durations, experiments, figures, studies  # here, because they take seconds to import
    from mnistflow.files import whole, write_csv

    code, there, seconds = experiments.code(), experiments.results(), durations.seconds_per_epoch()
    study = studies.load(name)
    short, full = (studies.newest(each, there, code, seconds) for each in (study, studies.load(name, full=True)))
    rows = []
    for row, in_full in zip(short, full, strict=True):  # what was run in full below what was cut short
        rows += [row, in_full] if in_full.results and in_full.results != row.results else [row]
    if not any(row.results for row in rows):
        raise ValueError(f"nothing of {name} has been run yet; mnistflow study run {name}")
    if "handwriting" in study.columns:
        read = _read_handwriting({result.weights for row in rows for result in row.results})
        rows = [replace(row, handwriting=read) for row in rows]
    cells = [row.cells(study.columns) for row in rows]
    lines = [f"## {study.title}", "", study.question, ""]
    for row, shown in zip(rows, cells, strict=True):
        if row.results and row.results[0].code != code:
            shown["run on"] = experiments.origin(row.results[0].commit)[0][:7]
    lines += studies.markdown(cells)
    if any("run on" in shown for shown in cells):
        lines += [
            "",
            "run on: the commit whose code made the row, which decides results in another way than the code that is "
            f"here; `mnistflow study run {name}` makes it anew.",
        ]
    print("\n".join(lines))
    results = studies.FOLDER / "results"
    with whole(results / f"{name}.md") as beside:
        beside.write_text("\n".join(lines) + "\n", encoding="utf-8")
    headings = list(dict.fromkeys(heading for row in cells for heading in row))
    write_csv(results / f"{name}.csv", [{heading: row.get(heading, "") for heading in headings} for row in cells])
    there_are = [row for row in rows if row.results]
    figure = figures.study(
        study.title,
        {row.entry.label: row.accuracies for row in there_are},
        {row.entry.label: row.entry.expected for row in there_are if row.entry.expected is not None},
        {row.entry.label: [result.history for result in row.results] for row in there_are},
    )
    figures.save(figure, results / f"{name}.png", dpi=110)
    print(f"\nwritten to {results / name}.md, .csv and .png")


@contextlib.contextmanager
def _only_study() -> Iterator[None]:
    """One study at a time in a project: two would run the same experiments."""
    from mnistflow.tracking import lock

    one = lock("study")
    one.timeout = 0
    try:
        with one:
            yield
    except TimeoutError as error:
        raise ValueError("another `mnistflow study run` is at work in this project; wait for it, or end it") from error


def _bring_data(study: Study) -> None:
    """Fetch the data sets of a study here, once, for the copies that its experiments run in."""
    from mnistflow import datasets
    from mnistflow.datasets.folder import write_folder

    params, paths = load(), Paths.load()
    used = {str(each.document["dataset"]) for each in study.experiments()} - {"folder"}
    for name in sorted(used | set(study.exports.values())):
        datasets.build(name, params.datasets[name]).fetch(paths.raw / name, params.download.timeout)
    for folder, name in study.exports.items():
        if not Path(folder).is_dir():
            write_folder(datasets.build(name, params.datasets[name]).read(paths.raw / name), Path(folder))


def _run_experiments(missing: Sequence[Experiment], taken: set[str], jobs: int) -> list[str]:
    """Run experiments behind a bar; returns the logs of those that failed."""
    from tqdm import tqdm

    from mnistflow import experiments

    document = read_yaml(Path("params.yaml"))
    assert isinstance(document, dict)  # a study could not have been read with another
    planned = [each.planned(document, taken) for each in missing]
    running: list[str] = []
    failed: list[str] = []
    with tqdm(total=len(planned), unit="experiment", disable=None if planned else True) as bar:
        for event in experiments.run(planned, jobs, project_root() / ".mnistflow" / "experiments"):
            if isinstance(event, experiments.Planned):
                running.append(event.name)
            else:
                running.remove(event.planned.name)
                bar.update()
                outcome = "done" if event.status == 0 else f"FAILED: {event.reason}"
                if event.status != 0:
                    failed.append(str(event.log))
                bar.write(f"  {event.planned.name}: {outcome} ({event.seconds:.0f} s)", file=sys.stdout)
                sys.stdout.flush()
            bar.set_postfix_str(", ".join(running))
    return failed


def _name_study(study: Study) -> None:
    """Tag the MLflow runs of a study."""
    from mnistflow import experiments, studies, tracking

    settings = load().tracking
    if settings.enabled:
        rows = studies.table(study, experiments.results(), experiments.code(), {})
        found = [(row.entry.name, result.weights, result.chosen) for row in rows for result in row.results]
        count, page = tracking.name_study(settings, study.name, found)
        print(f"{count} MLflow runs carry the tag study.{study.name}: {page}")


def _host_name(text: str) -> str:
    """A host, ``name`` or ``name:port``, for argparse."""
    if not re.fullmatch(r"[\w.-]+(:\d+)?|\[[0-9a-fA-F:.]+\](:\d+)?", text):
        raise argparse.ArgumentTypeError(f"must be a host name such as example.org or example.org:8080, not {text!r}")
    return text


def _root_path(text: str) -> str:
    """A path prefix, for argparse: without the slash at its end."""
    if not re.fullmatch(r"(/[\w.~%-]+)*/?", text):
        raise argparse.ArgumentTypeError(f"must be a path such as /proxy/8000, not {text!r}")
    return text.rstrip("/")


def _port(text: str) -> int:
    """A port, for argparse."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 65535, not {text!r}")
    return int(text)


def _model(text: str) -> str | Path:
    """A model, for argparse: a file, or the name of a run or of a version."""
    return Path(text) if text.endswith((".safetensors", ".onnx")) else text


def _read_handwriting(weights: Iterable[str]) -> dict[str, dict[str, float]]:
    """Accuracies on handwriting that is not MNIST's, by the MD5 of a network's weights and the name of the set."""
    from tqdm import tqdm

    from mnistflow import experiments, exporting, handwriting, reader

    gathered = {}
    for name in handwriting.SETS:
        pictures, labels = handwriting.fair(name, Paths.load().raw / "mnist")
        bar = tqdm(pictures, desc=name, total=len(labels), unit="picture", disable=None, leave=False)
        gathered[name] = handwriting.gather(bar, labels, lambda grey: reader.read(grey, several=False))
    found: dict[str, dict[str, float]] = {}
    for each in tqdm(list(weights), desc="networks", unit="network", disable=None, leave=False):
        network = exporting.eager(experiments.cached(each))
        found[each] = {}
        for name, images in gathered.items():
            score = handwriting.score(images, lambda batch: network(batch).argmax(axis=1))  # noqa: B023
            found[each] |= {name: score.accuracy, f"{name}, scaled alone": score.naive / score.pictures}
    return found


def _count(text: str) -> int:
    """A number above 0, for argparse."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, not {text!r}")
    return int(text)
