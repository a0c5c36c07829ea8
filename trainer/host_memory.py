"""The memory of NDArrays on the CPU, read and written from Python without MXNet's engine.

numpy gathers rows in a thread of its own, beside the operators that the engine runs. MXNet's engine does not know of
such accesses, so the caller has to wait for it.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.mxnet import Array, Context, mx

_library: Any = mx.base._LIB  # noqa: SLF001  the C library that MXNet has loaded has no public name
_check: Any = mx.base.check_call


def is_host(context: Context) -> bool:
    """Whether arrays on a context lie in the memory of this process."""
    return str(context.device_type).startswith("cpu")


def memory_of(array: Array) -> NDArray[Any]:
    """An NDArray's memory as a numpy array that shares it, and keeps it alive; the NDArray must be on the CPU.

    Waits until the array has its value.
    """
    array.wait_to_read()
    dtype = np.dtype(array.dtype)
    size = int(np.prod(array.shape))
    if size == 0:
        return np.empty(array.shape, dtype)
    pointer = ctypes.c_void_p()
    _check(_library.MXNDArrayGetData(array.handle, ctypes.byref(pointer)))
    held: Any = (ctypes.c_byte * (size * dtype.itemsize)).from_address(pointer.value or 0)
    held.owner = array
    memory: NDArray[Any] = np.frombuffer(held, dtype).reshape(array.shape)
    return memory


def shared(array: NDArray[Any]) -> Array:
    """An NDArray on the first CPU context that shares the memory of a numpy array in C order, which may be read-only.

    It must not be written then: MXNet does not know, and the process would end.
    """
    # from_numpy marks its argument as read-only; a view keeps the caller's array writable.
    return mx.nd.from_numpy(array.view(), zero_copy=True)


def wait_to_write(array: Array) -> None:
    """Waits until nothing that is queued reads or writes an array, or another view of its memory."""
    _check(_library.MXNDArrayWaitToWrite(array.handle))


def wait_for_all() -> None:
    """Waits until MXNet has nothing left to compute; takes 0.5 µs if that is so already.

    Waiting for one array to be written would start an operator.
    """
    if _library.MXNDArrayWaitAll():
        _check(-1)


__all__ = ["is_host", "memory_of", "shared", "wait_for_all", "wait_to_write"]
