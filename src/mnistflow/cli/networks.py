"""Commands that put a network to use."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mnistflow.cli.output import json_text, progress, store
from mnistflow.config.params import load
from mnistflow.config.paths import Paths
from mnistflow.core.text import for_spreadsheet, for_terminal

__all__ = ["evaluate", "export", "predict", "serve"]


def evaluate(on: str, model: str | Path | None, images: int | None, as_json: bool) -> None:
    """Score a model on handwriting other than MNIST's, read in the same way as your own pictures.

    digits-uci: scikit-learn's 1,797 digits, 8 x 8, by other writers. photographs: MNIST's test digits as photographed
    ink on paper: at an angle, in uneven light, with noise and lines (seeded). Neither is used for training or choosing.
    """
    from tqdm import tqdm

    from mnistflow.recognition import handwriting
    from mnistflow.serving.catalogue import open_predictor

    predictor = open_predictor(model)
    identity = predictor.identity
    if identity.classes != tuple("0123456789"):
        raise ValueError(f"{identity.name} was trained on {identity.dataset}; only readers of digits can be scored")
    pictures, labels = handwriting.load_test_set(on, Paths.load().raw / "mnist", images)
    bar = tqdm(pictures, desc=on, total=len(labels), unit="picture", disable=None, leave=False)
    size = identity.image_size[0]
    gathered = handwriting.gather(bar, labels, lambda grey: predictor.views(grey, several=False), size)
    score = handwriting.score(gathered, predictor.probabilities)
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
            "ece": None if score.ece is None else round(score.ece, 6),
            "confusions": [{"label": a, "prediction": b, "pictures": times} for a, b, times in score.confusions],
        }
        print(json_text(tree, indent=2))
        return
    print(f"{identity.name} on {on}, {score.pictures:,} pictures")
    lines = {
        "accuracy": f"{score.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%})",
        "without the reader": f"{score.naive / score.pictures:.2%}, pictures only scaled (and inverted if light)",
        "no digit found": f"{score.unreadable:,} pictures, counted as wrong",
        "calibration error": "none" if score.ece is None else f"{score.ece:.2%}, of pictures with a digit found",
        "worst confusions": ", ".join(f"{a} as {b}: {times}" for a, b, times in score.confusions[:5]) or "none",
    }
    for name, text in lines.items():
        print(f"  {name:<20} {text}")


def predict(
    files: Sequence[str], here: Path, model: str | Path | None, one: bool, form: str | None, explain: Path | None
) -> None:
    """Read digits in pictures of any size and colour, dark on light or light on dark.

    Several digits side by side are read from left to right. Files that cannot be read are reported on standard error
    and skipped; the exit status is then 1.
    """
    from mnistflow.data.pictures import summary
    from mnistflow.recognition import answers
    from mnistflow.serving import catalogue  # here, because they take half a second to import

    names, left_out = answers.pictures(files, here)
    if left_out:
        print(f"mnistflow: {summary(left_out)}", file=sys.stderr)
    if explain is not None and len(names) != 1:
        raise ValueError(f"--explain draws how one picture was read, but {len(names)} were given")
    predictor = catalogue.open_predictor(model)
    table = csv.DictWriter(sys.stdout, answers.COLUMNS, lineterminator="\n")
    if form == "csv":
        table.writeheader()
    width = max(map(len, names))
    failed = 0
    with progress(names) as bar:
        for name in bar:
            try:
                answer, reading = answers.answer(predictor, name, here, several=not one)
            except (ValueError, OSError) as error:
                failed += 1
                reason = f"{name}: {error.strerror}" if isinstance(error, OSError) else str(error)
                bar.write(f"mnistflow: {for_terminal(reason)}", file=sys.stderr)
                if form == "json":
                    print(json_text({"file": name, "error": reason}))
                continue
            if form == "json":
                print(json_text(answer.tree(predictor)))
            elif form == "csv":
                table.writerows(
                    {column: for_spreadsheet(str(cell)) for column, cell in row.items()} for row in answer.rows()
                )
            else:
                bar.write(for_terminal(answer.line(width)), file=sys.stdout)
    if explain is not None and not failed:
        from mnistflow import figures

        verdicts = [digit.verdict for digit in answer.digits]
        figure = figures.reading(
            reading, answer.chances(), predictor.identity.classes, text=answer.text, verdicts=verdicts
        )
        figures.save(figure, explain, dpi=load().plot.dpi)
    if failed:
        raise ValueError(f"{failed} of {len(names)} files could not be read")


def export(form: str, int8: bool, model: str | Path | None, output: Path | None, as_json: bool) -> None:
    """Export a model to one file that takes raw images and returns probabilities, preprocessing included.

    It is checked on every test image, and not written if any label differs from PyTorch's; with --int8 (8-bit
    integers), if that costs 0.05 points or more of accuracy on the validation split.
    """
    from mnistflow.export import conversion  # here, because they take seconds to import
    from mnistflow.serving import catalogue

    if int8 and form != "onnx":
        raise ValueError("--int8 requires --format onnx")
    source = catalogue.source(model)
    ending = "int8.onnx" if int8 else form
    target = output or Path("models") / f"model.{ending}"
    done = conversion.convert(source, target, ending, Paths.load())
    print(json_text(asdict(done)) if as_json else done.text())


def serve(
    models: Sequence[str | Path],
    recorded: int,
    host: str,
    port: int,
    allowed_hosts: Sequence[str],
    root_path: str,
    max_megabytes: int,
    max_pixels: int,
    max_images: int,
    max_waiting: int,
) -> None:
    """Serve models over HTTP: a page to draw digits on, and an API for programs.

    By default it listens on 127.0.0.1, which only this machine can reach; see --host.
    """
    from mnistflow.serving import catalogue, server  # here, because they take a second to import
    from mnistflow.serving.schemas import Limits

    limits = Limits(body=max_megabytes * 2**20, pixels=max_pixels, images=max_images, waiting=max_waiting)
    wanted: list[str | Path | None] = list(models)
    if recorded:
        best = sorted(catalogue.recorded(1000), key=lambda run: -(run.val_accuracy or 0))
        if not best:
            raise ValueError(f"no complete run is recorded in {store()}; `dvc repro` records one")
        wanted += [run.id for run in best[:recorded]]
    server.serve(
        [catalogue.open_predictor(name) for name in wanted or [None]],
        host=host,
        port=port,
        limits=limits,
        allowed_hosts=allowed_hosts,
        root_path=root_path,
    )
