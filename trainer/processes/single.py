"""What the engine asks of the processes of a job, with the answers of a process that is alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Processes:
    """The processes of a job, seen from one of them. As it stands, a process alone: every sum is what it was given.

    Methods marked "collective" have to be called by all processes in the same order: each waits for the others. Where
    another process fails meanwhile they raise OtherProcessFailed.
    """

    rank: int = 0
    """The number of this process, from 0. Rank 0 writes and prints."""
    size: int = 1
    """How many there are."""
    local_rank: int = 0
    """The number of this process among those of the same machine."""
    local_size: int = 1
    """How many of them run on this machine."""

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """Around what all processes do: an error in one of them ends it in all, and is told once."""
        yield

    def tell(self, error: BaseException) -> None:
        """Makes an error of this process known to the others at once; they stop waiting for this one."""

    def listen(self) -> None:
        """Raises OtherProcessFailed where another process has failed."""

    def broadcast_array(self, array: NDArray[Any]) -> NDArray[Any]:
        """Collective: rank 0's values, in an array of the same shape and type in every process."""
        return array

    def gather(self, value: Any) -> list[Any]:
        """Collective: every rank's JSON value, in every process."""
        return [value]

    def gather_rows(self, arrays: Sequence[NDArray[Any] | None]) -> list[NDArray[Any] | None]:
        """Collective: each array with the rows of all processes, in the order of the ranks.

        A process without rows gives None for all of them; what is None everywhere stays None.
        """
        return list(arrays)

    def sum(self, array: NDArray[Any]) -> NDArray[Any]:
        """Collective: the sum over all processes, in `array` itself, which must be contiguous."""
        return array

    def sum_now(self, array: NDArray[Any]) -> None:
        """Collective: as `sum`, right after another exchange of all processes. Faster for large arrays."""

    def union(self, bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Collective: the bits that are set in any process, in `bits` itself."""
        return bits

    def compare(self, what: Mapping[str, Any], where: str) -> None:
        """Collective: raises UsageError, naming rank and key, where a JSON value is another one than rank 0's."""
