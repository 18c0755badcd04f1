"""Answers to requests, computed one picture after the other."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from mnistflow.recognition.answers import identified
from mnistflow.recognition.decoding import Unreadable, decode
from mnistflow.recognition.predictor import Identity, Predictor
from mnistflow.recognition.reader import Box, Digit
from mnistflow.serving.parsing import ReadOptions, Upload, printable
from mnistflow.serving.schemas import Answer, Answers, Images, Layer, Limits, Model, Picture, Read, Refused

__all__ = ["ModelPool"]


MAX_DIGITS = 64  # in one picture


class ModelPool:
    """The models that are served, by name, and the threads that they compute in.

    Args:
        predictors: one or more; of two with one name, the second one carries the beginning of its digest too.
        limits: of a request.
    """

    def __init__(self, predictors: Sequence[Predictor], limits: Limits) -> None:
        self.limits = limits
        self.predictors: dict[str, Predictor] = {}
        for predictor in predictors:
            name, weights = predictor.identity.name, predictor.identity.weights
            if any(
                (name, weights) == (one_predictor.identity.name, one_predictor.identity.weights)
                for one_predictor in self.predictors.values()
            ):
                raise ValueError(f"{name} is given twice; name each model once")
            if name in self.predictors:
                name = f"{name} ({weights[:8]})"
            self.predictors[name] = predictor
        self.models = {name: Model.of(name, predictor.identity) for name, predictor in self.predictors.items()}
        self.threads = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="answer")
        self.under_way = 0
        self.held = 0  # bytes of bodies

    @contextlib.contextmanager
    def admitted(self) -> Iterator[None]:
        """Let a request in, if there are not too many."""
        if self.under_way >= self.limits.waiting:
            raise Refused(429, f"{self.limits.waiting} requests are in progress already; try again in a second")
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1

    def answer(self, pictures: Sequence[Upload], options: ReadOptions) -> bytes:
        """Answer a request, as JSON.

        Raises:
            Refused: it asks for what there is not, or for more than is allowed.
        """
        for name in options.models:
            if name not in self.predictors:
                raise Refused(400, f"there is no model {printable(name)!r}; there are: {', '.join(self.predictors)}")
        if options.maps is not None and len(pictures) > 1:
            raise Refused(400, f"maps are returned for one image at a time, but {len(pictures)} were sent")
        chosen = [name for name in self.predictors if not options.models or name in options.models]
        sizes, digits = self._digits(chosen, pictures, options)
        answers = [
            Answer(self.models[name], _read(self.predictors[name], pictures, sizes, digits[name], options))
            for name in chosen
        ]
        return json.dumps(Answers(answers), default=vars, separators=(",", ":")).encode()

    def _digits(
        self, chosen: Sequence[str], pictures: Sequence[Upload], options: ReadOptions
    ) -> tuple[list[tuple[int, int]], dict[str, list[tuple[Digit, ...]]]]:
        """The size of each picture, and the digits in it as each network takes them.

        One picture after the other is decoded, searched and dropped: no more than one is held in full.
        """
        limits, started = self.limits, time.thread_time()
        sizes: list[tuple[int, int]] = []
        digits: dict[str, list[tuple[Digit, ...]]] = {name: [] for name in chosen}
        pixels = count = length = 0
        for number, sent in enumerate(pictures):
            if time.thread_time() - started > limits.cpu_seconds:
                raise Refused(
                    413,
                    f"the request needs more than the {limits.cpu_seconds:g} seconds of CPU time that are "
                    f"allowed, for {number} of {len(pictures)} pictures already; send smaller images or fewer",
                )
            try:
                given = sent.content
                grey = decode(given, max_pixels=limits.pixels) if isinstance(given, bytes) else given
            except Unreadable as error:
                raise Refused(400, f"{sent.where}{error}") from None
            sizes.append((grey.shape[0], grey.shape[1]))
            pixels += grey.size
            if pixels > limits.all_pixels:
                raise Refused(
                    413,
                    f"the images have more than the {limits.all_pixels:,} pixels that are allowed in one request; "
                    "send them in several",
                )
            for name in chosen:
                predictor = self.predictors[name]
                digits_here = _digits(predictor, sent, grey, number, options.several)
                digits[name].append(digits_here)
                count += len(digits_here)
                length += len(digits_here) * _digit_bytes(predictor.identity, options)
            if count > limits.digits:
                raise Refused(
                    413,
                    f"the images have more than the {limits.digits:,} digits that are read in one request, counted "
                    "once for each model; send them in several",
                )
            if length > limits.answer:
                raise Refused(
                    413,
                    f"the answer would be longer than the {limits.answer:,} bytes that are allowed; "
                    "send the images in several requests, or without explain",
                )
        return sizes, digits


def _digit_bytes(identity: Identity, options: ReadOptions) -> int:
    """About how many bytes of JSON are written for one digit."""
    height, width = identity.image_size
    names = sum(len(json.dumps(name)) for name in identity.classes)
    return 400 + names + 24 * len(identity.classes) + (4 * height * width if options.explain else 0)


def _read(
    predictor: Predictor,
    pictures: Sequence[Upload],
    sizes: Sequence[tuple[int, int]],
    found_digits: Sequence[Sequence[Digit]],
    options: ReadOptions,
) -> list[Picture]:
    """What one network reads in all pictures: all digits in one batch."""
    named = iter(identified(predictor, [digit for digits in found_digits for digit in digits]))
    read = []
    for sent, (height, width), digits in zip(pictures, sizes, found_digits, strict=True):
        reads = []
        for number, digit in enumerate(digits):
            maps = predictor.feature_maps(digit.image) if number == options.maps else None
            reads.append(
                Read(
                    **vars(next(named)),
                    seen=digit.image.tolist() if options.explain else None,
                    maps=None if maps is None else [_layer(*layer) for layer in maps],
                )
            )
        read.append(Picture(sent.name, width, height, reads))
    return read


def _digits(predictor: Predictor, sent: Upload, grey: Images, number: int, several: bool) -> tuple[Digit, ...]:
    """The digits of a picture, as a network takes them; an array is one digit, unless it is empty."""
    if isinstance(sent.content, bytes):
        digits = predictor.read(grey, several=several).digits
        if len(digits) > MAX_DIGITS:
            raise Refused(
                400,
                f"files[{number}] has {len(digits)} separate pieces of ink, more than the {MAX_DIGITS} of one picture",
            )
        return digits
    (height, width), size = grey.shape, predictor.identity.image_size
    if (height, width) != size:
        raise Refused(
            400,
            f"images[{number}] has {height} rows of {width} numbers; {predictor.identity.name} takes {size[0]} rows of "
            f"{size[1]}. Other sizes can be sent as image files",
        )
    return (Digit(grey, Box(0, 0, width, height)),) if grey.any() else ()


def _layer(name: str, maps: NDArray[np.float32]) -> Layer:
    """Feature maps, (C, h, w), as shares of the largest of their numbers."""
    channels, height, width = maps.shape
    largest = float(maps.max())
    shares = np.clip(maps / largest, 0, 1) if largest > 0 else np.zeros_like(maps)
    return Layer(name, channels, height, width, largest, np.rint(shares * 255).astype(int).tolist())
