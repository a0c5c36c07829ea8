"""Finds images and their classes."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data import TooFewRows, read_text, stratified_split
from trainer.errors import UsageError, choose_from, first_line, listed

ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "calibration": ("calibration", "calib", "cal"),
    "test": ("test", "testing"),
}
"""The folder names of each split."""
LISTS_OF_NAMES = ("classes.txt", "synset.txt")
"""File names of a list of class names next to a RecordIO file: one name per line."""


@dataclass(frozen=True)
class Images:
    """Images and their classes, in an order that depends only on the files."""

    where: str
    """Their source, for messages."""
    items: Sequence[str | int]
    """The path of each image, or its key in `record`."""
    labels: NDArray[np.int64]
    """(rows,), class numbers; −1 if unknown."""
    classes: tuple[str, ...]
    record: Path | None = None
    """The RecordIO file that holds the images; None for separate files."""
    left_out: Sequence[str] = field(default=())
    """Files in the same folders that are not images."""

    def take(self, rows: NDArray[Any] | Sequence[int]) -> Images:
        """The images of some rows."""
        rows = np.asarray(rows, np.int64)
        return replace(self, items=[self.items[row] for row in rows], labels=self.labels[rows])

    def name(self, row: int) -> str:
        """An image's name, for messages."""
        return str(self.items[row]) if self.record is None else f"{self.record}, record {self.items[row]}"


def find(data: Path, classes: Sequence[str] | None = None) -> dict[str, Images]:
    """The images, by split, of a folder with a folder for each class or split, or of a RecordIO file.

    Without splits there is only `train`. `classes` are the allowed classes, for further data of a run. Raises
    UsageError if the data cannot be used for training.
    """
    if data.is_file():
        return {"train": read_record(data, classes)}
    if not data.is_dir():
        raise UsageError("there is no such folder or file", where=str(data), fix="Check the path.")
    splits = _splits_in(data)
    if not splits:
        return {"train": read_folder(data, classes)}
    found: dict[str, Images] = {}
    for split, folder in splits.items():
        found[split] = read_folder(folder, classes)
        classes = classes or found[split].classes
    return found


def _splits_in(data: Path) -> dict[str, Path]:
    """The folders by split; empty unless there is one for training and one for evaluation."""
    folders = {path.name.lower(): path for path in _folders(data)}
    found = {split: folders[name] for split, names in SPLITS.items() for name in reversed(names) if name in folders}
    return found if "train" in found and len(found) > 1 else {}


def read_folder(folder: Path, classes: Sequence[str] | None = None) -> Images:
    """The images of a folder with a folder for each class, at any depth. Raises UsageError."""
    folders = {path.name: path for path in _folders(folder)}
    if not folders:
        loose = sum(1 for _ in _images_in(folder, []))
        what = f"it has {loose} images, but no folder for each class" if loose else "it has no folder for each class"
        raise UsageError(what, where=str(folder), fix="Put the images of each class into a folder of its own.")
    if classes is None:
        classes = tuple(sorted(folders))
        if len(classes) < 2:
            raise UsageError(
                f"its only class is {classes[0]!r}", where=str(folder), fix="Training needs two classes or more."
            )
    unknown = sorted(set(folders) - set(classes))
    if unknown:
        raise UsageError(
            f"it has the class {unknown[0]!r}, which the training images do not have",
            where=str(folder),
            fix=choose_from(unknown[0], classes, label="The classes are", limit=10),
        )
    items: list[str] = []
    labels: list[int] = []
    others: list[str] = []
    owners: dict[str, str] = {}
    for number, name in enumerate(classes):
        if name not in folders:
            continue
        before, beside = len(items), len(others)
        visited: set[str] = set()
        items += _images_in(folders[name], others, visited)
        _check_owners(owners, name, visited)
        if len(items) == before:
            inside = f"; it has {listed(sorted(others[beside:]), 5)}" if len(others) > beside else ""
            raise UsageError(
                f"the class folder has no images{inside}",
                where=str(folders[name]),
                fix=f"Images end in {listed(sorted(ENDINGS))}. Fill the folder, or remove it.",
            )
        labels += [number] * (len(items) - before)
    return Images(str(folder), items, np.array(labels, np.int64), tuple(classes), left_out=tuple(others))


def read_unlabelled(source: Path) -> Images:
    """One image, or all images in a folder at any depth, without classes. Raises UsageError."""
    if source.is_file():
        if source.suffix.lower() == ".rec":
            return read_record(source, None)
        return Images(str(source), [str(source)], np.full(1, -1, np.int64), ())
    if not source.is_dir():
        raise UsageError("there is no such folder or file", where=str(source), fix="Check the path.")
    others: list[str] = []
    items = list(_images_in(source, others))
    if not items:
        raise UsageError(
            "there are no images in it", where=str(source), fix=f"Images end in {listed(sorted(ENDINGS))}."
        )
    return Images(str(source), items, np.full(len(items), -1, np.int64), (), left_out=tuple(others))


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(each for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))
    except OSError as error:
        raise UsageError(f"it cannot be read: {error.strerror or error}", where=str(path)) from error


def _check_owners(owners: dict[str, str], name: str, visited: set[str]) -> None:
    """Raises UsageError if a link has led from one class into the folder of another; adds the folders of the class."""
    if shared := sorted(visited & owners.keys()):
        raise UsageError(
            f"its images are in two classes, {owners[shared[0]]!r} and {name!r}",
            where=shared[0],
            fix="Remove the link that leads to it from the folder of one of them.",
        )
    owners.update(dict.fromkeys(visited, name))


def _images_in(folder: Path, others: list[str], visited: set[str] | None = None) -> Iterator[str]:
    """The paths of the images, sorted; other files, and links to a folder above, are added to `others`.

    Links to folders are followed, but not upwards: they would lead to the images of other classes, or to everything
    again. `visited` gets the folders, without links in their paths.
    """
    start = os.path.realpath(folder)
    seen = set() if visited is None else visited
    seen.add(start)
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = os.path.realpath(place)
        for name in list(folders):
            real = os.path.realpath(Path(place, name))
            if real in seen or _is_above(real, inside) or _is_above(real, start):
                folders.remove(name)
                others.append(str(Path(place, name)))
            else:
                seen.add(real)
        for name in sorted(files):
            if name.startswith("."):
                continue
            if Path(name).suffix.lower() in ENDINGS:
                yield str(Path(place, name))
            else:
                others.append(str(Path(place, name)))


def _is_above(real: str, path: str) -> bool:
    """Whether a folder is the path, or above it."""
    return os.path.commonpath([real, path]) == real


# ---- RecordIO --------------------------------------------------------------------------------------------------------


def read_record(path: Path, classes: Sequence[str] | None = None) -> Images:
    """A RecordIO file of images, as MXNet's im2rec writes it; its labels are class numbers. Raises UsageError."""
    keys, labels = _headers(path)
    names = classes or _names(path)
    count = int(labels.max()) + 1
    if names is None:
        names = tuple(str(number) for number in range(count))
    elif count > len(names):
        raise UsageError(
            f"a record is of class {count - 1}, and there are {len(names)} classes",
            where=str(path),
            fix="Class numbers start at 0; the list of names needs a line for each.",
        )
    if len(names) < 2:
        raise UsageError("all of its records are of one class", where=str(path), fix="Training needs two classes.")
    return Images(str(path), keys, labels, tuple(names), record=path)


def _headers(path: Path) -> tuple[list[int], NDArray[np.int64]]:
    from trainer.mxnet import mx

    index = path.with_suffix(".idx")
    if path.suffix.lower() != ".rec":
        raise UsageError(
            "it is neither a folder nor a RecordIO file",
            where=str(path),
            fix="Give a folder with a folder for each class, or a .rec file.",
        )
    if not index.is_file():
        raise UsageError(
            f"its index {index.name} is not next to it",
            where=str(path),
            fix="MXNet's im2rec writes both; rec2idx makes the index of a .rec file.",
        )
    try:
        record = mx.recordio.MXIndexedRecordIO(str(index), str(path), "r")
        try:
            keys = [int(key) for key in record.keys]
            labels = [_label(mx.recordio.unpack(record.read_idx(key))[0].label) for key in keys]
        finally:
            record.close()
    except (mx.MXNetError, OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(f"it is not a RecordIO file with labels: {first_line(error)}", where=str(path)) from error
    if not keys:
        raise UsageError("it has no records", where=str(path))
    found = np.array(labels, np.float64)
    if not ((found >= 0) & (found == np.floor(found))).all():
        raise UsageError(
            f"a record's label is {found[(found < 0) | (found != np.floor(found))][0]:g}",
            where=str(path),
            fix="Labels are class numbers from 0.",
        )
    return keys, found.astype(np.int64)


def _label(value: Any) -> float:
    return float(np.ravel(value)[0])


def _names(path: Path) -> tuple[str, ...] | None:
    for name in (f"{path.stem}.txt", *LISTS_OF_NAMES):
        try:
            lines = read_text(path.with_name(name)).splitlines()
        except FileNotFoundError:
            continue
        names = tuple(line.strip() for line in lines if line.strip())
        if names and len(set(names)) == len(names):
            return names
    return None


# ---- splits and counts -----------------------------------------------------------------------------------------------


def split_off(images: Images, part: float, seed: int, split: str) -> tuple[Images, Images]:
    """Splits off the fraction `part`, with the same share of every class on both sides: (the rest, the part).

    Raises UsageError if there are too few images.
    """
    rows = np.arange(len(images.items))
    try:
        taken = stratified_split(images.labels, math.ceil(part * len(rows)), seed, f"{split} split")
    except TooFewRows as error:
        counts = np.bincount(images.labels, minlength=len(images.classes))
        rarest = int(counts.argmin())
        raise UsageError(
            f"{len(rows)} images, {counts[rarest]} of them of {images.classes[rarest]!r}, are too few for a {split} "
            f"split of {part:g} with every class",
            where=images.where,
            fix=f"Use another --{split}-split (0 for none), or more images.",
        ) from error
    return images.take(np.delete(rows, taken)), images.take(taken)


def counts(images: Images) -> Mapping[str, int]:
    """The number of images of each class."""
    return dict(zip(images.classes, np.bincount(images.labels, minlength=len(images.classes)).tolist(), strict=True))


def some(images: Images, count: int = 64) -> list[int]:
    """A sample of at most `count` rows, the same ones every time."""
    rows = range(len(images.items))
    return sorted(random.Random(0).sample(rows, min(count, len(rows))))  # noqa: S311  a sample
