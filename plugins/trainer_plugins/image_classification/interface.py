"""Feeds images to a trained model; returns classes and probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import UsageError, first_line
from trainer.model import Encoded, ModelInterface
from trainer_plugins.image_classification.decode import CorruptImageError, NotAnImageError, decode
from trainer_plugins.image_classification.files import Images, find, read_unlabelled
from trainer_plugins.image_classification.loading import Files
from trainer_plugins.image_classification.transforms import Transforms, as_input, stack

ROWS_AT_A_TIME = 64
CLASSES_SHOWN = 20
"""With more classes the table has only the class and its probability."""


class ImageModel(ModelInterface):
    """From files, folders, RecordIO or arrays to `class`, `probability` and a probability for each class."""

    def __init__(
        self,
        classes: Sequence[str],
        transforms: Transforms,
        mean: Sequence[float],
        deviation: Sequence[float],
    ) -> None:
        self._classes = tuple(classes)
        self._transforms = transforms
        self._mean, self._deviation = tuple(mean), tuple(deviation)

    @classmethod
    def from_info(cls, info: Mapping[str, Any]) -> ImageModel:
        """The interface from the task's `model_info`. Raises UsageError, KeyError or TypeError for invalid values."""
        classes = info["classes"]
        if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
            raise UsageError("classes is not a list of names")
        return cls(classes, Transforms(int(info["size"]), resize=int(info["resize"])), info["mean"], info["deviation"])

    def open(self, source: str | Sequence[str], *, keep: Sequence[str] | None, judged: bool) -> ImageRows:
        """Opens a folder of images (at any depth), one image or a .rec file; if `judged`, a folder for each class.

        The column `path` is always kept.
        """
        if not isinstance(source, str):
            raise UsageError(
                "images are read from one folder or file", where="--data", fix="Put them into one folder, or name one."
            )
        if source == "-":
            raise UsageError("images cannot be read from a pipe", where="--data", fix="Give a folder or a file.")
        unknown = [name for name in keep or () if name not in ("path", "label")]
        if unknown:
            raise UsageError(
                f"an image has no column {unknown[0]!r}", where="--keep", fix="Use `label`; `path` is always kept."
            )
        path = Path(source)
        if judged:
            found = find(path, self._classes)
            return ImageRows(self, found.get("test", found.get("validation", found["train"])))
        return ImageRows(self, read_unlabelled(path))

    def encode(self, data: Any) -> Encoded:
        """Encodes images in memory: an array (rows, height, width, channels), or a list of what `decode` takes.

        A single path or PIL image counts as a list of one. Raises UsageError for what is not an image.
        """
        if isinstance(data, (str, bytes, Path)) or hasattr(data, "convert"):
            data = [data]
        elif hasattr(data, "ndim") and data.ndim != 4:
            raise UsageError(
                f"an array {tuple(data.shape)} does not say what its rows are",
                where="the data",
                fix="Give (rows, height, width, channels), or a list of images: [image].",
            )
        return self.encoded([self._pixels(image, number) for number, image in enumerate(data)])

    def encoded(self, images: Sequence[NDArray[np.uint8]], **values: Any) -> Encoded:
        """Encodes decoded images (height, width, 3) as (rows, 3, size, size)."""
        from trainer.mxnet import mx

        size = self._transforms.size
        if not images:
            return Encoded((np.empty((0, 3, size, size), np.float32),), 0, **values)
        pixels = mx.nd.array(stack([self._transforms.evaluate(image) for image in images]), dtype=np.uint8)
        return Encoded((as_input(pixels, self._mean, self._deviation).asnumpy(),), len(images), **values)

    def _pixels(self, image: Any, number: int) -> NDArray[np.uint8]:
        is_path = isinstance(image, (str, Path))
        try:
            return decode(str(image) if is_path else image)
        except CorruptImageError as error:
            where = str(image) if is_path else f"image {number}"
            raise UsageError(f"the image cannot be decoded: {first_line(error)}", where=where) from error
        except NotAnImageError as error:
            raise UsageError(
                f"image {number} is {error}",
                fix="Give (height, width, 3) of uint8, a path, or a PIL image.",
            ) from error

    def one_hot(self, labels: NDArray[np.int64]) -> NDArray[np.float32]:
        """Class numbers (rows,) as (rows, classes)."""
        return np.eye(len(self._classes), dtype=np.float32)[labels]

    def columns(self, predictions: NDArray[Any], threshold: float | None) -> dict[str, Any]:
        """The most probable `class` and its `probability`; up to twenty classes, `probability-NAME` for each too."""
        import pyarrow as pa

        scores = predictions.reshape(-1, len(self._classes))
        best = scores.argmax(axis=1) if len(scores) else np.empty(0, np.int64)
        found: dict[str, Any] = {
            "class": pa.array(self._classes).take(pa.array(best)),
            "probability": scores[np.arange(len(scores)), best],
        }
        if len(self._classes) <= CLASSES_SHOWN:
            found |= {f"probability-{name}": scores[:, number] for number, name in enumerate(self._classes)}
        return found

    def card(self) -> Mapping[str, Any]:
        """The model card's entries about inputs and outputs."""
        size = self._transforms.size
        return {
            "predicts": "the class of an image",
            "classes": list(self._classes),
            "columns": ["class", "probability"],
            "inputs": (
                f"RGB, (rows, 3, {size}, {size}); pixels from 0 to 1, minus {list(self._mean)}, divided by "
                f"{list(self._deviation)}; the center of the image, resized to a shorter side of "
                f"{self._transforms.resize or size}"
            ),
        }


class ImageRows:
    """Images, read in parts."""

    def __init__(self, model: ImageModel, images: Images) -> None:
        self.where = images.where
        self.total: int | None = len(images.items)
        self.done = 0
        self._model = model
        self._images = images
        self._files = Files()
        self._skips = False
        self.skipped: list[str] = []
        """The corrupt images that were left out, with the reasons."""

    notes: Sequence[str] = ()

    @property
    def ignored(self) -> Sequence[str]:
        """Files that are not images."""
        return self._images.left_out

    def skip_corrupt(self) -> None:
        """From now on leaves out images that cannot be decoded, instead of raising."""
        self._skips = True

    def __iter__(self) -> Iterator[Encoded]:
        """Yields the images in parts. Raises UsageError for an image that cannot be decoded, unless it is left out."""
        import pyarrow as pa

        images = self._images
        for start in range(0, len(images.items), ROWS_AT_A_TIME):
            rows = range(start, min(start + ROWS_AT_A_TIME, len(images.items)))
            decoded = {row: pixels for row in rows if (pixels := self._pixels(row)) is not None}
            self.done = rows.stop
            if not decoded:
                continue
            labels = images.labels[list(decoded)]
            kept: dict[str, Any] = {"path": pa.array([images.name(row) for row in decoded])}
            if images.classes:
                kept["label"] = pa.array(images.classes).take(pa.array(labels))
            yield self._model.encoded(
                list(decoded.values()),
                labels=self._model.one_hot(labels) if images.classes else None,
                kept=kept,
            )
        if len(self.skipped) == len(images.items):
            raise UsageError(f"all {len(images.items)} images are corrupt: {self.skipped[0]}", where=images.where)

    def _pixels(self, row: int) -> NDArray[np.uint8] | None:
        """An image; None if it is corrupt and left out."""
        record = self._images.record
        try:
            return decode(self._files.source(self._images.items[row], None if record is None else str(record)))
        except CorruptImageError as error:
            name = self._images.name(row)
            if self._skips:
                self.skipped.append(f"{name}: {error}")
                return None
            raise UsageError(
                f"the image cannot be decoded: {first_line(error)}",
                where=name,
                fix="Remove or replace it, or pass --skip-corrupt to leave out such images.",
            ) from error

    def close(self) -> None:
        """Does nothing: no file stays open."""
