"""Folders of images, as people have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SMALL_NET = {"model": "cifar_resnet20_v1", "image_size": 16}
"""Trains in seconds on two cores."""


def write_digits(folder: Path, number: int | None = None) -> Path:
    """scikit-learn's handwritten digits as grey PNG files of 8 × 8, in a folder for each digit."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for row, (image, label) in enumerate(zip(digits.images[:number], digits.target[:number], strict=True)):
        place = folder / str(label)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 255 / 16).round().astype(np.uint8)).save(place / f"{row:04d}.png")
    return folder


def write_colours(folder: Path, each: int = 8, *, size: int = 16, kind: str = "png") -> Path:
    """Three classes that a colour tells apart: noise with more red, green or blue."""
    generator = np.random.default_rng(0)
    for number, name in enumerate(("blau", "grün", "rot")):
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        for row in range(each):
            pixels = generator.integers(0, 120, size=(size, size, 3), dtype=np.uint8)
            pixels[..., 2 - number] += 120
            Image.fromarray(pixels).save(place / f"{row}.{kind}")
    return folder


def write_record(path: Path, images: list[tuple[Any, Any]], names: list[str] | None = None) -> Path:
    """A RecordIO file and its index, of (pixels or bytes, label) pairs, and a list of class names."""
    import io

    from trainer.mxnet import mx

    record = mx.recordio.MXIndexedRecordIO(str(path.with_suffix(".idx")), str(path), "w")
    for row, (image, label) in enumerate(images):
        content = image
        if not isinstance(image, bytes):
            stream = io.BytesIO()
            Image.fromarray(image).save(stream, "png")
            content = stream.getvalue()
        record.write_idx(row, mx.recordio.pack(mx.recordio.IRHeader(0, label, row, 0), content))
    record.close()
    if names is not None:
        path.with_suffix(".txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    return path
