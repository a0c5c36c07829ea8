"""One image as numbers: any size, any mode, upright."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import first_line

Source = str | bytes
"""A path, or what a file holds."""


class CorruptImageError(Exception):
    """It cannot be decoded; the message says why."""


def decode(source: Source) -> NDArray[np.uint8]:
    """The pixels as (height, width, 3), RGB.

    Turned as its EXIF data say; grey and palette images get three channels; what is transparent lies on white; 16-bit
    grey is brought to 8; of an animation, the first frame. Raises CorruptImageError for whatever cannot be read whole.
    """
    from PIL import Image, ImageFile, ImageOps

    # Importing gluoncv's datasets sets it to True, for the whole process: half an image would be trained on as if it
    # were whole, its rest grey. Not set back, as another thread may be decoding.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with warnings.catch_warnings():
            # One far larger than it says would fill the memory: PIL only warns below twice its limit.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source if isinstance(source, str) else io.BytesIO(source)) as image:
                upright = ImageOps.exif_transpose(image)
                return np.asarray(_rgb(upright))
    except (OSError, SyntaxError, ValueError, TypeError, IndexError, EOFError, Image.DecompressionBombError) as error:
        # PIL raises all of these for files that are damaged, UnidentifiedImageError (an OSError) for others.
        raise CorruptImageError(_reason(error)) from error
    except Image.DecompressionBombWarning as error:
        raise CorruptImageError(str(error)) from error


def size(source: Source) -> tuple[int, int]:
    """Height and width, without decoding; raises CorruptImageError."""
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
        # 16 bits a pixel; PIL itself would cut off everything above 255.
        values = np.asarray(image, np.int64)
        image = Image.fromarray((values >> 8 if values.max(initial=0) > 255 else values).clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
        ground.alpha_composite(image)
        image = ground
    return image.convert("RGB")


def _reason(error: BaseException) -> str:
    if type(error).__name__ == "UnidentifiedImageError":
        return "it is no image"
    return first_line(error)
