"""Kills its own process: put this folder on PYTHONPATH, and say when in KILL_AT.

`files:17` dies at the 17th time that a file below a run's folder is opened, renamed or removed, which is as often as
not in the middle of a checkpoint; `seconds:0.25` so long after the log was opened, wherever that is. SIGKILL leaves
nobody a chance.
"""

import itertools
import os
import signal
import sys
import threading

kind, _, amount = os.environ.get("KILL_AT", "").partition(":")
EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"}


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def watch(event, arguments, seen=itertools.count(1), timers=[]):  # noqa: B006, B008  what it has seen so far
    if event not in EVENTS or "/runs/" not in str(arguments[0]):
        return
    if kind == "files" and next(seen) == int(amount):
        die()
    if kind == "seconds" and str(arguments[0]).endswith("metrics.jsonl") and not timers:
        timers.append(threading.Timer(float(amount), die))
        timers[0].daemon = True
        timers[0].start()


if kind:
    sys.addaudithook(watch)
