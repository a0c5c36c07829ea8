"""Mixes images, or rows of any kind, with others of their batch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from trainer import Phase, Plugin, Run, UsageError
from trainer.seeds import derive
from trainer_plugins.label_smoothing import floating, soft_classes
from trainer_plugins.mixers import BLOCK, HostMixer, Mixer, Orders, where

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trainer.data import Shard
    from trainer.mxnet import Array

KEPT = 64
"""Prepared calls that are kept, each for one shape: the limit keeps data of ever new shapes from filling the memory."""

EXACT = 1 << 24
"""float32 has every whole number below."""


@dataclass(slots=True)
class _Draws:
    """The random numbers of a block of steps."""

    block: int
    chosen: list[float]
    """Compared with the probability: whether a step's batch is mixed."""
    shares: list[float]
    points: list[list[float]]
    """Row and column of a point, from 0 to 1."""


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
    varying = ("_checked", "_mixers", "_orders")

    def __post_init__(self) -> None:
        self._draws = _Draws(-1, [], [], [])
        self._orders: dict[int, Orders] = {}
        self._checked: set[tuple[Any, ...]] = set()
        self._mixers: dict[tuple[Any, ...], Any] = {}

    def on_batch_begin(self, run: Run) -> None:
        """Replaces the batch by one with mixed rows; the data stays unchanged."""
        from trainer.data import Batch

        batch = run.batch
        if batch is None:
            return
        for shard in batch.shards:
            if shard.rows and shard.shapes not in self._checked:
                soft_classes(run, shard.label, self.name)
                self.check(shard.inputs)
                if len(self._checked) < KEPT:
                    self._checked.add(shard.shapes)
        # Unmixed batches too: the step takes the type of the first batch that it sees.
        shards = tuple(_floating(shard, on_host=run.gradients.on_host) for shard in batch.shards)
        draws, place = self._drawn(run), run.step % BLOCK
        if draws.chosen[place] < self.probability and run.epoch <= run.settings.epochs - self.last_epochs:
            shards = self._mixed(run, batch.rows, shards, draws.shares[place], draws.points[place])
        run.batch = Batch(shards, batch.rows, batch.indices)

    def _drawn(self, run: Run) -> _Draws:
        """The random numbers of the block of the current step."""
        block = run.step // BLOCK
        if self._draws.block != block:
            generator = np.random.default_rng(derive(run.settings.seed, self.name, block))
            chosen, points = generator.random(BLOCK).tolist(), generator.random((BLOCK, 2)).tolist()
            self._draws = _Draws(block, chosen, generator.beta(self.alpha, self.alpha, BLOCK).tolist(), points)
        return self._draws

    def _mixed(
        self, run: Run, rows: int, shards: Sequence[Shard], share: float, point: Sequence[float]
    ) -> tuple[Shard, ...]:
        """The shards with rows mixed."""
        orders = self._orders.get(rows)
        if orders is None:
            if len(self._orders) >= KEPT:
                self._orders.clear()
            orders = self._orders[rows] = Orders(rows, run.settings.seed, self.name)
        orders.draw(run.step // BLOCK, self._draws.shares)
        filled = [shard for shard in shards if shard.rows]
        # All on one device: nothing waits for it. Several processes all have to gather, with or without rows.
        is_alone = run.processes.size == 1 and len(filled) == 1 and rows < EXACT
        place = run.step % BLOCK
        if is_alone and run.gradients.on_host and type(self).mask is Mixing.mask:
            number = shards.index(filled[0])
            on_host = self._on_host(number, filled[0])
            return tuple(on_host(each, orders.host[place], share) if each.rows else each for each in shards)
        others = [()] * len(shards) if is_alone else list(_partners(run, shards, orders.host[place]))
        mixed: list[Shard] = []
        mask = None
        for number, shard in enumerate(shards):
            if not shard.rows:
                mixed.append(shard)
                continue
            if mask is None:  # only rows show the size of an image, and a process may have none
                mask, share = self.mask(shard, share, point)
            mixer = self._mixer(number, shard, is_alone=is_alone, is_masked=mask is not None)
            mixer.load(shard.arrays, others[number])
            parts = mixer(orders.on(shard.context, place) if is_alone else None, share)
            count = len(shard.inputs)
            if mask is not None:
                partners = parts if is_alone else others[number]
                parts[:count] = [where(mask, *pair) for pair in zip(shard.inputs, partners, strict=False)]
            weight = None if shard.weight is None else parts[-1]
            mixed.append(shard.having(tuple(parts[:count]), parts[count], weight))
        return tuple(mixed)

    def _on_host(self, number: int, shard: Shard) -> HostMixer:
        key = "host", number, shard.shapes
        mixer = self._mixers.get(key)
        if mixer is None:
            if len(self._mixers) >= KEPT:
                self._mixers.clear()
            mixer = self._mixers[key] = HostMixer(shard)
        return mixer

    def _mixer(self, number: int, shard: Shard, *, is_alone: bool, is_masked: bool) -> Mixer:
        key = number, shard.shapes, is_alone
        mixer = self._mixers.get(key)
        if mixer is None:
            if len(self._mixers) >= KEPT:
                self._mixers.clear()
            masked = len(shard.inputs) if is_masked else 0
            mixer = self._mixers[key] = Mixer(shard.arrays, masked=masked, takes=is_alone)
        return mixer

    def check(self, inputs: Sequence[Array]) -> None:
        """Raises UsageError for inputs that cannot be mixed."""
        for part in inputs:
            if np.dtype(part.dtype).kind != "f":
                raise UsageError(
                    f"inputs of {np.dtype(part.dtype).name} cannot be mixed", where=f"plugin {self.name!r}"
                )

    def mask(self, shard: Shard, share: float, point: Sequence[float]) -> tuple[Any, float]:
        """A mask of the parts of an input that come from the partner, and the share of the own label.

        None instead of a mask mixes inputs as labels.
        """
        return None, share


@dataclass
class Mixup(Mixing):
    """Trains on weighted means of two rows and of their labels (mixup; Zhang et al., 2018).

    `share × own + (1 − share) × partner`, for inputs and labels. It takes rows of any kind whose labels are
    probabilities. The training loss is that of the mixed rows; evaluations use the original ones.
    """

    alpha: Annotated[float, Field(gt=0, description="Of Beta(alpha, alpha), which the weight is drawn from.")] = 0.2


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

    def mask(self, shard: Shard, share: float, point: Sequence[float]) -> tuple[Any, float]:
        height, width = shard.inputs[0].shape[2:]
        rows, columns = (_span(length, share, at) for length, at in zip((height, width), point, strict=True))
        mask = np.zeros((1, 1, height, width), np.float32)
        mask[:, :, rows, columns] = 1
        return mask, 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)


def _span(length: int, share: float, at: float) -> slice:
    """The extent of the rectangle along one side of the image, around a point from 0 to 1."""
    half = length * math.sqrt(1 - share) / 2
    middle = int(at * length)
    return slice(max(0, round(middle - half)), min(length, round(middle + half)))


def _floating(shard: Shard, *, on_host: bool) -> Shard:
    """The shard with floating-point labels and weights, so that they can be mixed."""
    # numpy tells the type of an array in a tenth of the time that MXNet takes.
    if not shard.rows or (on_host and all(part.dtype == np.float32 for part in shard.memory)):
        return shard
    label, weight = floating(shard.label), None if shard.weight is None else floating(shard.weight)
    return shard if label is shard.label and weight is shard.weight else replace(shard, label=label, weight=weight)


def _partners(run: Run, shards: Sequence[Shard], partners: NDArray[np.int32]) -> Iterator[Sequence[Array]]:
    """For each shard, the columns of its rows' partners, on its context; () for one without rows."""
    from trainer.mxnet import mx

    filled = [shard for shard in shards if shard.rows]
    columns = [np.concatenate(parts) for parts in zip(*[[a.asnumpy() for a in s.arrays] for s in filled], strict=True)]
    own = sum(shard.rows for shard in filled)
    start = sum(run.processes.gather(own)[: run.processes.rank])
    # A process without rows learns the number of columns from the others.
    width = max(run.processes.gather(len(columns)))
    everyone = run.processes.gather_rows(columns or [None] * width)
    for shard in shards:
        if not shard.rows:
            yield ()
            continue
        order = partners[start : start + shard.rows]
        start += shard.rows
        yield [mx.nd.array(rows[order], ctx=shard.context, dtype=rows.dtype) for rows in everyone if rows is not None]
