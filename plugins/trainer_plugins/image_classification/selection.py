"""Selects the images of each split, and checks that they suit the net."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from trainer.errors import UsageError
from trainer_plugins.image_classification import decode
from trainer_plugins.image_classification.files import SPLITS, Images, counts, find, some, split_off
from trainer_plugins.image_classification.loading import Files, Job
from trainer_plugins.image_classification.pool import Pool, load_all
from trainer_plugins.image_classification.transforms import Transforms

ENLARGED_AT_MOST = 4
"""How many times larger than the images the net's input may be without --upscale."""
SHOWN_CLASSES = 10


def find_splits(
    data: Path, further: Mapping[str, Path | None], shares: Mapping[str, float], seed: int
) -> tuple[dict[str, Images], bool]:
    """The images by split, and whether some were split off the training images, as for a split without data of its own.

    `further` are the images of their own that splits have, and `shares` the fractions of all images that the others
    get, in that order.
    """
    found = find(data)
    classes = found["train"].classes
    for split, given in further.items():
        if given is not None:
            own = find(given, classes)
            found[split] = own.get(split, own["train"])
    # Shares are of all images, not of those left after the other split.
    total, divided = len(found["train"].items), False
    for split, part in shares.items():
        if part and split not in found and total:
            share = min(part * total / len(found["train"].items), 1 - 1e-9)
            found["train"], found[split] = split_off(found["train"], share, seed, split)
            divided = True
    return {split: found[split] for split in SPLITS if split in found}, divided


def without_corrupt(images: Images, transforms: Transforms, pool: Pool) -> tuple[Images, str]:
    """The images without those that cannot be decoded, and a line about them; empty if there are none.

    Raises UsageError if all images of a class are corrupt.
    """
    size, record = 256, None if images.record is None else str(images.record)
    starts = range(0, len(images.items), size)
    jobs = [Job(images.items[start : start + size], record, transforms, only_check=True) for start in starts]
    corrupt = [
        (start + row, reason)
        for start, answers in zip(starts, load_all(pool, jobs), strict=True)
        for row, reason in answers
    ]
    if not corrupt:
        return images, ""
    first, reason = corrupt[0]
    more = f", and {len(corrupt) - 1} more" if len(corrupt) > 1 else ""
    line = f"corrupt images left out: {len(corrupt)} ({images.name(first)}: {reason}{more})"
    kept = sorted(set(range(len(images.items))) - {row for row, _ in corrupt})
    intact = images.take(kept)
    missing = sorted(set(images.labels.tolist()) - set(intact.labels.tolist()))
    if missing:
        raise UsageError(f"all images of the class {images.classes[missing[0]]!r} are corrupt", where=images.where)
    return intact, line


def check_sizes(images: Images, size: int, model: str) -> None:
    """Raises UsageError if most images are far smaller than the net's input, `size` pixels."""
    files, sides = Files(), []
    for row in some(images):
        try:
            source = files.source(images.items[row], None if images.record is None else str(images.record))
            sides.append(min(decode.size(source)))
        except decode.CorruptImageError:
            continue  # reported when it is loaded
    if not sides:
        return
    typical = int(np.median(sides))
    if typical * ENLARGED_AT_MOST < size:
        raise UsageError(
            f"the net's input is {size} × {size}, and the images' shorter side is {typical}: they would be "
            f"enlarged {size / typical:.0f} times",
            where=f"--model {model}",
            fix=f"Use --image-size {max(32, typical)} or a net for small images (cifar_resnet20_v1), or pass "
            "--upscale.",
        )


def class_line(images: Images) -> str:
    """A line about the classes and how many training images each has."""
    found = counts(images)
    shown = ", ".join(f"{name} {count}" for name, count in list(found.items())[:SHOWN_CLASSES])
    more = f" and {len(found) - SHOWN_CLASSES} more" if len(found) > SHOWN_CLASSES else ""
    return f"classes: {len(found)}, training images of each: {shown}{more}"
