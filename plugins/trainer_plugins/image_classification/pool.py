"""Processes that decode and transform images while the net trains."""

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

from trainer.errors import TrainerError
from trainer_plugins.image_classification.loading import CorruptError, Files, Job, check, load

WORKER = "trainer_plugins.image_classification.worker"
ENVIRONMENT = {
    # Each operator runs to its end without a thread, which takes a third of the time for small images.
    "MXNET_ENGINE_TYPE": "NaiveEngine",
    "OMP_NUM_THREADS": "1",
    "MXNET_CPU_WORKER_NTHREADS": "1",
}


class WorkerDiedError(TrainerError):
    """A worker process has died."""


@dataclass
class Ticket:
    """A submitted job."""

    job: Job
    worker: int
    answer: Any = None
    over: bool = False


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    pending: deque[Ticket] = field(default_factory=deque)


class Pool:
    """Loads images in `workers` processes, or in this one for 0. Each worker answers its jobs in order.

    The processes start with the first job and end with the pool. A worker has one job at a time: its result is read
    before it gets the next job, so the two processes never block on each other's pipes.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.submitted = 0
        """How many jobs there have been."""
        self._started: list[_Worker] = []
        self._closes: weakref.finalize[..., Pool] | None = None
        self._next = 0
        self._files = Files()

    @property
    def ahead(self) -> int:
        """How many jobs can be in progress at a time; 1 without workers."""
        return max(self.workers, 1)

    def submit(self, job: Job) -> Ticket:
        """Submits a job; the workers take turns. Raises WorkerDiedError."""
        self.submitted += 1
        if not self.workers:
            return Ticket(job, 0)
        if not self._started:
            self._start()
        ticket = Ticket(job, self._next)
        self._next = (self._next + 1) % self.workers
        worker = self._started[ticket.worker]
        while worker.pending:
            self._read_answer(worker)
        assert worker.process.stdin is not None  # noqa: S101
        try:
            worker.process.stdin.write(json.dumps(job.to_json()).encode() + b"\n")
            worker.process.stdin.flush()
        except OSError as error:
            raise _died(worker) from error
        worker.pending.append(ticket)
        return ticket

    def result(self, ticket: Ticket) -> Any:
        """The images, uint8; for a check, the corrupt ones. Raises CorruptError, WorkerDiedError."""
        if not self.workers:
            return check(ticket.job, self._files) if ticket.job.only_check else load(ticket.job, self._files)
        while not ticket.over:
            self._read_answer(self._started[ticket.worker])
        answer, ticket.answer = ticket.answer, None
        if isinstance(answer, CorruptError):
            raise answer
        return answer

    def rest(self) -> None:
        """Ends the workers unless they have jobs; the next job starts others."""
        if self._closes is not None and not any(worker.pending for worker in self._started):
            self._closes()
            self._started, self._closes, self._next = [], None, 0

    def _start(self) -> None:
        command = [sys.executable, "-m", WORKER]
        environment = {**os.environ, **ENVIRONMENT}
        # The worker has to find the package where this process found it.
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        for _ in range(self.workers):
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)  # noqa: S603
            self._started.append(_Worker(process))
        self._closes = weakref.finalize(self, _close, [worker.process for worker in self._started])

    def _read_answer(self, worker: _Worker) -> None:
        """Reads one answer."""
        output = worker.process.stdout
        assert output is not None  # noqa: S101
        line = output.readline()
        if not line.endswith(b"\n"):
            raise _died(worker)
        ticket = worker.pending.popleft()
        header = json.loads(line)
        if "shapes" in header:
            ticket.answer = [np.empty(shape, np.uint8) for shape in header["shapes"]]
            for image in ticket.answer:
                # A BufferedReader: it waits until the array is full.
                given = output.readinto(image.data.cast("B"))  # type: ignore[attr-defined]
                if given != image.size:
                    raise _died(worker)
        elif ticket.job.only_check:
            ticket.answer = [(row, reason) for row, reason in header["corrupt"]]
        else:
            ticket.answer = CorruptError(*header["corrupt"][0])
        ticket.over = True


def _died(worker: _Worker) -> WorkerDiedError:
    try:
        code: object = worker.process.wait(5)
    except subprocess.TimeoutExpired:
        code = "none yet"
    memory = "; it may have run out of memory, and --workers 1 needs less" if code == -9 else ""
    return WorkerDiedError(
        f"a process that loads images has died (exit code {code}){memory}. --workers 0 loads them in the training "
        "process and shows the error"
    )


def _close(processes: list[subprocess.Popen[bytes]]) -> None:
    """Ends the workers by closing their pipes; kills those that are still there after five seconds."""
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


def load_all(pool: Pool, jobs: list[Job]) -> list[Any]:
    """The results of independent jobs, in order."""
    waiting: deque[Ticket] = deque()
    found = []
    for job in jobs:
        waiting.append(pool.submit(job))
        if len(waiting) >= pool.ahead:
            found.append(pool.result(waiting.popleft()))
    return found + [pool.result(ticket) for ticket in waiting]
