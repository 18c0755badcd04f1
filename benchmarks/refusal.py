"""How well a model tells what is no digit.

    python -m benchmarks.refusal [--model MODEL] [--pictures N]

Pictures of printed letters and words, of curves by a pen, noise, charts, forms and blank paper are read as `mnistflow
predict` reads them, and held against MNIST's test digits: the area under the curve (AUROC) of how sure the network is,
and how many are refused. The threshold below which an answer is unsure was chosen on validation images when the network
was trained; nothing is chosen on these pictures. The table goes to benchmarks/results/refusal.md as well.
"""

from __future__ import annotations

import argparse
import io
import string
from collections.abc import Callable
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from benchmarks import ROOT
from benchmarks.timing import keep
from mnistflow.config.paths import Paths
from mnistflow.recognition import handwriting
from mnistflow.recognition.answers import Answer, answered
from mnistflow.serving.catalogue import open_predictor

Pixels = NDArray[np.uint8]

LOOKALIKES = "OoIlSsZzB"  # written as 0, 1, 5, 2 and 8 are
LETTERS = "".join(letter for letter in string.ascii_letters if letter not in LOOKALIKES)
FONTS = sorted((Path(mpl.get_data_path()) / "fonts" / "ttf").glob("DejaVu*.ttf"))


def main() -> None:
    """Read all sets, print the table and keep it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--model", help="weights, an ONNX file, a run or a version (default: the result in this folder)"
    )
    parser.add_argument("--pictures", type=int, default=400, help="of each set (default: %(default)s)")
    arguments = parser.parse_args()
    count = arguments.pictures
    predictor = open_predictor(arguments.model)
    images, labels = handwriting.mnist_test(ROOT / Paths.load().raw / "mnist")
    photographs = handwriting.photographs(images[:count], labels[:count]).pictures
    digits = {"digits (MNIST test)": list(images[-count:]), "digits (photographs)": photographs}
    sets: dict[str, Callable[[Generator], Pixels]] = {
        "letters": lambda chance: text(str(chance.choice(list(LETTERS))), chance),
        "look-alikes": lambda chance: text(str(chance.choice(list(LOOKALIKES))), chance),
        "words": lambda chance: text("".join(chance.choice(list(LETTERS), int(chance.integers(3, 9)))), chance),
        "hand-made strokes": strokes,
        "noise": noise,
        "charts": chart,
        "forms": form,
    }
    made = {name: [make(np.random.default_rng([7, number])) for number in range(count)] for name, make in sets.items()}
    blank = [np.full((100 + number, 150), 255 - number % 60, np.uint8) for number in range(count)]
    rows, measured = [], {}
    known: list[float] = []
    for name, pictures in {**digits, **made, "blank paper": blank}.items():
        read = [
            answered(predictor, name, predictor.read(grey))
            for grey in tqdm(pictures, desc=name, unit="picture", disable=None, leave=False)
        ]
        sure = [sureness(answer) for answer in read]
        refused = sum(answer.probability is None for answer in read) / count
        unsure = sum(all(digit.verdict != "sure" for digit in answer.digits) for answer in read) / count
        is_digits = name in digits
        known += sure if name == "digits (MNIST test)" else []
        area = None if is_digits else float(roc_auc_score([1] * len(known) + [0] * len(sure), known + sure))
        rows.append(
            {
                "pictures": name,
                "AUROC": "" if area is None else f"{area:.4f}",
                "refused": f"{refused:.2%}",
                "refused or unsure": f"{unsure:.2%}",
            }
        )
        measured[name] = {"pictures": count, "auroc": area, "refused": refused, "unsure": unsure}
    command = "python -m benchmarks.refusal" + (f" --model {arguments.model}" if arguments.model else "")
    identity = predictor.identity
    keep(
        "refusal",
        command,
        torch.device("cpu"),
        rows,
        {"model": identity.name, "threshold": identity.threshold, "sets": measured},
    )


def sureness(answer: Answer) -> float:
    """The mean probability of the digits in a picture; 0 where there is nothing."""
    return float(np.mean([digit.probability for digit in answer.digits])) if answer.digits else 0.0


def text(written: str, chance: Generator) -> Pixels:
    """Printed text in a random font, size and shade, slightly turned."""
    font = FONTS[int(chance.integers(len(FONTS)))]
    size = int(chance.integers(40, 160))
    face = ImageFont.truetype(str(font), size)
    left, top, right, lower = map(int, face.getbbox(written))
    picture = Image.new("L", (right - left + size, lower - top + size), int(chance.integers(200, 256)))
    ImageDraw.Draw(picture).text((size // 2 - left, size // 2 - top), written, int(chance.integers(0, 90)), face)
    turned = picture.rotate(chance.uniform(-8, 8), Image.Resampling.BICUBIC, fillcolor=picture.getpixel((0, 0)))
    return np.asarray(turned, dtype=np.uint8)


def strokes(chance: Generator) -> Pixels:
    """Loops and zigzags by a pen: coils, waves, crossings, arrows, hearts."""
    t = np.linspace(0, 1, 200)
    kind = int(chance.integers(6))
    turns = chance.uniform(2.2, 5)
    if kind == 0:  # a coil
        x, y = t * 2 + 0.35 * np.cos(2 * np.pi * turns * t), 0.5 * np.sin(2 * np.pi * turns * t)
    elif kind == 1:  # a wave
        x, y = t * 2, 0.3 * np.sin(2 * np.pi * turns * t)
    elif kind == 2:  # a zigzag
        x, y = t * 2, np.abs((t * turns) % 1 - 0.5)
    elif kind == 3:  # a spiral
        x, y = t * np.cos(2 * np.pi * turns * t), t * np.sin(2 * np.pi * turns * t)
    elif kind == 4:  # a heart
        x, y = (
            np.sin(2 * np.pi * t) ** 3,
            -(13 * np.cos(2 * np.pi * t) - 5 * np.cos(4 * np.pi * t) - 2 * np.cos(6 * np.pi * t)) / 16,
        )
    else:  # a flower
        radius = 0.6 + 0.4 * np.cos(2 * np.pi * int(chance.integers(4, 8)) * t)
        x, y = radius * np.cos(2 * np.pi * t), radius * np.sin(2 * np.pi * t)
    points = np.stack([x, y], axis=1)
    points = (points - points.min(axis=0)) / np.ptp(points, axis=0).max() + chance.normal(0, 0.004, points.shape)
    side = int(chance.integers(100, 400))
    grey = np.full((side, side), 250, np.uint8)
    places = (0.12 * side + 0.76 * side * points).astype(np.int32)
    cv2.polylines(
        grey, [places], False, int(chance.integers(0, 80)), max(2, int(side * chance.uniform(0.02, 0.06))), cv2.LINE_AA
    )
    return grey


def noise(chance: Generator) -> Pixels:
    """Noise of some grain."""
    rows, columns = chance.integers(28, 200, 2)
    grain = np.asarray(cv2.GaussianBlur(chance.normal(0, 1, (rows, columns)), (0, 0), chance.uniform(0.3, 4)))
    return np.asarray(np.clip(128 + 60 * grain / grain.std(), 0, 255), dtype=np.uint8)


def chart(chance: Generator) -> Pixels:
    """A line, bar or scatter chart, with axes."""
    figure = Figure(figsize=(3, 2.2), dpi=int(chance.integers(60, 160)))
    axes = figure.subplots()
    values = chance.normal(0, 1, int(chance.integers(5, 30))).cumsum()
    kind = int(chance.integers(3))
    if kind == 0:
        axes.plot(values, color="black", marker=str(chance.choice(["", "o", "x"])))
    elif kind == 1:
        axes.bar(range(len(values)), np.abs(values), color="grey")
    else:
        axes.scatter(values, chance.normal(0, 1, len(values)), color="black")
    axes.set(title="Result", xlabel="time", ylabel="value")
    axes.tick_params(labelbottom=False, labelleft=False)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return np.asarray(Image.open(file).convert("L"), dtype=np.uint8)


def form(chance: Generator) -> Pixels:
    """An empty form: labels, lines to write on, boxes to tick."""
    picture = Image.new("L", (600, 440), 250)
    pen = ImageDraw.Draw(picture)
    face = ImageFont.truetype(str(FONTS[int(chance.integers(len(FONTS)))]), int(chance.integers(16, 28)))
    for row in range(int(chance.integers(3, 7))):
        top = 30 + 60 * row
        word = str(chance.choice(["Name", "Street", "Town", "Date", "Phone", "Signature", "Amount", "Remarks"]))
        pen.text((30, top), f"{word}:", 40, face)
        if chance.random() < 0.5:
            pen.line((200, top + 26, 570, top + 26), 60, 2)
        else:
            for box in range(int(chance.integers(3, 9))):
                pen.rectangle((200 + 36 * box, top - 2, 230 + 36 * box, top + 28), outline=60, width=2)
    return np.asarray(picture, dtype=np.uint8)


if __name__ == "__main__":
    main()
