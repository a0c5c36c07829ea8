"""A process that loads images: a job as a line of JSON in, an answer as a line of JSON and the pixels out.

`python -m trainer_plugins.image_classification.worker`. A program of its own rather than a fork, which MXNet does not
bear once it has started threads, and rather than multiprocessing's spawn, which would run the user's script again. It
ends with its standard input, and so with its parent, whatever ends that.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import IO


def answer(line: bytes, output: IO[bytes], files: object) -> None:
    """Does one job."""
    from trainer_plugins.image_classification.loading import CorruptError, Files, Job, check, load

    assert isinstance(files, Files)  # noqa: S101
    job = Job.from_json(json.loads(line))
    pixels = None
    if job.only_check:
        said: dict[str, object] = {"corrupt": check(job, files)}
    else:
        try:
            pixels = load(job, files)
            said = {"shape": pixels.shape}
        except CorruptError as error:
            said = {"corrupt": [(error.row, error.reason)]}
    output.write(json.dumps(said).encode() + b"\n")
    if pixels is not None:
        output.write(pixels.data)
    output.flush()


def _begin_quietly() -> None:
    """Starts MXNet, which tells of every engine that is not its usual one, once a process."""
    kept = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        from trainer.mxnet import mx

        mx.nd.zeros(1).wait_to_read()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def main() -> None:
    """Answers until standard input ends."""
    # What a library prints must not get among the answers.
    output = os.fdopen(os.dup(1), "wb", buffering=1 << 16)
    os.dup2(2, 1)
    # Ctrl-C and a batch system's signals go to all processes; the parent decides when it is over.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _begin_quietly()
    from trainer_plugins.image_classification.loading import Files

    files = Files()
    try:
        for line in sys.stdin.buffer:
            answer(line, output, files)
    except BrokenPipeError:
        os._exit(0)


if __name__ == "__main__":
    main()
