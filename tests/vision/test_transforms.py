"""Pixels are those of GluonCV's and MXNet's own transforms, to the bit and with the same random numbers."""

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.mxnet import mx  # isort: skip  it arranges what gluoncv needs
from gluoncv.data.transforms.block import RandomCrop
from gluoncv.data.transforms.experimental.image import random_color_distort
from gluoncv.data.transforms.image import random_flip, random_pca_lighting

from trainer_plugins.image_classification.transforms import Transforms

BILINEAR = 1


def resized(image, short):
    return image if min(image.shape[:2]) == short else mx.image.resize_short(image, short, BILINEAR)


def middle(image, transforms):
    image = resized(image, transforms.resize or transforms.size)
    return mx.image.center_crop(image, (transforms.size, transforms.size), BILINEAR)[0]


def by_gluoncv(pixels, transforms, seed):
    """What GluonCV's blocks make of an image."""
    random.seed(seed)
    np.random.seed(seed)
    image, size = mx.nd.array(pixels, dtype=np.uint8), transforms.size
    if transforms.augmentation == "none":
        return middle(image, transforms).asnumpy()
    if transforms.augmentation == "imagenet":
        if image.shape[0] * image.shape[1] < 9:
            image = mx.image.imresize(image, size, size, BILINEAR)
        image = mx.image.random_size_crop(image, (size, size), (0.08, 1.0), (3 / 4, 4 / 3), BILINEAR)[0]
        image = random_flip(image, px=0.5)[0]
        image = random_color_distort(image.astype(np.float32)).clip(0, 255)
        image = random_pca_lighting(image / 255, 0.1) * 255
    else:
        image = RandomCrop(size, pad=max(1, size // 8), interpolation=BILINEAR)(resized(image, size))
        image = random_flip(image, px=0.5)[0] if transforms.augmentation == "crop-flip" else image
    return image.asnumpy().round().clip(0, 255).astype(np.uint8)


@settings(deadline=None, max_examples=150)
@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    transforms=st.builds(
        Transforms,
        st.sampled_from([8, 16, 24]),
        st.sampled_from(["none", "crop", "crop-flip", "imagenet"]),
        st.sampled_from([0, 8, 20, 27]),
    ),
    seed=st.integers(0, 2**31 - 1),
)
def test_pixels_are_those_of_gluoncv(height, width, transforms, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    np.testing.assert_array_equal(transforms.train(pixels, seed), by_gluoncv(pixels, transforms, seed))
    judged = middle(mx.nd.array(pixels, dtype=np.uint8), transforms).asnumpy()
    np.testing.assert_array_equal(transforms.evaluate(pixels), judged)
