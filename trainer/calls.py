"""Operator calls whose arguments are prepared once, for plugins that compute in every step.

Every step works on the same arrays. MXNet's Python functions rebuild the C arguments at each call (10 to 40 µs, of
which starting the operator takes 3 to 7), which is most of a small net's step. This module calls MXNet's public C
interface, `MXImperativeInvokeEx`, and keeps the arguments. Neither a `Call` nor an `Executor` waits for the device.

If numpy computes the step of a small net (`run.gradients.on_host`), starting an operator takes longer than the
arithmetic, and the next step waits for it. numpy can compute on the same arrays: `memory_of(array)`, after
`wait_for_all()`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from trainer.device_time import recorded
from trainer.host_memory import memory_of, wait_for_all
from trainer.mxnet import Array, mx

_library: Any = mx.base._LIB  # noqa: SLF001  the C library that MXNet has loaded has no public name
_check: Any = mx.base.check_call

_FAILED = -1
"""The return code for which `_check` raises the library's last error."""


class Call:
    """One operator on fixed arrays: `Call("_copyto", [source], target)()`.

    Like MXNet's functions it returns before the device is done. Attributes are formatted as in MXNet, so results are
    identical to the bit. Not for use under `autograd.record`.
    """

    __slots__ = ("_arguments", "_inputs", "_invoke", "_kept", "_outputs", "_values", "_written")

    def __init__(self, operator: str, inputs: Sequence[Array], output: Array, **attributes: Any) -> None:
        handle = ctypes.c_void_p()
        _check(_library.NNGetOpHandle(operator.encode(), ctypes.byref(handle)))
        self._inputs = (ctypes.c_void_p * len(inputs))(*[array.handle for array in inputs])
        self._outputs = (ctypes.c_void_p * 1)(output.handle)
        outputs = ctypes.cast(self._outputs, ctypes.POINTER(ctypes.c_void_p))
        self._values = list(attributes.values())
        self._written = (ctypes.c_char_p * len(attributes))(*[_text(value) for value in self._values])
        self._invoke = _library.MXImperativeInvokeEx
        self._arguments = (
            handle,
            ctypes.c_int(len(inputs)),
            self._inputs,
            ctypes.byref(ctypes.c_int(1)),
            ctypes.byref(outputs),
            ctypes.c_int(len(attributes)),
            (ctypes.c_char_p * len(attributes))(*[name.encode() for name in attributes]),
            self._written,
            ctypes.byref(ctypes.POINTER(ctypes.c_int)()),
        )
        self._kept = [*inputs, output]

    def __call__(self) -> None:
        """Starts the operator. Raises MXNetError if it rejects its arguments."""
        if self._invoke(*self._arguments):
            _check(_FAILED)

    def on(self, number: int, array: Array) -> None:
        """Starts the operator with input `number` replaced by an array of the same shape and type."""
        self._inputs[number] = array.handle
        self._kept[number] = array
        if self._invoke(*self._arguments):
            _check(_FAILED)

    def into(self, output: Array, array: Array) -> None:
        """Starts the operator with its first input and its output replaced by arrays of the same shape and type."""
        self._outputs[0], self._kept[-1] = output.handle, output
        self.on(0, array)

    def put(self, number: int, array: Array) -> None:
        """Replaces input `number` by an array of the same shape and type; does not start the operator."""
        self._inputs[number] = array.handle
        self._kept[number] = array

    def having(self, *values: Any) -> None:
        """Starts the operator with new values for all attributes, in the order of the constructor's."""
        for number, (value, held) in enumerate(zip(values, self._values, strict=True)):
            if value != held:
                self._values[number] = value
                self._written[number] = _text(value)
        if self._invoke(*self._arguments):
            _check(_FAILED)


class Executor:
    """Runs a bound symbol without building a new list of outputs in every pass, as MXNet's own class does."""

    __slots__ = ("_backward", "_bound", "_evaluate", "_train", "outputs")

    def __init__(self, bound: Any) -> None:
        handle = bound.handle
        self._bound = bound
        self._train = (handle, ctypes.c_int(1))
        self._evaluate = (handle, ctypes.c_int(0))
        self._backward = (handle, ctypes.c_uint(0), None, ctypes.c_int(1))
        self.outputs: list[Array] = list(bound.outputs)
        """The same arrays after every pass, with new values."""

    def forward(self) -> None:
        """A forward pass in inference mode; the symbol must be bound for inference."""
        if _library.MXExecutorForward(*self._evaluate):
            _check(_FAILED)

    def forward_backward(self) -> None:
        """A forward pass in training mode and the backward pass, with head gradients of one."""
        if _library.MXExecutorForward(*self._train) or _library.MXExecutorBackwardEx(*self._backward):
            _check(_FAILED)


def _text(value: Any) -> bytes:
    return str(value).encode()


__all__ = ["Call", "Executor", "memory_of", "recorded", "wait_for_all"]
