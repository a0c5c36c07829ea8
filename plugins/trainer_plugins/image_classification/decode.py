"""Decodes an image: any size, any mode, upright."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import first_line

Source = str | bytes
"""A path, or a file's content."""


class CorruptImageError(Exception):
    """The image cannot be decoded; the message says why."""


def decode(source: Source) -> NDArray[np.uint8]:
    """The pixels as (height, width, 3), RGB.

    Rotated according to EXIF; grey and palette images get three channels; transparent parts become white; 16-bit grey
    is reduced to 8; an animation gives its first frame. Raises CorruptImageError if the image is damaged or incomplete.
    """
    from PIL import Image, ImageFile, ImageOps

    # Importing gluoncv's datasets sets it to True for the whole process, and a truncated image would be used for
    # training with its missing part grey. It is not reset afterwards, because another thread may be decoding.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with warnings.catch_warnings():
            # A decompression bomb would fill the memory: PIL only warns below twice its limit.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source if isinstance(source, str) else io.BytesIO(source)) as image:
                upright = ImageOps.exif_transpose(image)
                return np.asarray(_rgb(upright))
    except (OSError, SyntaxError, ValueError, TypeError, IndexError, EOFError, Image.DecompressionBombError) as error:
        # PIL raises all of these for damaged files, and UnidentifiedImageError (an OSError) for other files.
        raise CorruptImageError(_reason(error)) from error
    except Image.DecompressionBombWarning as error:
        raise CorruptImageError(str(error)) from error


def size(source: Source) -> tuple[int, int]:
    """Height and width in pixels, without decoding. Raises CorruptImageError."""
    from PIL import Image

    try:
        with Image.open(source if isinstance(source, str) else io.BytesIO(source)) as image:
            width, height = image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise CorruptImageError(_reason(error)) from error
    return height, width


def _rgb(image: Any) -> Any:
    from PIL import Image

    if image.mode.startswith("I"):
        # 16 bits per pixel; PIL itself would clip everything above 255.
        values = np.asarray(image, np.int64)
        image = Image.fromarray((values >> 8 if values.max(initial=0) > 255 else values).clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, (255, 255, 255, 255))
        background.alpha_composite(image)
        image = background
    return image.convert("RGB")


def _reason(error: BaseException) -> str:
    if type(error).__name__ == "UnidentifiedImageError":
        return "it is not an image"
    return first_line(error)
