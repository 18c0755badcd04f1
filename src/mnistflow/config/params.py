"""params.yaml as frozen, typed, validated objects.

The file is read once per process. Its scalars choose (``dataset``, ``model``, ``recipe``), its blocks say what the
choices mean. Everything wrong with it is collected and reported at once, each mistake by its dotted path.

The blocks under ``datasets`` and ``models`` hold the keyword arguments of a registered class, so this module knows
only their outer form; :func:`argument_problems` checks such a block against the class that will receive it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError

from mnistflow.config.forms import NAME_PATTERN, Block, ParamsError, explained, flattened, nearest, shown
from mnistflow.core.files import read_yaml

__all__ = [
    "Augment",
    "Download",
    "Evaluate",
    "ModelBlock",
    "Name",
    "Params",
    "Plot",
    "Preprocess",
    "Recipe",
    "Tracking",
    "Train",
    "load",
    "parse",
]


# ---------------------------------------------------------------------------------------------------------------------
# The form of the file


Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Gate = Annotated[str, StringConstraints(pattern=r"^(min|max)_[a-z0-9_]+$")]
Device = Annotated[str, StringConstraints(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]
Count = Annotated[int, Field(ge=1, le=10**9)]
Threads = Annotated[int, Field(ge=1, le=1024)]
Share = Annotated[float, Field(ge=0, lt=1)]
WholeShare = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class Augment(Block):
    """Random changes of training images; all zero means none."""

    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0  # degrees either way
    scale: Share = 0.0  # 0.1: between 90 % and 110 %
    shift: Annotated[float, Field(ge=0)] = 0.0  # pixels either way, along each axis
    thickness: WholeShare = 0.0  # pixels that each side of a stroke may gain or lose
    resample: WholeShare = 0.0  # the share of the images that are scaled down and up again


class Recipe(Block):
    """How a network is trained."""

    epochs: Count
    batch_size: Count
    shuffle: bool
    loss: Literal["cross_entropy", "mse"]
    label_smoothing: Share = 0.0
    optimizer: Literal["sgd", "adam", "adamw"]
    lr: Positive
    momentum: Share | None = None
    nesterov: bool = False
    betas: Annotated[list[Share], Field(min_length=2, max_length=2)] | None = None
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    schedule: Literal["constant", "one_cycle"] = "constant"
    warmup: Annotated[float, Field(gt=0, lt=1)] | None = None
    augment: Augment = Augment()
    drawn_digits: Annotated[int, Field(ge=0, le=10**7)] = 0  # images added: digits in the forms of many countries
    outliers: Annotated[int, Field(ge=0, le=10**7)] = 0  # images added: of no digit, for which no class is likely
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    patience: Count | None = None
    keep: Literal["best", "last"] = "last"
    monitor: Literal["validation", "test", "none"] = "validation"

    @property
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of :func:`mnistflow.training.assembly.assemble`."""
        return self.model_dump(exclude={"monitor"})

    @property
    def added(self) -> dict[str, int]:
        """How many images of each kind are added to those of the data set."""
        return {"drawn digits": self.drawn_digits, "outliers": self.outliers}

    @property
    def uses_validation(self) -> bool:
        """Whether a validation split is reported, or decides anything."""
        return self.monitor == "validation" or self.keep == "best" or self.patience is not None


class ModelBlock(BaseModel):
    """The registered class of a model, and in ``arguments`` the keyword arguments it is built with."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    architecture: Name

    @property
    def arguments(self) -> dict[str, JsonValue]:
        """The keyword arguments."""
        return dict(self.model_extra or {})


class Download(Block):
    """Fetching the original files."""

    timeout: Positive  # seconds without an answer after which a source counts as unreachable


class Preprocess(Block):
    """From the original files to normalised tensors."""

    device: Device
    # "standard": zero mean and unit variance over the training split; "unit": [0, 1]; [mean, std]: fixed statistics
    normalize: Literal["standard", "unit"] | Annotated[list[float], Field(min_length=2, max_length=2)]
    pad: Annotated[int, Field(ge=0, le=512)]  # pixels of background added on each side
    validation_size: Annotated[int, Field(ge=0)] | Share  # a share of the training images, or their number


class Train(Block):
    """What of training is not part of a recipe."""

    device: Device
    threads: Threads | Literal["auto"]
    report_every: Count  # steps
    checkpoint_every: Positive = 30.0  # seconds, within an epoch; after each epoch there is one anyway
    cuda_graph: bool = False  # the same numbers either way
    init_from: str | None  # a weights file, or the id of a run; null: fresh weights


class Evaluate(Block):
    """Measuring the trained network on the test split."""

    device: Device
    threads: Threads
    batch_size: Count
    max_shift: Annotated[int, Field(ge=0, le=100)]  # also measured on images moved by up to so many pixels
    robustness: bool  # also measured on corrupted images
    # What figures of a result must come to, by name: min_accuracy, say; null: anything will do. Which there are, the
    # figures that are measured decide (mnistflow.evaluation.gates).
    gates: dict[Gate, Annotated[float, Field(ge=0)] | None] = Field(default_factory=dict)


class Plot(Block):
    """The figures."""

    samples: Annotated[int, Field(ge=1, le=1000)]  # images in the grids of samples, of predictions and of mistakes
    first_image: Annotated[int, Field(ge=0, le=10**9)]  # number of the first of nine training images
    dpi: Annotated[int, Field(ge=20, le=600)]
    background: Literal["light", "dark"] = "light"


class Tracking(Block):
    """Where runs are recorded."""

    enabled: bool
    uri: str | None  # overridden by $MLFLOW_TRACKING_URI; null: mlflow.db beside dvc.yaml
    experiment: Annotated[str, StringConstraints(min_length=1)]
    registered_model: Annotated[str, StringConstraints(min_length=1)] | None = None  # null: nothing is registered


class Params(Block):
    """All of params.yaml."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    dataset: Name
    model: Name
    recipe: Name
    datasets: dict[Name, dict[str, JsonValue]]
    models: dict[Name, ModelBlock]
    recipes: dict[Name, Recipe]
    download: Download
    preprocess: Preprocess
    train: Train
    evaluate: Evaluate
    plot: Plot
    tracking: Tracking

    @property
    def dataset_arguments(self) -> dict[str, JsonValue]:
        """The block of the chosen data set."""
        return self.datasets[self.dataset]

    @property
    def model_block(self) -> ModelBlock:
        """The block of the chosen model."""
        return self.models[self.model]

    @property
    def recipe_block(self) -> Recipe:
        """The block of the chosen recipe."""
        return self.recipes[self.recipe]

    @property
    def threads(self) -> int:
        """Those of the train stage: small batches are done before their work could be shared out."""
        chosen = self.train.threads
        return chosen if chosen != "auto" else 1 if self.recipe_block.batch_size < 64 else 2

    def selected(self) -> dict[str, JsonValue]:
        """What the chosen result rests on, flattened to dotted paths.

        Left out are the blocks that were not chosen, and what changes no figure: where files come from, what is
        reported while waiting, how figures are drawn, where runs are recorded, and what figures must come to. So are
        the devices that the weights rest on, because ``auto`` says nothing: the record names those that were taken.
        """
        tree = self.model_dump(include={"seed", "dataset", "model", "recipe"})
        tree["datasets"] = {self.dataset: {k: v for k, v in self.dataset_arguments.items() if k != "path"}}
        tree["models"] = {self.model: self.model_block.model_dump()}
        tree["recipes"] = {self.recipe: self.recipe_block.model_dump()}
        tree["preprocess"] = self.preprocess.model_dump(exclude={"device"})
        tree["train"] = {"threads": self.threads}
        tree["evaluate"] = self.evaluate.model_dump(exclude={"gates"})
        return dict(flattened(tree))


# ---------------------------------------------------------------------------------------------------------------------
# Reading


def load(path: Path = Path("params.yaml")) -> Params:
    """Read and validate a params file.

    Raises:
        ValueError: the file is missing, or is not YAML.
        ParamsError: it holds mistakes; all of them are in ``problems``.
    """
    params, problems = parse(read_yaml(path))
    if params is None or problems:
        raise ParamsError(problems)
    return params


def parse(document: JsonValue) -> tuple[Params | None, list[str]]:
    """Validate a document; returns the params, or None where its form is wrong, and one line per mistake."""
    if not isinstance(document, dict):
        return None, [f"the file must be a mapping of keys to values, not {shown(document)}"]
    problems = _unknown_names(document)
    try:
        params = Params.model_validate(document)
    except ValidationError as error:
        return None, explained(error, Params, document) + problems
    return params, problems + _contradictions(params)


# ---------------------------------------------------------------------------------------------------------------------
# Saying what is wrong


def _unknown_names(document: Mapping[str, JsonValue]) -> list[str]:
    """Choices at the top that no block is named by."""
    problems: list[str] = []
    for name in ("dataset", "model", "recipe"):
        choice, known = document.get(name), document.get(f"{name}s")
        if isinstance(choice, str) and isinstance(known, dict) and choice not in known:
            problems.append(f"{name}: there is no {name} {choice!r}; {nearest(choice, known)}")
    return problems


def _contradictions(params: Params) -> list[str]:
    """Mistakes that no single leaf shows."""
    problems: list[str] = []
    for name, recipe in params.recipes.items():
        path = f"recipes.{name}"
        if recipe.momentum is not None and recipe.optimizer != "sgd":
            problems.append(f"{path}.momentum: {recipe.optimizer} does not use it; set it to null, or optimizer: sgd")
        if recipe.nesterov and not recipe.momentum:
            problems.append(f"{path}.nesterov: requires momentum; set {path}.momentum above 0, or nesterov: false")
        if recipe.betas is not None and recipe.optimizer == "sgd":
            problems.append(f"{path}.betas: sgd does not use betas; set it to null, or optimizer: adam")
        if recipe.label_smoothing and recipe.loss != "cross_entropy":
            problems.append(f"{path}.label_smoothing: requires cross_entropy; set it to 0 with loss: {recipe.loss}")
        if recipe.outliers and recipe.loss != "cross_entropy":
            problems.append(f"{path}.outliers: requires cross_entropy; set it to 0 with loss: {recipe.loss}")
        if (recipe.warmup is None) == (recipe.schedule == "one_cycle"):
            asked = "must be above 0 and below 1" if recipe.warmup is None else "must be null"
            problems.append(f"{path}.warmup: {asked} with schedule: {recipe.schedule}")

    chosen = params.recipes.get(params.recipe)
    if chosen is not None and params.preprocess.validation_size == 0:
        path = f"recipes.{params.recipe}"
        way = "set it to {}, or set preprocess.validation_size above 0"
        if chosen.keep == "best":
            problems.append(f"{path}.keep: 'best' requires a validation split; " + way.format("last"))
        if chosen.patience is not None:
            problems.append(f"{path}.patience: early stopping requires a validation split; " + way.format("null"))
        if chosen.monitor == "validation":
            problems.append(f"{path}.monitor: there is no validation split; " + way.format("test or none"))

    normalize = params.preprocess.normalize
    if isinstance(normalize, list) and normalize[1] < 1e-6:
        problems.append(f"preprocess.normalize: the standard deviation must be at least 1e-6, not {normalize[1]}")
    if params.evaluate.gates.get("min_robust_accuracy") is not None and not params.evaluate.robustness:
        problems.append("evaluate.gates.min_robust_accuracy: requires evaluate.robustness: true; set it, or null here")
    return problems
