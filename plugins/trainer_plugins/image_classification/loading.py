"""Reads, decodes and transforms images, in a worker or, without workers, in the training process."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import first_line
from trainer_plugins.image_classification.decode import CorruptImageError, Source, decode
from trainer_plugins.image_classification.transforms import Transforms, started

Item = str | int


@dataclass(frozen=True)
class Job:
    """Images to load, as plain values."""

    items: Sequence[Item]
    record: str | None
    """The RecordIO file with the images; None for separate files."""
    transforms: Transforms
    seeds: Sequence[int] | None = None
    """One per image, for training; None for evaluation."""
    only_prepare: bool = False
    """Whether training images are to be left as they are before augmentation (`Transforms.prepared`)."""
    only_check: bool = False
    """Whether to only check which images are corrupt."""

    def to_json(self) -> dict[str, Any]:
        """The job as JSON values, for another process."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Job:
        """The job from the values of `to_json`."""
        return cls(**{**values, "transforms": Transforms(**values["transforms"])})


class CorruptError(Exception):
    """An image of a job cannot be decoded."""

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(reason)
        self.row = row
        """The image's index in the job."""
        self.reason = reason


class Files:
    """Reads images by item; keeps RecordIO files open."""

    def __init__(self) -> None:
        self._records: dict[str, Any] = {}

    def source(self, item: Item, record: str | None) -> Source:
        """The image's path, or its bytes from a RecordIO file. Raises CorruptImageError."""
        if record is None:
            return str(item)
        mx = started()
        if record not in self._records:
            index = str(Path(record).with_suffix(".idx"))
            self._records[record] = mx.recordio.MXIndexedRecordIO(index, record, "r")
        try:
            content: bytes = mx.recordio.unpack(self._records[record].read_idx(item))[1]
        except (mx.MXNetError, OSError, ValueError, TypeError, KeyError) as error:
            raise CorruptImageError(first_line(error)) from error
        return content


def load(job: Job, files: Files) -> list[NDArray[np.uint8]]:
    """The images, (size, size, 3) each, or as `Transforms.prepared` leaves them.

    Raises CorruptError for the first image that cannot be decoded.
    """
    images = []
    with _generators_kept():
        for row, item in enumerate(job.items):
            try:
                pixels = decode(files.source(item, job.record))
            except CorruptImageError as error:
                raise CorruptError(row, str(error)) from error
            transforms = job.transforms
            if job.only_prepare:
                images.append(transforms.prepared(pixels, training=True))
            elif job.seeds is None:
                images.append(transforms.evaluate(pixels))
            else:
                images.append(transforms.train(pixels, job.seeds[row]))
    return images


def augmented(
    images: Sequence[NDArray[np.uint8]], transforms: Transforms, seeds: Sequence[int]
) -> list[NDArray[np.uint8]]:
    """Prepared images as training takes them, with a seed for each."""
    with _generators_kept():
        return [transforms.augmented(image, seed) for image, seed in zip(images, seeds, strict=True)]


@contextmanager
def _generators_kept() -> Iterator[None]:
    """Other code that draws from the global generators is not affected."""
    before = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002


def check(job: Job, files: Files) -> list[tuple[int, str]]:
    """The images of a job that cannot be decoded: (index, reason)."""
    found = []
    for row, item in enumerate(job.items):
        try:
            decode(files.source(item, job.record))
        except CorruptImageError as error:
            found.append((row, str(error)))
    return found
