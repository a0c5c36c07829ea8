"""Other libraries on Parquet parts that need not fit into memory: the linear model by SGD."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.large import Clock, Job
from benchmark.large_data import BATCH, FEATURES, LABEL, NAMES, RATE

READ_ROWS = 1 << 17
"""Rows of a record batch, about the reader's own default."""


def batches(job: Job, columns: Any = None) -> Iterator[tuple[NDArray[np.float32], NDArray[Any]]]:
    """Features (rows, 28) and labels (rows,), as the parts give them."""
    import pyarrow.dataset as ds

    for batch in ds.dataset(job.table, format="parquet").to_batches(batch_size=READ_ROWS, columns=columns):
        yield np.column_stack([batch[name].to_numpy() for name in NAMES]), batch[LABEL].to_numpy()


def sklearn_partial(job: Job, clock: Clock) -> None:
    """SGDClassifier.partial_fit over record batches; it takes a step per row."""
    from sklearn.linear_model import SGDClassifier

    model = SGDClassifier(loss="log_loss", penalty=None, learning_rate="constant", eta0=RATE / 32)
    for _ in range(job.passes):
        with clock:
            for features, labels in batches(job):
                model.partial_fit(features, labels, classes=[0, 1])
        clock.judge(model.coef_.reshape(-1), float(model.intercept_[0]))


def torch_parquet(job: Job, clock: Clock) -> None:
    """An IterableDataset over record batches that yields batches of 1024 rows, through a DataLoader without workers."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits
    from torch.utils.data import DataLoader, IterableDataset

    class Parts(IterableDataset[Any]):  # type: ignore[misc]
        def __iter__(self) -> Iterator[Any]:
            for features, labels in batches(job):
                x, y = torch.from_numpy(features), torch.from_numpy(labels.astype(np.float32)).unsqueeze(1)
                for start in range(0, len(x), BATCH):
                    yield x[start : start + BATCH], y[start : start + BATCH]

    net = torch.nn.Linear(FEATURES, 1)
    torch.nn.init.zeros_(net.weight)
    torch.nn.init.zeros_(net.bias)
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE)
    for _ in range(job.passes):
        with clock:
            for x, y in DataLoader(Parts(), batch_size=None):
                optimizer.zero_grad()
                binary_cross_entropy_with_logits(net(x), y).backward()
                optimizer.step()
        clock.judge(net.weight.detach().numpy().reshape(-1), float(net.bias.detach()))


def vowpal_wabbit(job: Job, clock: Clock) -> None:
    """--sgd over the binary cache that it makes of its text; it takes a step per row."""
    import time

    import vowpalwabbit

    from benchmark.large_data import held_out

    cache, model, raw = (job.folder / name for name in ("rows.cache", "model", "raw.txt"))
    began = time.perf_counter()
    text = f"--quiet --testonly --loss_function logistic --data {job.text} --cache_file {cache}"
    vowpalwabbit.Workspace(text).finish()
    clock.ready = time.perf_counter() - began
    learn = f"--quiet --sgd --learning_rate {RATE / 32} --loss_function logistic --cache_file {cache} --save_resume"
    for number in range(job.passes):
        which = "--initial_regressor" if number else "--final_regressor"
        workspace = vowpalwabbit.Workspace(f"{learn} {which} {model}")
        with clock:
            workspace.run_parser()
        workspace.finish()
    judged = held_out()
    lines = (" ".join(f"{place}:{value:.6g}" for place, value in enumerate(row)) for row in judged.features.tolist())
    held = job.folder / "judged.txt"
    held.write_text("".join(f"1 |n {line}\n" for line in lines), encoding="ascii")
    test = f"--quiet --testonly --initial_regressor {model} --data {held} --raw_predictions {raw}"
    vowpalwabbit.Workspace(test).finish()
    logits = [float(line.split()[0].split(":")[-1]) for line in raw.read_text(encoding="ascii").splitlines()]
    clock.judge_logits(np.array(logits))
