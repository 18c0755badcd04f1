"""Train the chosen model by the chosen recipe."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from mnistflow import stage

stage.begin()

import math
from functools import partial
from importlib.metadata import version

from mnistflow import augment, devices, diagnostics, durations, models, provenance, recipes, tracking, training
from mnistflow.artifacts import read_split
from mnistflow.checkpoints import Checkpoint
from mnistflow.files import sha256, write_csv, write_json
from mnistflow.inference import placed
from mnistflow.params import load
from mnistflow.paths import Paths
from mnistflow.progress import Display


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
        print(f"train: starts from {start.resolve()}")
    precision = training.computed_in(recipe.precision, model, device)
    steps = math.ceil(len(train) / recipe.batch_size)
    optimizer = recipes.make_optimizer(model.parameters(), **recipe.optimizer_arguments)
    schedule = recipes.make_schedule(optimizer, recipe.schedule, steps=recipe.epochs * steps, warmup=recipe.warmup)
    changes = recipe.augment
    determinants = provenance.digest(
        {
            "data": [train.digest, held_out.digest, test.digest if test is not None else None],
            "start": sha256(start) if start.is_symlink() else None,
            "model": {params.model: block.model_dump()},
            "recipe": {params.recipe: recipe.model_dump()},
            "seed": params.seed,
            "threads": params.threads,
            "precision": precision,
            "device": devices.describe(device),
            "code": [sha256(Path(__file__)), provenance.code_digest(training, models, recipes, augment, devices)],
            "torch": version("torch"),
        }
    )
    print(
        f"train: {params.model} ({models.parameter_count(model):,} parameters) by recipe {params.recipe} "
        f"on {devices.describe(device)} in {precision}, {len(train):,} images"
    )

    plain_loss = recipes.make_loss(recipe.loss)
    layers = diagnostics.rows("start", model, train, plain_loss)
    state = training.State(model, optimizer, schedule, generator, recipe.batch_size)
    history = training.History(recipe.keep, state.epochs)
    checkpoint = Checkpoint(determinants, device, params.train.checkpoint_every)
    display = Display(recipe.epochs, steps, params.train.report_every)
    with checkpoint.held(), tracking.recording(params, paths, determinants) as record:
        with stage.stoppable() as stop:
            if checkpoint.restore(state):
                display.goes_on(state)
            for event in training.fit(
                state,
                train,
                loss=recipes.make_loss(recipe.loss, label_smoothing=recipe.label_smoothing),
                plain_loss=plain_loss,
                epochs=recipe.epochs,
                shuffle=recipe.shuffle,
                augment=partial(augment.affine, rotate=changes.rotate, scale=changes.scale, shift=changes.shift),
                precision=precision,
                validation=validation,
                test=test,
                keep=recipe.keep,
                patience=recipe.patience,
            ):
                display.show(event)
                if isinstance(event, training.Epoch) or stop.is_asked or checkpoint.is_due():
                    checkpoint.save(state)
                stop.now(f"{display.where}; run it again, and it goes on from there")
                if isinstance(event, training.Epoch):
                    record.epoch(history.epoch_rows()[-1], event.seconds)
            display.close()

        card = models.Card(
            architecture=block.architecture,
            arguments=block.arguments,
            image_shape=train.image_shape,
            inputs=train.inputs,
            loss=recipe.loss,
            determinants=determinants,
        )
        models.save(paths.weights, model, card)
        write_csv(paths.history, history.epoch_rows())
        write_csv(paths.steps, history.step_rows())
        write_csv(paths.layers, layers + diagnostics.rows("end", model, train, plain_loss))
        write_json(
            paths.train_metrics,
            {
                "model": params.model,
                "recipe": params.recipe,
                "parameters": models.parameter_count(model),
                **history.summary(),
                "device": device.type,
                "precision": precision,
                "threads": params.threads,
            },
        )
        durations.record(paths.weights, len(history.epochs), history.seconds)
        record.training([epoch.seconds for epoch in state.epochs])
        checkpoint.remove()


if __name__ == "__main__":
    stage.run(main)
