"""Measure the trained network on the test split."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from mnistflow import stage

stage.begin()

import time

from mnistflow import devices, evaluation, models, tracking
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
    test, validation = placed(read_split(paths.test_split), device), placed(read_split(paths.validation_split), device)
    batch_size = params.evaluate.batch_size
    with tracking.recording(params, paths, card.determinants) as record:
        started = time.perf_counter()
        result = evaluation.evaluate(model.to(device), test, card.loss, batch_size, validation)
        shifts = evaluation.shift_accuracies(model, test, params.evaluate.max_shift, batch_size)
        robustness = evaluation.Robustness(result.accuracy)
        if params.evaluate.robustness:
            robustness = evaluation.robustness(model, test, result.accuracy, batch_size)
        seconds = time.perf_counter() - started
        speed = evaluation.speed(model, test, batch_size)
        write_csv(paths.predictions, result.rows(test))
        write_csv(paths.robustness, robustness.rows())
        figures = {**result.summary(), "robust_accuracy": robustness.accuracy, "shift_accuracies": shifts}
        write_json(paths.test_metrics, {**figures, "device": device.type})
        record.evaluation(seconds, speed.images_per_second, speed.latency)
    print(f"evaluate: {result.accuracy:.2%} of {len(test):,} test images right, mean loss {result.loss:.4f}")
    print(f"evaluate: {speed.images_per_second:,.0f} images a second, one alone in {1000 * speed.latency:.2f} ms")


if __name__ == "__main__":
    stage.run(main)
