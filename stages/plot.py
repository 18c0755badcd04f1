"""Draw the data, the training and the result."""

import runner
import torch

from mnistflow import figures, models, tracking
from mnistflow.config.params import load
from mnistflow.config.paths import Paths
from mnistflow.core import devices
from mnistflow.core.files import read_csv
from mnistflow.core.tensors import read_split
from mnistflow.evaluation.predictions import read_predictions
from mnistflow.evaluation.scores import read_robustness, read_scores


def main() -> None:
    params, paths = load(), Paths.load()
    count, dpi = params.plot.samples, params.plot.dpi
    devices.repeatable(1, torch.device("cpu"))  # enough for the thousand images that go through the network here
    model, metadata = models.load(paths.weights)
    train, validation = read_split(paths.train_split), read_split(paths.validation_split)
    test = read_split(paths.test_split)
    classes = test.inputs.classes
    predictions, probabilities = read_predictions(paths.predictions, test)
    history = read_csv(paths.history, numbers=("epoch", "train_loss", "val_loss", "val_accuracy"))
    steps = read_csv(paths.steps, numbers=("step", "loss", "lr"))
    scores, robustness = read_scores(paths.test_metrics), read_robustness(paths.robustness)
    some = figures.pick_stratified(train.labels, count)

    with tracking.record_result(params, paths), figures.background(params.plot.background):
        drawn = {
            "samples": figures.samples(train.images[some], train.labels[some], classes, "Training images"),
            "grid": figures.grid(train, validation, params.plot.first_image),
            "curves": figures.curves(history, steps),
            "confusion": figures.confusion(test.labels, predictions, classes),
            "per_class": figures.per_class(scores.classes),
            "mistakes": figures.mistakes(test.images, test.labels, predictions, probabilities, classes, count),
            "predictions": figures.predictions(test.images, test.labels, predictions, probabilities, classes, count),
            "reliability": figures.reliability(scores),
            "robustness": figures.robustness(robustness),
            "separation": figures.separation(model, test, predictions),
            "inside": figures.inside(
                model, test.images[0], int(test.labels[0]), classes, metadata.loss, metadata.temperature
            ),
            "weights": figures.weights(model, test.images[0]),
        }
        for name, figure in drawn.items():
            figures.save(figure, paths.figures / f"{name}.png", dpi)
    print(f"plot: {', '.join(drawn)} drawn into {paths.figures}")


if __name__ == "__main__":
    runner.run(main)
