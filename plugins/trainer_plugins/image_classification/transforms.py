"""Turns decoded images into the net's inputs with GluonCV's transforms.

Each image has a seed of its own, which the run derives for (epoch, row): its augmentation does not depend on the
process or on the images before it. GluonCV's transforms draw from Python's and numpy's global generators, which are
seeded before each image. Transforms that draw from MXNet's generator are not used: seeding it costs 1.2 ms, twice as
much as all other work on a small image.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
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

    def train(self, pixels: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        """Transforms (height, width, 3) to (size, size, 3), at random."""
        from trainer.mxnet import mx

        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  the generator that GluonCV draws from
        image = mx.nd.array(pixels, dtype=np.uint8)
        if self.augmentation == "imagenet":
            if image.shape[0] * image.shape[1] < SMALLEST_CROPPED:
                image = mx.image.imresize(image, self.size, self.size, BILINEAR)
            image = mx.image.random_size_crop(image, (self.size, self.size), (0.08, 1.0), (3 / 4, 4 / 3), BILINEAR)[0]
            return _as_pixels(_coloured(_flipped(image)))
        if self.augmentation == "none":
            return _as_pixels(self._middle(image))
        image = self._fitted(image)
        from gluoncv.data.transforms.block import RandomCrop

        image = RandomCrop(self.size, pad=max(1, self.size // 8), interpolation=BILINEAR)(image)
        return _as_pixels(_flipped(image) if self.augmentation == "crop-flip" else image)

    def evaluate(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Transforms (height, width, 3) to (size, size, 3): the center, at the scale of training."""
        from trainer.mxnet import mx

        return _as_pixels(self._middle(mx.nd.array(pixels, dtype=np.uint8)))

    def _middle(self, image: Array) -> Array:
        from trainer.mxnet import mx

        image = self._fitted(image, self.resize or self.size)
        return mx.image.center_crop(image, (self.size, self.size), BILINEAR)[0]

    def _fitted(self, image: Array, short: int = 0) -> Array:
        """The image resized to a shorter side of `short`; unchanged if it has that already."""
        from trainer.mxnet import mx

        short = short or self.size
        return image if min(image.shape[:2]) == short else mx.image.resize_short(image, short, BILINEAR)


def _flipped(image: Array) -> Array:
    from gluoncv.data.transforms.image import random_flip

    return random_flip(image, px=0.5)[0]


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
    """Images (height, width, 3) as (rows, height, width, 3), by GluonCV's batchify."""
    from gluoncv.data.batchify import Stack

    from trainer.mxnet import mx

    if not images:
        return np.empty((0, 0, 0, 3), np.uint8)
    stacked: NDArray[np.uint8] = Stack()([mx.nd.array(image, dtype=np.uint8) for image in images]).asnumpy()
    return stacked


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
