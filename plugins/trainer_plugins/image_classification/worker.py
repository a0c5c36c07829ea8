"""A process that loads images. It reads jobs as lines of JSON and answers with a line of JSON and the pixels.

Run as `python -m trainer_plugins.image_classification.worker`. It is a program of its own because MXNet does not
survive a fork once it has started threads, and because multiprocessing's spawn would run the user's script again. It
ends when its standard input closes, and so with its parent, however that ends.
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
    images = []
    if job.only_check:
        header: dict[str, object] = {"corrupt": check(job, files)}
    else:
        try:
            images = load(job, files)
            header = {"shapes": [image.shape for image in images]}
        except CorruptError as error:
            header = {"corrupt": [(error.row, error.reason)]}
    output.write(json.dumps(header).encode() + b"\n")
    for image in images:
        output.write(image.tobytes())
    output.flush()


def main() -> None:
    """Answers jobs until standard input ends."""
    # What libraries print must not be mixed with the answers.
    output = os.fdopen(os.dup(1), "wb", buffering=1 << 16)
    os.dup2(2, 1)
    # Ctrl-C and a batch system's signals go to all processes; the parent decides when to end.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    from trainer_plugins.image_classification.loading import Files

    files = Files()
    try:
        for line in sys.stdin.buffer:
            answer(line, output, files)
    except BrokenPipeError:
        os._exit(0)


if __name__ == "__main__":
    main()
