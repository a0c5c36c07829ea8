"""The processes of a job, connected by MPI.

A waiting process polls: is the exchange complete, and has another process reported an error on its own channel? So
an exception in one process becomes an exception in all, whatever they are waiting for. Sums over large arrays use MPI's
blocking calls, which are faster, but only after all processes have arrived. If a process is killed, its launcher
ends the job; one that hangs is found by its missing signs of life (`heartbeat`).
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.device_time import waiting
from trainer.errors import UsageError
from trainer.processes.failures import OtherProcessFailed, OtherProcessMisused
from trainer.processes.heartbeat import Heartbeat, RankLost
from trainer.processes.launcher import Launched
from trainer.processes.mpi_start import abort, abort_on_unhandled, library, load
from trainer.processes.single import Processes
from trainer.terminal import say

POLLED_BYTES = 1 << 16
"""Sums up to this size are polled; larger ones use MPI's blocking call once all processes have arrived."""
EAGER_POLLS = 2000
"""Polls without a pause: some hundreds of microseconds, in which most exchanges complete."""
LONGEST_PAUSE_SECONDS = 0.001
LEAVING_SECONDS = 10.0
"""How long a process whose run has failed waits for the others to end theirs before it ends the whole job."""
MESSAGE_BYTES = 2000
"""The longest error report to the other processes; longer ones are cut."""
MISUSED, FAILED = "usage", "failure"
"""The kinds of error reports: the user can fix the first."""
PIECE = 1 << 28
"""Elements of an array per exchange: MPI counts with 32 bits."""


class World(Processes):
    """All processes that the launcher started."""

    def __init__(self, start: Launched) -> None:
        """Connects to the others. Raises UsageError if MPI cannot be loaded or does not match the launcher."""
        self._mpi = mpi = load(start)
        world = mpi.COMM_WORLD
        if world.Get_size() != start.size:
            seen = f"MPI ({library(mpi)}) sees {world.Get_size()}"
            raise UsageError(
                f"{start.by} started {start.size} processes, but {seen}",
                fix="Use that MPI's launcher; the extra's launcher is the mpirun in the environment's bin folder.",
            )
        self.rank, self.size = world.Get_rank(), world.Get_size()
        # One channel per kind of message: messages left over in one when a run fails do not disturb the others.
        self._exchanges, self._errors, self._endings = (world.Dup() for _ in range(3))
        machine = world.Split_type(mpi.COMM_TYPE_SHARED)
        self.local_rank, self.local_size = machine.Get_rank(), machine.Get_size()
        self.name = f"rank {self.rank} on {socket.gethostname()}"
        self._depth = 0
        self._reported: BaseException | None = None
        self._job = 0
        """The number of failures so far: a script may catch one and continue."""
        self._sent: list[Any] = []
        self._share_processors()
        abort_on_unhandled(world)
        self._heartbeat: Heartbeat | None = None
        names = self.gather([self.name, secrets.token_hex(8)])
        heartbeat = Heartbeat(self.rank, [name for name, _ in names], names[0][1], lambda: self.rank_timeout)
        heartbeat.start([(host, port) for host, port in self.gather([socket.gethostname(), heartbeat.port])])
        self._heartbeat = heartbeat

    def _share_processors(self) -> None:
        """Divides a machine's processors among its processes, unless OMP_NUM_THREADS is set.

        Otherwise each would start as many threads as there are processors, and they would wait for one another.
        """
        if self.local_size > 1 and hasattr(os, "sched_getaffinity"):
            mine, present = len(os.sched_getaffinity(0)), os.cpu_count() or 1
            # A launcher that binds processes to processors has already divided them.
            share = mine if mine < present else mine // self.local_size
            os.environ.setdefault("OMP_NUM_THREADS", str(max(1, share)))

    # ---- errors -----------------------------------------------------------------------------------------------------

    @contextmanager
    def together(self) -> Iterator[None]:
        self._depth += 1
        try:
            yield
        except BaseException as error:
            self.tell(error)
            if self._depth == 1:
                self._leave(error)
            raise
        finally:
            self._depth -= 1

    def tell(self, error: BaseException) -> None:
        from trainer.signals import Interrupted

        if self._reported is not None or isinstance(error, (OtherProcessFailed, Interrupted)):
            return
        self._reported = error
        kind = MISUSED if isinstance(error, UsageError) else FAILED
        message = f"{self._job} {kind} {self.name}: {_text(error)}".encode()[:MESSAGE_BYTES]
        for other in range(self.size):
            if other != self.rank:
                self._sent.append((message, self._errors.Isend([message, self._mpi.BYTE], dest=other)))

    def listen(self) -> None:
        status = self._mpi.Status()
        if self._errors.Iprobe(status=status):
            message = bytearray(status.Get_count(self._mpi.BYTE))
            self._errors.Recv([message, self._mpi.BYTE], source=status.Get_source())
            job, kind, text = message.decode(errors="replace").split(" ", 2)
            # A report of an earlier failure, which is over, does not concern this job.
            if int(job) == self._job:
                raise OtherProcessMisused(text) if kind == MISUSED else OtherProcessFailed(text)

    def _leave(self, error: BaseException) -> None:
        """Waits until the others have ended their run too, and decides which process reports the error.

        Ends the job by force if they do not arrive in time: one may be in the middle of something long.
        """
        own = np.zeros(MESSAGE_BYTES, np.uint8)
        text = b"" if isinstance(error, OtherProcessFailed) else _text(error).encode()[:MESSAGE_BYTES]
        own[: len(text)] = np.frombuffer(text, np.uint8)
        everyone = np.zeros((self.size, MESSAGE_BYTES), np.uint8)
        request = self._endings.Iallgather(own, everyone)
        deadline = time.monotonic() + LEAVING_SECONDS
        while not request.Test():
            if time.monotonic() > deadline:
                self._abort(error)
            time.sleep(LONGEST_PAUSE_SECONDS)
        texts = [bytes(row).rstrip(b"\0") for row in everyone]
        mine = texts[self.rank]
        # An error that all processes share is reported by the first only, as if there were no others.
        error.told_by_another = not mine or mine in texts[: self.rank]  # type: ignore[attr-defined]
        is_shared = all(text == mine for text in texts)
        error.process = "" if is_shared else self.name  # type: ignore[attr-defined]
        if isinstance(error, SystemExit) and mine not in texts[: self.rank]:
            # Python exits without a message.
            say(f"error: {self.name} has left the job: {_text(error)}", err=True, block=True)
        # Pending exchanges never finish, so later ones need a channel without them.
        self._exchanges = self._mpi.COMM_WORLD.Dup()
        self._job += 1
        self._reported = None

    def _abort(self, error: BaseException) -> None:
        if not isinstance(error, OtherProcessFailed):
            say(f"error: {self.name}: {_text(error)}", err=True, block=True)  # it will not be caught
        say(f"{self.name} ends the job: others did not end within {LEAVING_SECONDS:g} s", err=True)
        abort(self._mpi.COMM_WORLD)

    # ---- exchanges --------------------------------------------------------------------------------------------------

    def broadcast_array(self, array: NDArray[Any]) -> NDArray[Any]:
        held = np.array(array, order="C")
        flat = held.reshape(-1).view(np.uint8)
        for start in range(0, flat.size, PIECE):
            self._wait(self._exchanges.Ibcast([flat[start : start + PIECE], self._mpi.BYTE], root=0))
        return held

    def gather(self, value: Any) -> list[Any]:
        return [json.loads(part) for part in self._gather_bytes(json.dumps(value).encode())]

    def gather_rows(self, arrays: Sequence[NDArray[Any] | None]) -> list[NDArray[Any] | None]:
        about = [None if array is None else (array.dtype.str, array.shape) for array in arrays]
        content = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays if array is not None)
        columns: list[list[NDArray[Any]]] = [[] for _ in arrays]
        for part in self._gather_bytes(json.dumps(about).encode() + b"\n" + content):
            header = part.index(b"\n")
            start = header + 1
            for column, described in zip(columns, json.loads(part[:header]), strict=True):
                if described is not None:
                    dtype, shape = described
                    count = int(np.prod(shape))
                    column.append(np.frombuffer(part, dtype, count, start).reshape(shape))
                    start += count * np.dtype(dtype).itemsize
        return [np.concatenate(column) if column else None for column in columns]

    def _gather_bytes(self, content: bytes) -> list[bytes]:
        sizes = np.empty(self.size, np.int64)
        self._wait(self._exchanges.Iallgather(np.array([len(content)], np.int64), sizes))
        received = bytearray(int(sizes.sum()))
        begins = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        layout = [received, (sizes, begins), self._mpi.BYTE]
        self._wait(self._exchanges.Iallgatherv([content, self._mpi.BYTE], layout))
        return [bytes(received[begin : begin + size]) for begin, size in zip(begins, sizes, strict=True)]

    def sum(self, array: NDArray[Any]) -> NDArray[Any]:
        in_place = self._mpi.IN_PLACE
        if array.nbytes <= POLLED_BYTES:
            self._wait(self._exchanges.Iallreduce(in_place, array))
            return array
        self._wait(self._exchanges.Ibarrier())
        self.sum_now(array)
        return array

    def sum_now(self, array: NDArray[Any]) -> None:
        """Collective: like `sum`, directly after another exchange, so that no process can be missing.

        Fast for large arrays, but it does not notice errors in the meantime.
        """
        flat = array.reshape(-1)
        with waiting, self._watched():
            for start in range(0, flat.size, PIECE):
                self._exchanges.Allreduce(self._mpi.IN_PLACE, flat[start : start + PIECE])

    def union(self, bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
        self._wait(self._exchanges.Iallreduce(self._mpi.IN_PLACE, bits, op=self._mpi.BOR))
        return bits

    def compare(self, what: Mapping[str, Any], where: str) -> None:
        everyone = self.gather([self.name, dict(what)])
        _, firsts = everyone[0]
        for name, theirs in everyone[1:]:
            for key in dict.fromkeys([*firsts, *theirs]):
                if firsts.get(key) != theirs.get(key):
                    raise UsageError(
                        f"{name} has {key} = {theirs.get(key)!r}, but rank 0 has {firsts.get(key)!r}",
                        where=where,
                        fix="Start every process with the same options, files, data and versions.",
                    )

    def _wait(self, request: Any) -> None:
        """Waits until an exchange is complete. Raises OtherProcessFailed if another process has failed."""
        if request.Test():
            return
        with waiting, self._watched():
            polls, pause = 0, 1e-5
            while not request.Test():
                polls += 1
                if polls % 64 == 0:
                    self.listen()
                    if self._heartbeat is not None:
                        self._heartbeat.check()
                if polls > EAGER_POLLS:
                    # A process takes long (rank 0 may be saving): leave the processor to those that compute.
                    time.sleep(pause)
                    pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)
                elif self._crowded:
                    os.sched_yield()

    def _watched(self) -> AbstractContextManager[None]:
        """Around a wait for the others: those that give no sign of life meanwhile are lost."""
        return nullcontext() if self._heartbeat is None else self._heartbeat.waiting()

    @property
    def _crowded(self) -> bool:
        return self.local_size > 1 and hasattr(os, "sched_yield")


def _text(error: BaseException) -> str:
    """The error as the command line shows it."""
    return str(error) if isinstance(error, (UsageError, RankLost)) else f"{type(error).__name__}: {error}".rstrip(": ")
