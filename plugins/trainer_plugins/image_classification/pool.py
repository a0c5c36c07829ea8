"""Processes that decode and transform images while the net is trained."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import weakref
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import TrainerError
from trainer_plugins.image_classification.loading import CorruptError, Files, Job, check, load

WORKER = "trainer_plugins.image_classification.worker"
ENVIRONMENT = {
    # Each operator of a transform is over when it returns, without a thread: a third of the time for small images.
    "MXNET_ENGINE_TYPE": "NaiveEngine",
    "OMP_NUM_THREADS": "1",
    "MXNET_CPU_WORKER_NTHREADS": "1",
}


class WorkerDiedError(TrainerError):
    """A process that loads images is gone."""


@dataclass
class Ticket:
    """A job that was handed in."""

    job: Job
    worker: int
    answer: Any = None
    over: bool = False


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    pending: deque[Ticket] = field(default_factory=deque)


class Pool:
    """Loads images in `workers` processes, or in this one for 0. Jobs of one worker are answered in their order.

    The processes are started with the first job and end with the pool. A worker has one job at a time: what it has
    done is taken from it before it gets the next, so that neither waits for the other's pipe.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._started: list[_Worker] = []
        self._next = 0
        self._files = Files()

    @property
    def ahead(self) -> int:
        """How many jobs can be under way at a time; 1 where they are done when they are asked for."""
        return max(self.workers, 1)

    def submit(self, job: Job) -> Ticket:
        """Hands a job in; the workers get them in turn. Raises WorkerDiedError."""
        if not self.workers:
            return Ticket(job, 0)
        if not self._started:
            self._start()
        ticket = Ticket(job, self._next)
        self._next = (self._next + 1) % self.workers
        worker = self._started[ticket.worker]
        while worker.pending:
            self._take(worker)
        assert worker.process.stdin is not None  # noqa: S101
        try:
            worker.process.stdin.write(json.dumps(job.to_json()).encode() + b"\n")
            worker.process.stdin.flush()
        except OSError as error:
            raise _died(worker) from error
        worker.pending.append(ticket)
        return ticket

    def result(self, ticket: Ticket) -> Any:
        """(rows, size, size, 3), uint8; for a check, what is corrupt. Raises CorruptError, WorkerDiedError."""
        if not self.workers:
            return check(ticket.job, self._files) if ticket.job.only_check else load(ticket.job, self._files)
        while not ticket.over:
            self._take(self._started[ticket.worker])
        answer, ticket.answer = ticket.answer, None
        if isinstance(answer, CorruptError):
            raise answer
        return answer

    def _start(self) -> None:
        command = [sys.executable, "-m", WORKER]
        environment = {**os.environ, **ENVIRONMENT}
        # Where this process found the package, by PYTHONPATH or by its working folder.
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        for _ in range(self.workers):
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)  # noqa: S603
            self._started.append(_Worker(process))
        weakref.finalize(self, _close, [worker.process for worker in self._started])

    def _take(self, worker: _Worker) -> None:
        """Reads one answer."""
        output = worker.process.stdout
        assert output is not None  # noqa: S101
        line = output.readline()
        if not line.endswith(b"\n"):
            raise _died(worker)
        ticket = worker.pending.popleft()
        said = json.loads(line)
        if "shape" in said:
            ticket.answer = np.empty(said["shape"], np.uint8)
            # It is a BufferedReader, and waits for as many bytes as there is room for.
            given = output.readinto(ticket.answer.data.cast("B")) if ticket.answer.size else 0  # type: ignore[attr-defined]
            if given != ticket.answer.size:
                raise _died(worker)
        elif ticket.job.only_check:
            ticket.answer = [(row, reason) for row, reason in said["corrupt"]]
        else:
            ticket.answer = CorruptError(*said["corrupt"][0])
        ticket.over = True


def _died(worker: _Worker) -> WorkerDiedError:
    try:
        code: object = worker.process.wait(5)
    except subprocess.TimeoutExpired:
        code = "none yet"
    memory = "; was the memory full? --workers 1 needs less" if code == -9 else ""
    return WorkerDiedError(
        f"a process that loads images ended by itself (exit code {code}){memory}. --workers 0 loads them in the "
        "training's own process, and shows what happens"
    )


def _close(processes: list[subprocess.Popen[bytes]]) -> None:
    """Ends the workers: each at the end of its input, or of the answer that nobody reads any more."""
    for process in processes:
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
    for process in processes:
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def load_all(pool: Pool, jobs: list[Job]) -> list[NDArray[np.uint8]]:
    """The results of jobs that do not depend on each other, in their order."""
    waiting: deque[Ticket] = deque()
    found = []
    for job in jobs:
        waiting.append(pool.submit(job))
        if len(waiting) >= pool.ahead:
            found.append(pool.result(waiting.popleft()))
    return found + [pool.result(ticket) for ticket in waiting]
