"""Measure the trained network on the test split."""

import time

import runner

from mnistflow import models
from mnistflow.config.params import load
from mnistflow.config.paths import Paths
from mnistflow.core import devices
from mnistflow.core.documents import write_document
from mnistflow.core.files import write_csv
from mnistflow.core.tensors import read_split
from mnistflow.evaluation import measures
from mnistflow.models.inference import placed
from mnistflow.pipeline import durations


def main() -> None:
    params, paths = load(), Paths.load()
    device = devices.resolve(params.evaluate.device)
    devices.repeatable(params.evaluate.threads, device)
    print(f"evaluate: on {devices.describe(device)}")

    model, metadata = models.load(paths.weights)
    test = placed(read_split(paths.test_split), device)
    batch_size = params.evaluate.batch_size
    started = time.perf_counter()
    result = measures.evaluate(model.to(device), test, metadata.loss, batch_size, metadata.temperature)
    shifts = measures.shift_accuracies(model, test, params.evaluate.max_shift, batch_size)
    robustness = measures.Robustness(result.accuracy)
    if params.evaluate.robustness:
        robustness = measures.measure_robustness(model, test, result.accuracy, batch_size)
    seconds = time.perf_counter() - started
    speed = measures.speed(model, test, batch_size)

    write_csv(paths.predictions, result.rows(test))
    write_csv(paths.robustness, robustness.rows())
    write_document(paths.test_metrics, result.scores(robustness, shifts, device.type))
    durations.note(
        durations.evaluation(paths.weights, paths.test_metrics, batch_size),
        evaluate_seconds=seconds,
        evaluate_images_per_second=speed.images_per_second,
        latency_seconds=speed.latency,
    )
    print(f"evaluate: {result.accuracy:.2%} of {len(test):,} test images correct, mean loss {result.loss:.4f}")
    print(f"evaluate: {speed.images_per_second:,.0f} images per second; {1000 * speed.latency:.2f} ms for one image")


if __name__ == "__main__":
    runner.run(main)
