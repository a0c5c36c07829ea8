"""Vowpal Wabbit on numbers and many categories, from its binary cache."""

from __future__ import annotations

import time

import numpy as np
import vowpalwabbit

from benchmark.categorical import Clock, Job
from benchmark.workloads import cross_entropy

THREADS = "1 thread and one that reads"


def sgd(job: Job, clock: Clock) -> None:
    """Plain SGD, one update per row; the setting is how the rate decays."""
    _train(job, clock, f"--sgd --learning_rate {job.rate!r} {job.setting}")


def ftrl(job: Job, clock: Clock) -> None:
    """FTRL-Proximal, one update per row, beta 1, without a penalty."""
    _train(job, clock, f"--ftrl --ftrl_alpha {job.rate!r} --ftrl_beta 1")


def _train(job: Job, clock: Clock, method: str) -> None:
    common = f"--bit_precision {job.bits} --quiet"
    cache, model, raw = (job.folder / name for name in ("rows.cache", "model", "raw.txt"))
    text = {part: job.data / f"{part}-{job.bits}.txt" for part in ("train", job.judged)}
    began = time.perf_counter()
    # There is no way to write the cache and do nothing else; --testonly does the least.
    _run(f"{common} --testonly --loss_function logistic --data {text['train']} --cache_file {cache}")
    clock.encoding = time.perf_counter() - began
    learn = f"{common} {method} --loss_function logistic --cache_file {cache} --save_resume"
    for number in range(job.passes):
        # Later passes continue with the weights and states of the first, whose memory is in use by then.
        workspace = vowpalwabbit.Workspace(
            f"{learn} {'--initial_regressor' if number else '--final_regressor'} {model}"
        )
        with clock:
            workspace.run_parser()
        workspace.finish()
    _run(f"{common} --testonly --initial_regressor {model} --data {text[job.judged]} --raw_predictions {raw}")
    logits = np.array([float(line.split()[0].split(":")[-1]) for line in raw.read_text(encoding="ascii").splitlines()])
    clock.loss = cross_entropy(logits, np.load(job.data / f"{job.judged}-labels.npy"))


def _run(options: str) -> None:
    """Reads all rows, which the constructor does if it is given data."""
    vowpalwabbit.Workspace(options).finish()
