"""How well a model tells what is no digit.

    python -m benchmarks.refusal [--pictures N]

Pictures of printed letters and words, of curves by a pen, noise, charts, forms and blank paper are read as `mnistflow
predict` reads them, and held against MNIST's test digits: the area under the curve (AUROC) of how sure the network is,
and how many are refused. The threshold of an answer was chosen on validation images when the network was trained; the
rule for pictures with several pieces of ink, and when ink is cut, on validation digits and on other letters, charts and
forms of these kinds. The result in this folder reads; the table goes to benchmarks/results/refusal.md as well.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from benchmarks import ROOT
from benchmarks.timing import keep
from mnistflow.config.paths import Paths
from mnistflow.recognition import handwriting
from mnistflow.recognition.answers import Answer, answered
from mnistflow.serving.catalogue import open_predictor

sys.path.insert(0, str(ROOT / "tests"))

from no_digits import LOOKALIKES, MAKERS, text

DIGITS = "digits (MNIST test)"


def main() -> None:
    """Read all sets, print the table and keep it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", type=int, default=400, help="of each set (default: %(default)s)")
    count = parser.parse_args().pictures
    predictor = open_predictor(None)
    images, labels = handwriting.mnist_test(ROOT / Paths.load().raw / "mnist")
    digits = {
        DIGITS: list(images[-count:]),
        "digits (photographs)": handwriting.photographs(images[:count], labels[:count]).pictures,
    }
    makers = {**MAKERS, "look-alikes (O, l, S, Z, B)": lookalike}
    others = {name: [make(np.random.default_rng([7, n])) for n in range(count)] for name, make in makers.items()}
    rows, measured = [], {}
    known: list[float] = []
    for name, pictures in {**digits, **others}.items():
        bar = tqdm(pictures, desc=name, unit="picture", disable=None, leave=False)
        read = [answered(predictor, name, predictor.read(grey)) for grey in bar]
        sure = [sureness(answer) for answer in read]
        refused = sum(not answer.numbers for answer in read) / len(read)
        unsure = sum(bool(answer.numbers) and not all_sure(answer) for answer in read) / len(read)
        is_digits = name in digits
        known += sure if name == DIGITS else []
        area = None if is_digits else float(roc_auc_score([1] * len(known) + [0] * len(sure), known + sure))
        rows.append(
            {
                "pictures": name,
                "AUROC": "" if area is None else f"{area:.4f}",
                "refused": f"{refused:.2%}",
                "read, but unsure": f"{unsure:.2%}",
            }
        )
        measured[name] = {"pictures": count, "auroc": area, "refused": refused, "unsure": unsure}
    command = "python -m benchmarks.refusal" + ("" if count == 400 else f" --pictures {count}")
    identity = predictor.identity
    keep(
        "refusal",
        command,
        torch.device("cpu"),
        rows,
        {"model": identity.name, "threshold": identity.threshold, "sets": measured},
    )


def lookalike(chance: np.random.Generator) -> NDArray[np.uint8]:
    """A letter that is written as a digit is."""
    return text(str(chance.choice(list(LOOKALIKES))), chance)


def all_sure(answer: Answer) -> bool:
    """Whether each digit in a picture is sure."""
    return all(digit.verdict == "sure" for digit in answer.digits)


def sureness(answer: Answer) -> float:
    """The mean probability of the digits in a picture; 0 where there is nothing."""
    return float(np.mean([digit.probability for digit in answer.digits])) if answer.digits else 0.0


if __name__ == "__main__":
    main()
