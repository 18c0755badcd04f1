"""Train the chosen model by the chosen recipe."""

import math
from importlib.metadata import version
from pathlib import Path
from typing import Any

import runner

from mnistflow import models, tracking
from mnistflow.config.params import load
from mnistflow.config.paths import Paths
from mnistflow.core import devices
from mnistflow.core.documents import write_document
from mnistflow.core.files import digest, md5, sha256, write_csv
from mnistflow.core.tensors import read_split
from mnistflow.models.inference import placed
from mnistflow.pipeline import durations
from mnistflow.pipeline.checkpoints import Checkpoint
from mnistflow.pipeline.code import code_digest
from mnistflow.pipeline.progress import Display
from mnistflow.pipeline.stage import stoppable
from mnistflow.training import diagnostics
from mnistflow.training.assembly import assemble
from mnistflow.training.certainty import certainty_of
from mnistflow.training.history import Epoch, Summary


def main() -> None:
    params, paths = load(), Paths.load()
    block, recipe = params.model_block, params.recipe_block
    device = devices.resolve(params.train.device)
    generator = devices.seeded(params.seed, params.threads, device)

    train = placed(read_split(paths.train_split), device)
    held_out = read_split(paths.validation_split)
    validation = placed(held_out, device) if recipe.uses_validation else None
    test = placed(read_split(paths.test_split), device) if recipe.monitor == "test" else None

    model = models.build(block.architecture, train.image_shape, len(train.inputs.classes), block.arguments).to(device)
    start = paths.start / "given"
    if start.is_symlink():
        models.start_from(model, block.architecture, start)
        print(f"train: starting from {start.resolve()}")
    training = assemble(
        model, train, generator, validation=validation, test=test, capture=params.train.cuda_graph, **recipe.arguments
    )
    made: dict[str, Any] = {
        "device": device.type,
        "precision": training.precision,
        "threads": params.threads,
        "init_from": sha256(start) if start.is_symlink() else None,
    }
    fingerprint = digest(
        {
            **made,
            "data": [train.digest, held_out.digest, test.digest if test is not None else None],
            "model": {params.model: block.model_dump()},
            "recipe": {params.recipe: recipe.model_dump()},
            "seed": params.seed,
            "device": devices.describe(device),
            "code": code_digest(Path(__file__)),
            "torch": version("torch"),
        }
    )
    print(
        f"train: {params.model} ({models.parameter_count(model):,} parameters) with recipe {params.recipe} "
        f"on {devices.describe(device)} in {training.precision}, {len(train):,} images"
        + "".join(f", {count:,} {name}" for name, count in recipe.added.items() if count)
    )

    layers = diagnostics.rows("start", model, train, training.plain_loss)
    history, state = training.history, training.state
    checkpoint = Checkpoint(fingerprint, device, params.train.checkpoint_every)
    display = Display(training.epochs, training.steps, params.train.report_every)
    with checkpoint.locked(), tracking.record_training(params, paths, made) as record:
        with stoppable() as stop:
            if checkpoint.restore(state):
                display.resumed(state)
            for event in training.events():
                display.show(event)
                if isinstance(event, Epoch) or stop.is_asked or checkpoint.is_due():
                    checkpoint.save(state)
                stop.now(f"{display.where}; run it again to resume from there")
                if isinstance(event, Epoch):
                    record.epoch(history.epoch_rows()[-1], event.seconds)
            display.close()

        about = (block.architecture, block.arguments, train.image_shape, train.inputs, recipe.loss)
        models.save(paths.weights, model, models.ModelMetadata(*about, *certainty_of(model, held_out, recipe.loss)))
        write_csv(paths.history, history.epoch_rows())
        write_csv(paths.steps, history.step_rows())
        write_csv(paths.layers, layers + diagnostics.rows("end", model, train, training.plain_loss))
        named: dict[str, Any] = {
            "model": params.model,
            "recipe": params.recipe,
            "parameters": models.parameter_count(model),
        }
        write_document(paths.train_metrics, Summary(**named, **history.summary(), **made))
        seconds = [epoch.seconds for epoch in history.epochs]
        durations.note(md5(paths.weights), epochs=len(seconds), seconds=math.fsum(seconds), epoch_seconds=seconds)
        checkpoint.remove()


if __name__ == "__main__":
    runner.run(main)
