"""Standard input that Ctrl-C can interrupt.

pyarrow reads on its own threads while the main thread waits in C++, where no Python signal handler runs: Ctrl-C would
take effect only when the next row arrives, which on a pipe may be never. But the signal's number is also written to a
wake-up descriptor at once, so the reading thread waits for that as well as for rows.
"""

from __future__ import annotations

import io
import os
import select
import signal
import sys
import threading
from typing import Any


class StandardInput(io.RawIOBase):
    """The bytes of standard input; reading raises InterruptedError after a signal that Python handles.

    Create it on the main thread and close it: in between it owns the process's wake-up descriptor.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self._before = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Waits for bytes, or for a signal."""
        ready, _, _ = select.select([self._descriptor, self._woken], [], [])
        if self._woken in ready:
            raise InterruptedError("a signal arrived")
        return os.readv(self._descriptor, [buffer])

    def close(self) -> None:
        """Restores the wake-up descriptor."""
        if not self.closed:
            signal.set_wakeup_fd(self._before)
            os.close(self._wake)
            os.close(self._woken)
        super().close()


def standard_input() -> Any:
    """Standard input as a buffered file; closing it leaves the process's standard input open."""
    try:
        descriptor = sys.stdin.fileno()
    except (OSError, ValueError, AttributeError):
        # Replaced by a Python object, or closed.
        descriptor = -1
    if descriptor < 0 or threading.current_thread() is not threading.main_thread():
        return io.BytesIO() if sys.stdin is None else _Kept(sys.stdin.buffer)
    return io.BufferedReader(StandardInput(descriptor), 1 << 20)


class _Kept:
    """A file that stays open when this is closed."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._file.read(size)
        return data

    def read1(self, size: int = -1) -> bytes:
        data: bytes = self._file.read1(size)
        return data

    def close(self) -> None:
        pass
