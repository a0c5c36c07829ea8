"""A plugin that gets one process of a job into trouble, where the variable TROUBLE says so."""

import os
import signal
import sys
import time
from dataclasses import dataclass
from typing import Literal

from trainer import Phase, Plugin, Run, UsageError


@dataclass
class Trouble(Plugin):
    """Does something in one process alone: fails, asks for something, is signalled."""

    rank: int = 1
    at: int = 7
    what: Literal[
        "raise", "misuse", "exit", "vanish", "kill", "hang", "stop", "save", "skip", "evaluate", "end-epoch",
        "SIGTERM", "SIGINT", "SIGSTOP", "weights", "wait",
    ] = "raise"  # fmt: skip

    phase = Phase.TRANSFORM

    def on_batch_begin(self, run: Run) -> None:
        if self.what == "skip" and self._is_mine(run):
            run.skip_update("one process wants to")

    def on_batch_end(self, run: Run) -> None:  # noqa: C901
        if not self._is_mine(run):
            if self.what == "hang" and run.step == self.at and os.environ.get("TROUBLE"):
                time.sleep(1000)
            return
        if self.what == "wait":
            time.sleep(7)
        elif self.what in ("raise", "hang"):
            raise RuntimeError("something broke")
        elif self.what == "misuse":
            raise UsageError("that is wrong", fix="Do it right.")
        elif self.what == "exit":
            sys.exit(3)
        elif self.what == "vanish":
            os._exit(0)
        elif self.what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.what.startswith("SIG"):
            os.kill(os.getpid(), getattr(signal, self.what))
        elif self.what == "weights":
            run.set_weights({name: value + 1 for name, value in run.copy_weights().items()})
        elif self.what != "skip":
            getattr(run, self.what.replace("-", "_"))("one process wants to")

    def _is_mine(self, run: Run) -> bool:
        return bool(os.environ.get("TROUBLE")) and run.processes.rank == self.rank and run.step == self.at
