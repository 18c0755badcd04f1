"""Schemas of requests and responses, and the limits for a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field

from mnistflow.recognition.answers import Named
from mnistflow.recognition.predictor import Identity

__all__ = [
    "Answer",
    "Answers",
    "ArrayRequest",
    "Error",
    "Health",
    "Images",
    "Layer",
    "Limits",
    "Model",
    "Offer",
    "Picture",
    "Read",
    "Refused",
]


Images = NDArray[np.uint8]


@dataclass(frozen=True)
class Limits:
    """What one request may cost, and how many of them there may be."""

    body: int = 16 * 2**20  # bytes
    pixels: int = 24_000_000  # of one picture
    all_pixels: int = 240_000_000  # of all pictures in one request
    images: int = 256  # in one request
    digits: int = 2048  # read in one request, counted once for each network
    answer: int = 8 * 2**20  # bytes
    cpu_seconds: float = 20.0  # of processor time for one request
    waiting: int = 128  # requests for answers at once, those that are computed included
    seconds: float = 30.0  # for a client to send its request


# Lists are validated up to the first mistake in them: a body of 16 MB may have eight million.
Pixel = Annotated[int, Field(ge=0, le=255)]
Row = Annotated[list[Pixel], Field(min_length=1), FailFast()]
Image = Annotated[list[Row], Field(min_length=1), FailFast()]


class ArrayRequest(BaseModel):
    """Images as numbers, and how they are to be read."""

    model_config = ConfigDict(strict=True, extra="forbid")

    images: Annotated[
        list[Image], Field(min_length=1, description="Of the network's size; 0 is background"), FailFast()
    ]
    model: Annotated[
        list[str] | None,
        BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
        Field(max_length=100, description="Names of models; default: all"),
    ] = None
    explain: Annotated[bool | None, Field(description="Return the network input of each digit")] = None
    maps: Annotated[int, Field(ge=0, description="Return the feature maps of the digit with this index")] | None = None


class Refused(ValueError):
    """A request that is answered with a 4xx and one line."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


@dataclass(frozen=True)
class Layer:
    """The feature maps of a convolution for one digit."""

    name: str
    channels: int
    height: int
    width: int
    largest: float  # what 255 stands for
    values: list[list[list[int]]]  # channels x height x width, 0 to 255


@dataclass(frozen=True)
class Read(Named):
    """One digit, and what the network saw of it."""

    seen: list[list[int]] | None  # with `explain`: what the network was given, 0 is background
    maps: list[Layer] | None  # with `maps`: of the digit of that number


@dataclass(frozen=True)
class Picture:
    """What is written in one picture, from left to right; nothing where it is empty."""

    name: str | None  # of the file, where it has one
    width: int
    height: int
    digits: list[Read]


@dataclass(frozen=True)
class Model:
    """A model: its name, its weights, what it was trained on, and its input size (height, width)."""

    name: str
    weights: str  # SHA-256 of the file of its weights
    run: str | None  # in MLflow
    test_accuracy: float | None
    dataset: str
    classes: list[str]
    image_size: list[int]  # height, width
    threshold: float | None  # the probability from which an answer is sure

    @classmethod
    def of(cls, name: str, identity: Identity) -> Model:
        """Describe a network that is offered under a name."""
        return cls(
            name=name,
            weights=identity.weights,
            run=identity.run,
            test_accuracy=identity.test_accuracy,
            dataset=identity.dataset,
            classes=list(identity.classes),
            image_size=list(identity.image_size),
            threshold=identity.threshold,
        )


@dataclass(frozen=True)
class Answer:
    """What one network reads in the pictures, in their order."""

    model: Model
    pictures: list[Picture]


@dataclass(frozen=True)
class Answers:
    """The answers of the models that were asked, in the order in which they are served."""

    answers: list[Answer]


@dataclass(frozen=True)
class Offer:
    """The models that are served; a request that names none is answered by all of them."""

    models: list[Model]
    limits: Limits


@dataclass(frozen=True)
class Health:
    """The server is up."""

    status: Literal["ok"]
    models: list[str]
    version: str


@dataclass(frozen=True)
class Error:
    """Why a request was refused."""

    error: str
