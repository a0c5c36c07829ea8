"""Mixes images, or rows of any kind, with others of their batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from trainer import Phase, Plugin, Run, UsageError
from trainer.seeds import derive
from trainer_plugins.label_smoothing import floating, soft_classes

if TYPE_CHECKING:
    from trainer.data import Batch, Shard
    from trainer.mxnet import Array

Mix = Callable[["Array", "Array"], "Array"]
"""From rows and their partners, (rows, …) each, to the mixed rows."""


@dataclass
class Mixing(Plugin):
    """What mixup and cutmix have in common: which rows are mixed, and how much.

    A permutation gives every row a partner from the whole batch; all pairs share one weight from Beta(alpha, alpha).
    Both depend only on the seed, the plugin's name and the step: they are the same after a resume, and for any number
    of devices and processes.
    """

    alpha: Annotated[float, Field(gt=0, description="Of Beta(alpha, alpha), which the weight is drawn from.")] = 1.0
    probability: Annotated[float, Field(gt=0, le=1, description="The fraction of the batches that are mixed.")] = 1.0
    last_epochs: Annotated[int, Field(ge=0, description="Epochs at the end that train on unmixed rows.")] = 0

    phase = Phase.TRANSFORM
    logs = ()

    def on_batch_begin(self, run: Run) -> None:
        """Replaces the batch by one with mixed rows; the data stays unchanged."""
        batch = run.batch
        if batch is None:
            return
        for shard in batch.shards:
            if shard.rows:
                soft_classes(run, shard.label, self.name)
                self.check(shard.inputs)
        # Unmixed batches too: the step takes the type of the first batch that it sees.
        run.batch = batch = replace(batch, shards=tuple(_floating(shard) for shard in batch.shards))
        generator = np.random.default_rng(derive(run.settings.seed, self.name, run.step))
        if generator.random() >= self.probability or run.epoch > run.settings.epochs - self.last_epochs:
            return
        share = float(generator.beta(self.alpha, self.alpha))
        partners = generator.permutation(batch.rows)
        mixed, mix = [], None
        for shard, (inputs, label, weight) in zip(batch.shards, _partners(run, batch, partners), strict=True):
            if shard.rows:
                if mix is None:  # only rows show the size of an image, and a process may have none
                    mix, share = self.mixer(run, share, generator)
                images = tuple(mix(own, other) for own, other in zip(shard.inputs, inputs, strict=True))
                labels = shard.label * share + label * (1 - share)
                weights = None if shard.weight is None else shard.weight * share + weight * (1 - share)
                mixed.append(replace(shard, inputs=images, label=labels, weight=weights))
            else:
                mixed.append(shard)
        run.batch = replace(batch, shards=tuple(mixed))

    def check(self, inputs: Sequence[Array]) -> None:
        """Raises UsageError for inputs that cannot be mixed."""
        for part in inputs:
            if np.dtype(part.dtype).kind != "f":
                raise UsageError(
                    f"inputs of {np.dtype(part.dtype).name} cannot be mixed", where=f"plugin {self.name!r}"
                )

    def mixer(self, run: Run, share: float, generator: np.random.Generator) -> tuple[Mix, float]:
        """The function that mixes inputs, and the share of the own label."""
        raise NotImplementedError


@dataclass
class Mixup(Mixing):
    """Trains on weighted means of two rows and of their labels (mixup; Zhang et al., 2018).

    `share × own + (1 − share) × partner`, for inputs and labels. It takes rows of any kind whose labels are
    probabilities. The training loss is that of the mixed rows; evaluations use the original ones.
    """

    alpha: Annotated[float, Field(gt=0, description="Of Beta(alpha, alpha), which the weight is drawn from.")] = 0.2

    def mixer(self, run: Run, share: float, generator: np.random.Generator) -> tuple[Mix, float]:
        return lambda own, other: own * share + other * (1 - share), share


@dataclass
class CutMix(Mixing):
    """Trains on images with a rectangle from another one, and labels mixed by area (CutMix; Yun et al., 2019).

    The rectangle has the image's proportions and `1 − share` of its area, around a random point. What lies outside the
    image is cut off; the label's share is that of the remaining area. Inputs: (rows, channels, height, width).
    """

    def check(self, inputs: Sequence[Array]) -> None:
        """Raises UsageError for inputs that are not images."""
        super().check(inputs)
        for part in inputs:
            if part.ndim != 4:
                raise UsageError(
                    f"an input of shape {part.shape} is not a batch of images (rows, channels, height, width)",
                    where=f"plugin {self.name!r}",
                    fix="Use mixup, which takes rows of any kind.",
                )
        if len({part.shape[2:] for part in inputs}) > 1:
            raise UsageError(
                "a row has images of several sizes: " + ", ".join("×".join(map(str, p.shape[2:])) for p in inputs),
                where=f"plugin {self.name!r}",
                fix="Use mixup, which takes rows of any kind.",
            )

    def mixer(self, run: Run, share: float, generator: np.random.Generator) -> tuple[Mix, float]:
        assert run.batch is not None  # noqa: S101
        shape = next(shard.inputs[0].shape for shard in run.batch.shards if shard.rows)
        rows, columns = (_span(length, share, generator) for length in shape[2:])
        area = (rows.stop - rows.start) * (columns.stop - columns.start)
        mask = np.zeros((1, 1, *shape[2:]), np.float32)
        mask[:, :, rows, columns] = 1

        def mix(own: Array, other: Array) -> Array:
            from trainer.mxnet import mx

            there = mx.nd.array(mask, ctx=own.context, dtype=own.dtype)
            return mx.nd.where(mx.nd.broadcast_like(there, own), other, own)

        return mix, 1 - area / (shape[2] * shape[3])


def _span(length: int, share: float, generator: np.random.Generator) -> slice:
    """The extent of the rectangle along one side of the image."""
    half = length * math.sqrt(1 - share) / 2
    middle = generator.integers(length)
    return slice(max(0, round(middle - half)), min(length, round(middle + half)))


def _floating(shard: Shard) -> Shard:
    """The shard with floating-point labels and weights, so that they can be mixed."""
    if not shard.rows:
        return shard
    return replace(shard, label=floating(shard.label), weight=None if shard.weight is None else floating(shard.weight))


def _partners(run: Run, batch: Batch, partners: Any) -> Iterator[tuple[tuple[Array, ...], Any, Any]]:
    """For each shard, the inputs, labels and weights of its rows' partners, on its context."""
    from trainer.mxnet import mx

    filled = [shard for shard in batch.shards if shard.rows]
    if run.processes.size == 1 and len(filled) == 1:
        # All on one device: nothing waits for it. Several processes all have to gather, with or without rows.
        for shard in batch.shards:
            order = mx.nd.array(partners, ctx=shard.context, dtype=np.int32)
            yield _parts([part.take(order) for part in shard.arrays], shard) if shard.rows else ((), None, None)
        return
    columns = [np.concatenate(parts) for parts in zip(*[[a.asnumpy() for a in s.arrays] for s in filled], strict=True)]
    own = sum(shard.rows for shard in filled)
    start = sum(run.processes.gather(own)[: run.processes.rank])
    # A process without rows learns the number of columns from the others.
    width = max(run.processes.gather(len(columns)))
    everyone = run.processes.gather_rows(columns or [None] * width)
    for shard in batch.shards:
        if not shard.rows:
            yield (), None, None
            continue
        order = partners[start : start + shard.rows]
        start += shard.rows
        parts = [mx.nd.array(rows[order], ctx=shard.context, dtype=rows.dtype) for rows in everyone if rows is not None]
        yield _parts(parts, shard)


def _parts(arrays: Sequence[Array], shard: Any) -> tuple[tuple[Array, ...], Array, Array | None]:
    """Inputs, label and weight, in the order of a shard's `arrays`."""
    count = len(shard.inputs)
    return tuple(arrays[:count]), arrays[count], arrays[count + 1] if len(arrays) > count + 1 else None
