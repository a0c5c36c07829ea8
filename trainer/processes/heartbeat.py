"""Signs of life between the processes of a job, so that none waits for ever for one that hangs.

Every process answers pings in a thread of its own, whatever its loop does: one that reads, evaluates or writes is busy,
not dead. A process that waits in an exchange pings the others. One that has answered before and then is silent for
longer than the limit is lost. The signs travel as UDP packets with the job's token, since MPI is for one thread only.

A living process is silent only while something keeps its thread from running: a machine with far more to do than it has
processors, or one call that holds Python's lock throughout (json or pickle of gigabytes, the sort of a long list).
MXNet's, numpy's and MPI's calls release that lock, and so does reading. The limit has to be longer than such a time,
so the settings refuse one of less than 5 seconds.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from trainer.errors import TrainerError

log = logging.getLogger("trainer")

TICK_SECONDS = 0.5
"""How often the thread looks around."""
ASLEEP_SECONDS = 5.0
"""If the thread itself was away for longer (a stopped process, a sleeping machine), the silence was its own; so it is
with a quarter of the limit, if that is less."""
MOST_PACKETS = 1000
"""How many packets are read at most before the thread looks around."""
STUCK_SECONDS = 20.0
"""How long after a loss the training thread may stay in a call that cannot be interrupted."""


class RankLost(TrainerError):  # noqa: N818  it says what it is
    """A process of the job gives no sign of life while the others wait for it."""


class Heartbeat:
    """The signs of life of one process, and what it knows of the others'.

    `names` are the names of all processes, `token` is the same in all of them; `limit` gives the seconds of silence
    after which a process is lost.
    """

    def __init__(self, rank: int, names: Sequence[str], token: str, limit: Callable[[], float]) -> None:
        self._rank = rank
        self._names = names
        self._token = token.encode()
        self._limit = limit
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("", 0))
        self._socket.settimeout(TICK_SECONDS)
        self.port: int = self._socket.getsockname()[1]
        self._others: dict[int, tuple[str, int]] = {}
        self._heard: dict[int, float] = {}
        self._waits_since: float | None = None
        self._lost: dict[int, float] = {}
        self._warned = 0.0
        self._awake = self._pinged = self._asleep_until = time.monotonic()

    def start(self, addresses: Sequence[tuple[str, int]]) -> None:
        """Begins to answer and to listen. `addresses` are the hosts and ports of all processes."""
        here = addresses[self._rank][0]
        for rank, (host, port) in enumerate(addresses):
            if rank != self._rank:
                # A host whose name cannot be looked up is never heard from, and so never lost.
                with suppress(OSError):
                    self._others[rank] = ("127.0.0.1" if host == here else socket.gethostbyname(host), port)
        threading.Thread(target=self._run, name="heartbeat", daemon=True).start()
        self._ping()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around a wait for the other processes; only such time counts."""
        self._waits_since = time.monotonic()
        try:
            yield
        finally:
            self._waits_since = None

    def check(self) -> None:
        """Raises RankLost if a process is lost. The first living process does so at once, the others hear from it."""
        if not self._lost:
            return
        rank, since = min(self._lost.items())
        first = min(each for each in range(len(self._names)) if each not in self._lost)
        if self._rank == first or time.monotonic() - since > ASLEEP_SECONDS:
            raise RankLost(self._message(rank))

    def _message(self, rank: int) -> str:
        return (
            f"{self._names[rank]} has given no sign of life for {self._limit():g} s while others waited for it "
            "(--rank-timeout); the run can be resumed from its last checkpoint"
        )

    # ---- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            # All that have arrived: those of one process must not hide that another has answered too.
            with suppress(OSError):
                self._socket.settimeout(TICK_SECONDS)
                for _ in range(MOST_PACKETS):
                    self._receive()
                    self._socket.settimeout(0)
            self._look(time.monotonic())

    def _receive(self) -> None:
        packet, sender = self._socket.recvfrom(200)
        token, _, rest = packet.partition(b" ")
        word, _, number = rest.partition(b" ")
        if token != self._token or not number.isdigit():
            return
        self._heard[int(number)] = time.monotonic()
        if word == b"ping":
            self._send(b"pong", sender)

    def _send(self, word: bytes, to: tuple[str, int]) -> None:
        with suppress(OSError):
            self._socket.sendto(b"%s %s %d" % (self._token, word, self._rank), to)

    def _ping(self) -> None:
        self._pinged = time.monotonic()
        for address in self._others.values():
            self._send(b"ping", address)

    def _look(self, now: float) -> None:
        """Pings the others while this process waits, and notes who is lost."""
        limit = self._limit()
        if now - self._awake > min(ASLEEP_SECONDS, max(limit / 4, 2 * TICK_SECONDS)):
            self._asleep_until = now
        self._awake = now
        since = self._waits_since
        if since is None or now - since < TICK_SECONDS:
            return
        if now - self._pinged > min(ASLEEP_SECONDS, limit / 5):
            self._ping()
        since = max(since, self._asleep_until)
        silent = [rank for rank in self._others if now - max(since, self._heard.get(rank, 0.0)) > limit]
        for rank in silent:
            if rank in self._heard:
                self._lost.setdefault(rank, now)
        if now - since > limit and now - self._warned > limit and not self._lost:
            self._warned = now
            self._warn(silent, limit)
        if self._lost and now - min(self._lost.values()) > STUCK_SECONDS:
            self._end()

    def _warn(self, unknown: Sequence[int], limit: float) -> None:
        if unknown:
            names = ", ".join(self._names[rank] for rank in unknown)
            log.warning("waiting for other processes for %g s; %s cannot be asked whether it is alive", limit, names)
        else:
            log.warning("waiting for other processes for %g s; all are alive, so one of them is busy", limit)

    def _end(self) -> None:
        """Ends this process, whose training thread is in a call that never returns; its launcher then ends the job."""
        log.error("%s", self._message(min(self._lost)))
        os._exit(1)
