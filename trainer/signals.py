"""Ctrl-C and SIGTERM, turned into a request that the loop sees after the current batch."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.run import Run


class Interrupted(KeyboardInterrupt):
    """A run was interrupted by a signal, and has ended in order. `run` is the run, `signal` the signal's number.

    A KeyboardInterrupt, so that a script does not go on with a half-trained net as if nothing had happened.
    """

    def __init__(self, run: Run, signum: int) -> None:
        self.run = run
        self.signal = signum
        super().__init__(f"interrupted by {signal.Signals(signum).name}")


class Interrupt:
    """The signal that came, if one did."""

    signum: int | None = None
    """What the loop obeys. With several processes, what they have agreed on."""
    noticed: int | None = None
    """What came to this process."""


@contextmanager
def listening(*, alone: bool = True) -> Iterator[Interrupt]:
    """While it is open, the first SIGINT or SIGTERM is noted instead of raised; a second SIGINT raises at once.

    One of several processes (not `alone`) must not obey before all have agreed. It listens to SIGUSR1 too: mpirun
    passes that on to all of them and lets them take their time, where it kills them half a second after a SIGTERM.

    Outside the main thread, where Python allows no signal handlers, nothing is changed.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return

    def note(signum: int, _frame: FrameType | None) -> None:
        if interrupt.noticed is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        interrupt.noticed = interrupt.noticed or signum
        if alone:
            interrupt.signum = interrupt.noticed

    numbers = (signal.SIGINT, signal.SIGTERM) if alone else (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            # None stands for a handler that was not installed from Python, which cannot be put back from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
