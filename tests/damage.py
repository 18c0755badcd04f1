"""Files that are damaged in every way that comes to mind, and what the stage that reads each of them says.

Run in a finished checkout of the digits, `python damage.py OUTCOMES.json`: each kind of damage is done, the stage is
run, its last line is noted, and the file is put back. All in one process, because a stage takes seconds to import.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import pickle
import re
import runpy
import shutil
import struct
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = [str(Path("src").resolve()), str(Path("stages").resolve())]

import torch
from safetensors.torch import save_file

from mnistflow.config.paths import Paths
from mnistflow.core.tensors import read_tensors, write_tensors

Damage = Callable[[Path], None]
SENTINEL = Path("a-pickle-was-loaded")


@dataclass(frozen=True)
class Kind:
    """A damage, and who meets it."""

    stage: str
    file: str
    what: str
    harmless: bool = False  # the stage comes to its end; otherwise it refuses


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    kind: Kind
    status: int
    message: str  # last line
    has_traceback: bool
    ran_a_pickle: bool


# ---------------------------------------------------------------------------------------------------------------------
# Ways to damage a file


def cut_within_a_line(path: Path) -> None:
    path.write_bytes(path.read_bytes().rstrip()[:-9])


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def cut_to_five_bytes(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5])


def one_bit_flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) * 3 // 4] ^= 1
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def missing(path: Path) -> None:
    path.unlink()


def random_bytes(path: Path) -> None:
    path.write_bytes(bytes(number * 37 % 251 for number in range(5000)))


class Bomb:
    """Creates a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (SENTINEL.resolve(),)


def a_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Bomb()))


def a_pickle_of_torch(path: Path) -> None:
    torch.save({"state_dict": Bomb()}, path)


def replaced_by(other: Path) -> Damage:
    def damage(path: Path) -> None:
        shutil.copyfile(other, path)

    return damage


def bytes_at(offset: int, data: bytes) -> Damage:
    def damage(path: Path) -> None:
        found = bytearray(path.read_bytes())
        found[offset : offset + len(data)] = data
        path.write_bytes(found)

    return damage


def compressed(path: Path) -> None:
    path.write_bytes(gzip.compress(path.read_bytes()[:100_000]))


def without_metadata(path: Path) -> None:
    tensors, _ = read_tensors(path)
    save_file(tensors, path)


def tensors(change: Callable[[dict[str, Any], dict[str, Any]], None]) -> Damage:
    """A file with a digest that is right, and a content that is not."""

    def damage(path: Path) -> None:
        found, metadata = read_tensors(path)
        change(found, metadata)
        write_tensors(path, found, metadata)

    return damage


def of_another_version(path: Path) -> None:
    data = path.read_bytes()
    assert data.count(b'\\"format\\": 2') == 1
    path.write_bytes(data.replace(b'\\"format\\": 2', b'\\"format\\": 9'))


def text(change: Callable[[str], str]) -> Damage:
    def damage(path: Path) -> None:
        before = path.read_text(encoding="utf-8")
        after = change(before)
        assert after != before
        path.write_text(after, encoding="utf-8")

    return damage


def _first(tensor: torch.Tensor, value: float) -> None:
    tensor.view(-1)[0] = value


def _each(tree: dict[str, Any], function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    for name in tree:
        tree[name] = function(tree[name])


def _without_first_class(figures: str) -> str:
    tree = json.loads(figures)
    return json.dumps({**tree, "classes": tree["classes"][1:]})


SPLIT: dict[str, Damage] = {
    "a label that is no class": tensors(lambda t, _: _first(t["labels"], 10)),
    "a label below 0": tensors(lambda t, _: _first(t["labels"], -1)),
    "a pixel that is not a number": tensors(lambda t, _: _first(t["images"], float("nan"))),
    "a pixel that is infinite": tensors(lambda t, _: _first(t["images"], float("inf"))),
    "images in float64": tensors(lambda t, _: t.update(images=t["images"].double())),
    "labels in float32": tensors(lambda t, _: t.update(labels=t["labels"].float())),
    "one label less than images": tensors(lambda t, _: t.update(labels=t["labels"][:-1].clone())),
    "images without a channel": tensors(lambda t, _: t.update(images=t["images"][:, 0].clone())),
    "no labels": tensors(lambda t, _: t.pop("labels")),
    "no word of what the images are": tensors(lambda _, m: m.pop("inputs")),
    "a standard deviation of 0": tensors(lambda _, m: m["inputs"].update(std=0.0)),
    "no class names": tensors(lambda _, m: m["inputs"].pop("classes")),
    "of another version": of_another_version,
    "no metadata": without_metadata,
}

WEIGHTS: dict[str, Damage] = {
    "a weight that is not a number": tensors(lambda t, _: _first(next(iter(t.values())), float("nan"))),
    "all weights infinite": tensors(lambda t, _: _each(t, lambda tensor: tensor.double().add(1e300).float())),
    "another architecture": tensors(lambda _, m: m["model"].update(architecture="mlp", arguments={"hidden": [8]})),
    "an architecture that is not known": tensors(lambda _, m: m["model"].update(architecture="lenet6")),
    "an argument that is not known": tensors(lambda _, m: m["model"]["arguments"].update(width=3)),
    "a layer of another size": tensors(lambda t, _: t.update({k: v[:1].clone() for k, v in list(t.items())[:1]})),
    "a layer missing": tensors(lambda t, _: t.pop(next(iter(t)))),
    "for images of another size": tensors(lambda _, m: m["model"].update(image_shape=[1, 40, 40])),
    "nothing said of its network": tensors(lambda _, m: m.pop("model")),
    "of another version": of_another_version,
    "no metadata": without_metadata,
}

ANY: dict[str, Damage] = {
    "truncated": truncated,
    "one bit flipped": one_bit_flipped,
    "empty": empty,
    "missing": missing,
    "random bytes": random_bytes,
    "a pickle": a_pickle,
    "a pickle of torch.save": a_pickle_of_torch,
}


def damages(paths: Paths, checkpoint: Path) -> Iterator[tuple[Kind, Path, Damage]]:
    """Every kind: who meets it, the file, and what is done to it."""

    def those(stage: str, file: Path, kinds: dict[str, Damage], harmless: bool = False) -> Iterator[Any]:
        for what, damage in kinds.items():
            yield Kind(stage, file.name, what, harmless), file, damage

    raw = paths.raw / "mnist" / "MNIST" / "raw"
    images, labels = raw / "t10k-images-idx3-ubyte", raw / "t10k-labels-idx1-ubyte"
    if images.is_file():
        idx: dict[str, Damage] = {
            "truncated": truncated,
            "one bit flipped": one_bit_flipped,
            "empty": empty,
            "the labels in place of the images": replaced_by(labels),
            "another magic number": bytes_at(0, struct.pack(">I", 2052)),
            "another count": bytes_at(4, struct.pack(">I", 9999)),
            "compressed": compressed,
        }
        for stage in ("download", "preprocess"):
            yield from those(stage, images, idx)
        yield from those("preprocess", labels, {"the images in place of the labels": replaced_by(images)})

    digits = paths.raw / "digits" / "digits.csv"
    for stage in ("download", "preprocess"):
        yield from those(stage, digits, {what: ANY[what] for what in ("truncated", "one bit flipped", "empty")})
    yield from those("train", paths.train_split, {**ANY, **SPLIT})
    yield from those("train", paths.validation_split, {what: ANY[what] for what in ("truncated", "one bit flipped")})
    yield from those("evaluate", paths.test_split, {**ANY, **SPLIT})
    yield from those("evaluate", paths.weights, {**ANY, **WEIGHTS})
    table: dict[str, Damage] = {
        "cut within a line": cut_within_a_line,
        "empty": empty,
        "missing": missing,
        "random bytes": random_bytes,
        "only the heading": text(lambda before: before.partition("\n")[0] + "\n"),
        "another heading": text(
            lambda before: before.replace("loss", "lost").replace("label", "lable").replace("amount", "much")
        ),
    }
    tables = ((paths.history, "1,"), (paths.steps, "1,"), (paths.predictions, "0,"), (paths.robustness, "none,0,"))
    for file, column in tables:
        wrong = column.replace("0,", "many,").replace("1,", "many,")
        no_number = text(lambda before, old=column, new=wrong: before.replace(f"\n{old}", f"\n{new}", 1))  # type: ignore[misc]
        yield from those("plot", file, {**table, "a word for a number": no_number})
    yield from those(
        "plot",
        paths.predictions,
        {
            "a class that is not known": text(lambda before: before.replace(",3,3,", ",3,three,", 1)),
            "one image less": text(lambda before: before[: before.rstrip().rindex("\n") + 1]),
        },
    )
    yield from those(
        "plot", paths.robustness, {"no row of the images as they are": text(lambda b: b.replace("none", "x"))}
    )
    figures: dict[str, Damage] = {
        "cut within a line": cut_within_a_line,
        "empty": empty,
        "missing": missing,
        "random bytes": random_bytes,
        "a list for an object": text(lambda before: f"[{before}]"),
        "a figure missing": text(lambda before: before.replace('"ece"', '"eec"')),
        "a word for a number": text(lambda before: re.sub(r'"brier": [0-9.]+', '"brier": "small"', before)),
        "a class less than rows of the confusion": text(_without_first_class),
    }
    yield from those("plot", paths.test_metrics, figures)
    log, known = Path(".mnistflow/durations.jsonl"), Path(".mnistflow/models-built")
    yield from those("train", checkpoint, {**ANY, "cut to five bytes": cut_to_five_bytes}, harmless=True)
    yield from those(
        "train", log, {"cut within a line": cut_within_a_line, "random bytes": random_bytes}, harmless=True
    )
    yield from those(
        "check", known, {"cut within a line": cut_within_a_line, "random bytes": random_bytes}, harmless=True
    )
    yield from those("train", Path("params.yaml"), {"empty": empty, "missing": missing, "random bytes": random_bytes})
    yield from those("train", Path("dvc.yaml"), {"empty": empty, "missing": missing, "random bytes": random_bytes})


# ---------------------------------------------------------------------------------------------------------------------
# Doing it


def outcome_of(kind: Kind, file: Path, damage: Damage) -> Outcome:
    """Damage a file, run the stage, put the file back."""
    before = file.read_bytes()
    file.chmod(0o644)
    printed = io.StringIO()
    status = 0
    try:
        damage(file)
        sys.argv = [f"stages/{kind.stage}.py"]
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                runpy.run_path(sys.argv[0], run_name="__main__")
            except SystemExit as end:
                if isinstance(end.code, str):  # what Python prints of it
                    print(end.code, file=sys.stderr)
                status = end.code if isinstance(end.code, int) else 1
            except BaseException:  # noqa: BLE001 - what a user would see as a traceback
                traceback.print_exc()
                status = 1
    finally:
        file.write_bytes(before)
    lines = [line for line in printed.getvalue().splitlines() if line.strip()]
    ran = SENTINEL.exists()
    SENTINEL.unlink(missing_ok=True)
    warning = next((line for line in lines if "warning" in line), None)
    message = warning if kind.harmless and warning else lines[-1] if lines else ""
    return Outcome(kind, status, message, "Traceback" in printed.getvalue(), ran)


def main(written: Path) -> None:
    paths = Paths.load()
    (checkpoint,) = Path(".mnistflow/checkpoints").glob("*.safetensors")
    kinds = list(damages(paths, checkpoint))
    use_mnist = Path("params.yaml").read_text(encoding="utf-8").replace("dataset: digits", "dataset: mnist")
    outcomes = []
    for kind, file, damage in kinds:
        of_mnist = file.suffix == "" and file.parent.name == "raw"
        before = Path("params.yaml").read_bytes()
        if of_mnist:
            Path("params.yaml").write_text(use_mnist, encoding="utf-8")
        outcomes.append(outcome_of(kind, file, damage))
        Path("params.yaml").write_bytes(before)
    written.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=2), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
