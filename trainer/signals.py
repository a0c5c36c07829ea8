"""Turns Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 into a request that the loop handles after the current batch."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.run import Run


HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""SIGHUP comes when the terminal closes. mpirun forwards SIGUSR1 to all processes and lets them finish, but it kills
them half a second after a SIGTERM; a batch system may send it shortly before the time is up."""


class Interrupted(KeyboardInterrupt):
    """A run was interrupted by a signal, and has shut down cleanly. `run` is the run, `signal` the signal's number.

    It is a KeyboardInterrupt, so that a script does not continue with a half-trained net.
    """

    def __init__(self, run: Run, signum: int) -> None:
        self.run = run
        self.signal = signum
        super().__init__(f"interrupted by {signal.Signals(signum).name}")


class Interrupt:
    """The signal that was received, if any."""

    signum: int | None = None
    """The signal that the loop acts on. With several processes, the one they have agreed on."""
    noticed: int | None = None
    """The signal that this process received."""


@contextmanager
def listening(*, alone: bool = True) -> Iterator[Interrupt]:
    """Inside the block the first signal is recorded instead of raised; a second SIGINT raises at once.

    One of several processes (not `alone`) must not act before all have agreed. A SIGHUP that is ignored, as under
    nohup, stays ignored.

    Outside the main thread, where Python allows no signal handlers, nothing changes.
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

    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    numbers = [number for number in HANDLED if not (ignored and number == signal.SIGHUP)]
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            # None means that the handler was not installed from Python; such a handler cannot be restored.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
