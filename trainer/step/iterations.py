"""scipy's L-BFGS, one iteration per call.

scipy runs a minimization to its end and calls a function for values and gradients. Here it does so in a thread of its
own, which only waits while the caller computes: the function runs in the caller's thread, between two iterations scipy
stands still, and MXNet is never used from another thread.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Point = NDArray[np.float64]
Evaluate = Callable[[Point], tuple[float, Point]]

PAIRS = 10
"""Pairs of steps and gradients that L-BFGS keeps, as scikit-learn does."""
GRADIENT = 1e-8
"""It has converged if no element of the gradient of the mean loss is larger."""
REDUCTION = 2e-16
"""Or if an iteration reduces the loss by less than this, relative to the loss or 1: by less than one rounding error."""
TRIALS = 50
"""Points that one line search tries at most."""


class _Message(NamedTuple):
    kind: str
    """`evaluate` a point, an iteration has `moved` to a point, or the minimization has `ended` or `failed`."""
    value: Any


class _LeftAloneError(Exception):
    """The caller needs no more iterations."""


class Iterations:
    """The iterations from a start, to which the same start and the same function lead again, to the bit."""

    def __init__(self, start: Point, evaluate: Evaluate) -> None:
        self._evaluate = evaluate
        self._asked: SimpleQueue[_Message] = SimpleQueue()
        self._answered: SimpleQueue[Any] = SimpleQueue()
        self._next: _Message | None = None
        self.ended: str | None = None
        """scipy's reason for ending; None while it has not ended."""
        self.has_converged = False
        # The thread knows only the queues, so that it ends when this object is no longer used.
        self._thread = Thread(
            target=_minimize, args=(start.copy(), self._asked, self._answered), name="l-bfgs", daemon=True
        )
        weakref.finalize(self, self._answered.put, None)

    def advance(self) -> Point | None:
        """The point after one more iteration; None if there is nothing left to gain."""
        if self.ended is not None:
            return None
        if self._thread.ident is None:
            self._thread.start()
        moved: Point | None = None
        while True:
            message = self._next or self._asked.get()
            self._next = None
            if message.kind == "evaluate":
                if moved is not None:
                    # The next iteration begins; only now it is known that this one was not the last.
                    self._next = message
                    return moved
                self._answered.put(self._evaluate(message.value))
            elif message.kind == "moved":
                moved = message.value
                self._answered.put(())
            elif message.kind == "failed":
                raise message.value
            else:
                self.has_converged, self.ended = message.value
                return moved


def _minimize(start: Point, asked: SimpleQueue[_Message], answered: SimpleQueue[Any]) -> None:
    from scipy.optimize import minimize

    def ask(kind: str, point: Point) -> Any:
        asked.put(_Message(kind, point.copy()))
        answer = answered.get()
        if answer is None:
            raise _LeftAloneError
        return answer

    try:
        result = minimize(
            lambda point: ask("evaluate", point),
            start,
            method="L-BFGS-B",
            jac=True,
            callback=lambda point: ask("moved", point) and None,
            options={
                "maxcor": PAIRS,
                "gtol": GRADIENT,
                "ftol": REDUCTION,
                "maxls": TRIALS,
                # The caller counts iterations.
                "maxiter": 2**30,
                "maxfun": 2**30,
            },
        )
    except _LeftAloneError:
        return
    except Exception as error:  # noqa: BLE001  raised again in the caller's thread
        asked.put(_Message("failed", error))
        return
    message = result.message.decode() if isinstance(result.message, bytes) else str(result.message)
    asked.put(_Message("ended", (bool(result.success), message)))
