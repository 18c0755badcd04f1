"""Measure the trained network on the test split."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import time

from mnistflow import devices, evaluation, models, stage, tracking
from mnistflow.artifacts import read_split
from mnistflow.files import write_csv, write_json
from mnistflow.inference import placed
from mnistflow.params import load
from mnistflow.paths import Paths


def main() -> None:
    params, paths = load(), Paths.load()
    device = devices.resolve(params.evaluate.device)
    devices.repeatable(params.evaluate.threads, device)
    print(f"evaluate: on {devices.describe(device)}")

    model, card = models.load(paths.weights)
    test = placed(read_split(paths.test_split), device)
    with tracking.recording(params, paths, card.determinants) as record:
        started = time.perf_counter()
        result = evaluation.evaluate(model.to(device), test, card.loss, params.evaluate.batch_size)
        seconds = time.perf_counter() - started
        shifts = evaluation.shift_accuracies(model, test, params.evaluate.max_shift, params.evaluate.batch_size)
        write_csv(paths.predictions, result.rows(test))
        write_json(paths.test_metrics, {**result.summary(), "shift_accuracies": shifts, "device": device.type})
        record.evaluation(seconds)
    print(f"evaluate: {result.accuracy:.2%} of {len(test):,} test images right, mean loss {result.loss:.4f}")


if __name__ == "__main__":
    stage.run(main)
