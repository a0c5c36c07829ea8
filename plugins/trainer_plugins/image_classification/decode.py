"""Decodes an image, however it is given: any size, any mode, upright.

Training, evaluation, prediction and Python all come through here, so the same image gives the same pixels to the net.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import first_line

Source = str | bytes
"""A path, or a file's content."""
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
"""PIL's modes for arrays of bytes, by their number of channels."""


class CorruptImageError(Exception):
    """The image cannot be decoded; the message says why."""


class NotAnImageError(Exception):
    """The value cannot be an image; the message says what it is."""


def decode(source: Any) -> NDArray[np.uint8]:
    """The pixels as (height, width, 3), RGB, of a path, a file's content, a PIL image, or an array.

    Rotated according to EXIF; grey and palette images get three channels; transparent parts become white; 16-bit grey
    is reduced to 8; an animation gives its first frame, a PIL image the frame that it is at. Arrays are (height, width)
    or (height, width, channels) of uint8, with 1 to 4 channels as in PIL, or (height, width) of uint16.

    Raises CorruptImageError if the image is damaged or incomplete, and NotAnImageError if it is something else.
    """
    from PIL import Image, ImageFile

    # Importing gluoncv's datasets sets it to True for the whole process, and a truncated image would be used for
    # training with its missing part grey. It is not reset afterwards, because another thread may be decoding.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with warnings.catch_warnings():
            # A decompression bomb would fill the memory: PIL only warns below twice its limit.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if isinstance(source, Image.Image):
                return _pixels(source)
            if isinstance(source, (str, bytes)):
                with Image.open(source if isinstance(source, str) else io.BytesIO(source)) as image:
                    return _pixels(image)
            return _pixels(_from_array(source))
    except (NotAnImageError, MemoryError):
        raise
    except Image.DecompressionBombWarning as error:
        raise CorruptImageError(str(error)) from error
    except Exception as error:
        # For damaged files PIL's readers raise whatever they come across.
        raise CorruptImageError(_reason(error)) from error


def _pixels(image: Any) -> NDArray[np.uint8]:
    from PIL import ImageOps

    filename = getattr(image, "filename", None)
    if filename:
        # With the name of its file, Pillow maps some TIFF files into memory, and forgets how they are turned.
        image.filename = ""
        try:
            image.load()
        finally:
            image.filename = filename
    return np.asarray(_rgb(ImageOps.exif_transpose(image)))


def _from_array(value: Any) -> Any:
    """An array as a PIL image. Raises NotAnImageError."""
    from PIL import Image

    array = value.asnumpy() if hasattr(value, "asnumpy") else value
    if not isinstance(array, np.ndarray):
        raise NotAnImageError(f"a {type(value).__name__}")
    channels = array.shape[2] if array.ndim == 3 else 1
    is_plain = array.dtype == np.uint8 and array.ndim in (2, 3) and channels in MODES
    if not array.size or not (is_plain or (array.dtype == np.uint16 and array.ndim == 2)):
        raise NotAnImageError(f"an array of {array.dtype.name}, {array.shape}")
    if array.dtype == np.uint16:
        return Image.fromarray(array)
    height, width = array.shape[:2]
    return Image.frombytes(MODES[channels], (width, height), np.ascontiguousarray(array).tobytes())


def size(source: Source) -> tuple[int, int]:
    """Height and width in pixels, without decoding. Raises CorruptImageError."""
    from PIL import Image

    try:
        with Image.open(source if isinstance(source, str) else io.BytesIO(source)) as image:
            width, height = image.size
    except Exception as error:
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
