"""PyTorch, eager: the loop of its tutorials, over a DataLoader or over tensors in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from benchmark.competitors import logs
from benchmark.worker import Clock, Job


def data_loader(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """A TensorDataset through a DataLoader without workers (they are slower for data in memory)."""
    return _train(job, clock, loader(job))


def in_memory(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """Shuffled once per epoch, then sliced."""
    return _train(job, clock, Slices(job))


def whole(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """Over a DataLoader, with validation, torch's own SummaryWriter and a CSV file."""
    return _train_whole(job, clock, loader(job), validation_loader(job))


def whole_in_memory(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """The same over slices of tensors; all rows are validated at once."""
    return _train_whole(job, clock, Slices(job), [validation_rows(job)])


def net(job: Job) -> nn.Sequential:
    """The net, initialised like Gluon's Xavier."""
    torch.manual_seed(job.seed)
    layers: list[nn.Module] = []
    for inputs, outputs in zip(job.widths[:-1], job.widths[1:], strict=True):
        dense = nn.Linear(inputs, outputs)
        nn.init.xavier_uniform_(dense.weight)
        nn.init.zeros_(dense.bias)
        layers += [dense, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def loader(job: Job) -> DataLoader[Any]:
    """Labels are (rows, 1), as wide as the outputs."""
    dataset = TensorDataset(torch.from_numpy(job.x), torch.from_numpy(job.y).unsqueeze(1))
    return DataLoader(dataset, batch_size=job.batch, shuffle=True)


def validation_rows(job: Job) -> tuple[Any, Any]:
    """The rows to validate on, and their labels (rows, 1)."""
    assert job.validation is not None
    x, y = job.validation
    return torch.from_numpy(x), torch.from_numpy(y).unsqueeze(1)


def validation_loader(job: Job) -> DataLoader[Any]:
    """The rows to validate on, in batches, in order."""
    return DataLoader(TensorDataset(*validation_rows(job)), batch_size=job.batch)


class Slices(IterableDataset[Any]):
    """Batches as slices of the shuffled tensors."""

    def __init__(self, job: Job) -> None:
        self._x, self._y, self._batch = torch.from_numpy(job.x), torch.from_numpy(job.y).unsqueeze(1), job.batch

    def __iter__(self) -> Iterator[Any]:
        order = torch.randperm(len(self._x))
        x, y = self._x[order], self._y[order]
        for start in range(0, len(x), self._batch):
            yield x[start : start + self._batch], y[start : start + self._batch]

    def __len__(self) -> int:
        return (len(self._x) + self._batch - 1) // self._batch


def predictor(model: nn.Module) -> Callable[[Any], Any]:
    """Returns the function from rows to logits."""

    def predict(rows: Any) -> Any:
        model.eval()
        with torch.no_grad():
            return model(torch.from_numpy(rows)).numpy()

    return predict


def _train_whole(job: Job, clock: Clock, batches: Any, validation: Any) -> Callable[[Any], Any]:
    from torch.utils.tensorboard import SummaryWriter

    model = net(job)
    optimizer = torch.optim.SGD(model.parameters(), lr=job.rate)
    with logs.Logs(job, SummaryWriter) as log:
        for epoch in range(job.epochs):
            clock.epoch()
            model.train()
            total = _epoch(model, optimizer, batches)
            judged, right, rows = torch.zeros(()), torch.zeros(()), 0
            model.eval()
            with torch.no_grad():
                for data, label in validation:
                    outputs = model(data)
                    judged += binary_cross_entropy_with_logits(outputs, label) * len(data)
                    right += ((outputs > 0) == label).sum()
                    rows += len(data)
            log.write(epoch, total.item() / len(job.y), judged.item() / rows, right.item() / rows)
    clock.end()
    return predictor(model)


def _epoch(model: Any, optimizer: Any, batches: Any) -> Any:
    """Trains an epoch; returns the sum of the rows' losses, a tensor."""
    total = torch.zeros(())
    for data, label in batches:
        optimizer.zero_grad()
        loss = binary_cross_entropy_with_logits(model(data), label)
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(data)
    return total


def _train(job: Job, clock: Clock, batches: Any) -> Callable[[Any], Any]:
    model = net(job)
    optimizer = torch.optim.SGD(model.parameters(), lr=job.rate)
    for _ in range(job.epochs):
        clock.epoch()
        _epoch(model, optimizer, batches).item()
    clock.end()
    return predictor(model)
