"""The cost of a checkpoint and of a plain write of the same bytes, both flushed; in turn, in one process."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np

from trainer.runs import checkpoint

PLAIN, OURS = "a plain write and flush", "a checkpoint"


def main(path: str) -> None:
    """Runs the job in the file at `path`: `megabytes` in 20 arrays, as parameters and states are."""
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    # Next to the results, because a temporary folder may be in memory.
    folder = Path(job["place"])
    generator = np.random.default_rng(0)
    size = job["megabytes"] * 1_000_000 // 20 // 4
    arrays = {f"{number}.weight": generator.standard_normal(size, dtype=np.float32) for number in range(20)}
    content = b"".join(array.tobytes() for array in arrays.values())
    times: dict[str, list[float]] = {PLAIN: [], OURS: []}
    for _ in range(job["repeats"]):
        began = time.perf_counter()
        with (folder / "plain").open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        times[PLAIN].append(time.perf_counter() - began)
        (folder / "plain").unlink()
        began = time.perf_counter()
        saved = checkpoint.write(
            folder, "step-00000001", {"parameters": arrays}, {"step": 1, "epoch": 1, "reason": "", "metrics": {}}
        )
        times[OURS].append(time.perf_counter() - began)
        checkpoint.remove_checkpoint(saved)
    sets = {name: {"seconds": median(measured)} for name, measured in times.items()}
    Path(job["answer"]).write_text(json.dumps({"sets": sets, "seconds": sets[PLAIN]["seconds"]}), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
