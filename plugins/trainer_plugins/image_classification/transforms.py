"""Turns decoded images into the net's inputs: the pixels that GluonCV's and MXNet's transforms give.

Each image has a seed of its own, which the run derives for (epoch, row): its augmentation does not depend on the
process or on the images before it. GluonCV's transforms draw from Python's and numpy's global generators, which are
seeded before each image. Transforms that draw from MXNet's generator are not used: seeding it costs 1.2 ms, twice as
much as all other work on a small image.

Cutting, padding and mirroring are slices in numpy, with the same random numbers as GluonCV's: 0.02 ms for an image of
32 × 32, where operators of MXNet take 1 ms. MXNet computes what has to be interpolated, and colours.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from trainer.mxnet import Array

Augmentation = Literal["auto", "none", "crop", "crop-flip", "imagenet"]

LIGHTING = 0.1
"""The standard deviation of the noise on the colours' principal components, as in GluonCV's training scripts."""
BILINEAR = 1
SMALLEST_CROPPED = 9
"""Pixels of an image below which a random crop can come out empty, since its sides are rounded."""


@dataclass(frozen=True)
class Transforms:
    """The transforms of an image, as plain values that can be sent to other processes."""

    size: int
    """Height and width of the net's input."""
    augmentation: str = "none"
    resize: int = 0
    """The shorter side before the center crop, in evaluation; 0 for `size`."""

    @property
    def is_light(self) -> bool:
        """Whether `augmented` takes next to no time, so that the process that trains can do it itself."""
        return self.augmentation != "imagenet"

    def train(self, pixels: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        """Transforms (height, width, 3) to (size, size, 3), at random."""
        return self.augmented(self.prepared(pixels, training=True), seed)

    def evaluate(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Transforms (height, width, 3) to (size, size, 3): the center, at the scale of training."""
        return self.prepared(pixels, training=False)

    def prepared(self, pixels: NDArray[np.uint8], *, training: bool) -> NDArray[np.uint8]:
        """The part of `train` or `evaluate` that is the same in every epoch; all of it for `evaluate`."""
        if not training or self.augmentation == "none":
            return self._middle(pixels)
        return pixels if self.augmentation == "imagenet" else self._fitted(pixels)

    def augmented(self, prepared: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        """The random part of `train`, for what `prepared` returned."""
        if self.augmentation == "none":
            return prepared
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  the generator that GluonCV draws from
        if self.augmentation == "imagenet":
            return self._imagenet(prepared)
        image = _shifted(prepared, self.size, max(1, self.size // 8))
        return image[:, ::-1] if self.augmentation == "crop-flip" and _is_flipped() else image

    def _imagenet(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        mx = started()
        image = mx.nd.array(pixels, dtype=np.uint8)
        if image.shape[0] * image.shape[1] < SMALLEST_CROPPED:
            image = mx.image.imresize(image, self.size, self.size, BILINEAR)
        image = mx.image.random_size_crop(image, (self.size, self.size), (0.08, 1.0), (3 / 4, 4 / 3), BILINEAR)[0]
        return _as_pixels(_coloured(mx.nd.flip(image, axis=1) if _is_flipped() else image))

    def _middle(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """As `mx.image.center_crop`."""
        pixels, size = self._fitted(pixels, self.resize or self.size), self.size
        height, width = pixels.shape[:2]
        if min(height, width) < size:
            mx = started()
            image = mx.nd.array(pixels, dtype=np.uint8)
            return _as_pixels(mx.image.center_crop(image, (size, size), BILINEAR)[0])
        top, left = (height - size) // 2, (width - size) // 2
        return pixels[top : top + size, left : left + size]

    def _fitted(self, pixels: NDArray[np.uint8], short: int = 0) -> NDArray[np.uint8]:
        """The image resized to a shorter side of `short`; unchanged if it has that already."""
        short = short or self.size
        if min(pixels.shape[:2]) == short:
            return pixels
        mx = started()
        return _as_pixels(mx.image.resize_short(mx.nd.array(pixels, dtype=np.uint8), short, BILINEAR))


@cache
def started() -> Any:
    """MXNet. A process with another engine than the default starts it here, without MXNet's message about that."""
    if "MXNET_ENGINE_TYPE" not in os.environ:
        from trainer.mxnet import mx

        return mx
    stderr, devnull = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(devnull, 2)
        from trainer.mxnet import mx

        mx.nd.zeros(1).wait_to_read()
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(devnull)
    return mx


def _shifted(pixels: NDArray[np.uint8], size: int, pad: int) -> NDArray[np.uint8]:
    """A square cut out at random from the image with a black border: GluonCV's `RandomCrop(size, pad)`."""
    height, width = pixels.shape[:2]
    left = random.randint(0, width + 2 * pad - size) - pad  # noqa: S311  not for secrets
    top = random.randint(0, height + 2 * pad - size) - pad  # noqa: S311
    rows, columns = _overlap(top, size, height), _overlap(left, size, width)
    cut = np.zeros((size, size, 3), np.uint8)
    inside = pixels[rows, columns]
    cut[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = inside
    return cut


def _overlap(start: int, size: int, side: int) -> slice:
    return slice(max(start, 0), min(start + size, side))


def _is_flipped() -> bool:
    """Whether an image is mirrored, with the draws of GluonCV's `random_flip`: for top and bottom, for left and right.

    There they are `np.random.choice([False, True], p=[1 - p, p])`, which takes 15 µs and draws one number.
    """
    draws = np.random.random_sample(2)  # noqa: NPY002  the generator that GluonCV draws from
    return bool(draws[1] >= 0.5)


def _coloured(image: Array) -> Array:
    from gluoncv.data.transforms.experimental.image import random_color_distort
    from gluoncv.data.transforms.image import random_pca_lighting

    distorted = random_color_distort(image.astype(np.float32)).clip(0, 255)
    # GluonCV's defaults are for values from 0 to 1.
    return random_pca_lighting(distorted / 255, LIGHTING) * 255


def _as_pixels(image: Array) -> NDArray[np.uint8]:
    values: NDArray[Any] = image.asnumpy()
    return values if values.dtype == np.uint8 else values.round().clip(0, 255).astype(np.uint8)


def stack(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Images (height, width, 3) as (rows, height, width, 3)."""
    return np.stack(images) if images else np.empty((0, 0, 0, 3), np.uint8)


def as_input(pixels: Array, mean: Sequence[float], deviation: Sequence[float]) -> Array:
    """Pixels (rows, height, width, 3), 0 to 255, as normalised (rows, 3, height, width), on the same device."""
    from trainer.mxnet import mx

    return mx.nd.image.normalize(mx.nd.image.to_tensor(pixels), mean=tuple(mean), std=tuple(deviation))


def as_pixels(inputs: NDArray[Any], mean: Sequence[float], deviation: Sequence[float]) -> NDArray[np.uint8]:
    """The inverse of `as_input`: (rows, height, width, 3), 0 to 255."""
    spread = np.reshape(deviation, (1, 3, 1, 1))
    values = (np.asarray(inputs) * spread + np.reshape(mean, (1, 3, 1, 1))) * 255
    pixels: NDArray[np.uint8] = values.round().clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
    return pixels
