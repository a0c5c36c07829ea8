"""The engine's interface to the processes of a job, implemented for a single process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Processes:
    """The processes of a job, seen from one of them. This class is for a single process: every sum is its argument.

    All processes have to call "collective" methods in the same order: each waits for the others. If another process
    fails meanwhile, they raise OtherProcessFailed.
    """

    rank: int = 0
    """The number of this process, from 0. Rank 0 writes and prints."""
    size: int = 1
    """The number of processes."""
    local_rank: int = 0
    """The number of this process among those on the same machine."""
    local_size: int = 1
    """The number of processes on this machine."""
    rank_timeout: float = 600.0
    """How many seconds a process may give no sign of life while others wait for it."""

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """Wraps what all processes do: an error in one of them ends the block in all, and is reported once."""
        yield

    def tell(self, error: BaseException) -> None:
        """Sends an error of this process to the others at once, so that they stop waiting for this one."""

    def listen(self) -> None:
        """Raises OtherProcessFailed if another process has failed."""

    def broadcast_array(self, array: NDArray[Any]) -> NDArray[Any]:
        """Collective: rank 0's values; `array` has the same shape and type in every process."""
        return array

    def gather(self, value: Any) -> list[Any]:
        """Collective: every rank's JSON value, in every process."""
        return [value]

    def gather_rows(self, arrays: Sequence[NDArray[Any] | None]) -> list[NDArray[Any] | None]:
        """Collective: each array with the rows of all processes, in rank order.

        A process without rows passes None for all of them; an array that is None everywhere stays None.
        """
        return list(arrays)

    def sum(self, array: NDArray[Any]) -> NDArray[Any]:
        """Collective: sums over all processes in place and returns `array`, which must be contiguous."""
        return array

    def sum_now(self, array: NDArray[Any]) -> None:
        """Collective: like `sum`, directly after another exchange of all processes. Faster for large arrays."""

    def union(self, bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Collective: the bits that are set in any process, in place; returns `bits`."""
        return bits

    def compare(self, what: Mapping[str, Any], where: str) -> None:
        """Collective: raises UsageError, naming rank and key, if a JSON value differs from rank 0's."""
