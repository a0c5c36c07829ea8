"""Random numbers in training: MXNet's generator is seeded from (seed, step), so that any step can be reached again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from trainer.seeds import derive

if TYPE_CHECKING:
    from trainer.data.batches import Batch
    from trainer.step import Step

SEED_BLOCK = 256
"""At most this many steps between two seedings of MXNet's generator. Seeding costs 1.2 ms (it seeds 1,024 generators),
too much for every step; but a run that is resumed in the middle of a block has to draw the block's numbers again."""
SEED_WORK = 1 << 28
"""At most this many parameters × rows per block, which takes some tenths of a second, so that resuming stays fast."""

DRAWING_OPTIMIZERS = frozenset({"sgld"})
"""Optimizers whose updates draw random numbers."""


class Seeder:
    """Seeds MXNet's generator from (seed, step) for nets that draw random numbers in training, such as dropout.

    The state of MXNet's generator can be seeded but not read. So it is seeded again at the start of every block of
    steps, which makes the numbers of a block a function of the seed and the position. A block ends after SEED_BLOCK
    steps or SEED_WORK, with the epoch, and after an evaluation that draws numbers. For an optimizer that draws numbers
    itself, a block is one step.

    Each process draws different numbers for its own rows, but the same ones for the update, which is the same in all.
    """

    def __init__(self, step: Step, *, seed: int, batch_size: int, optimizer: str, rank: int, processes: int) -> None:
        self._step = step
        self._seed = seed
        self._draws = step.draws_random_numbers
        work = batch_size * sum(int(np.prod(each.shape)) for each in step.parameters.all)
        self._block = max(1, min(SEED_BLOCK, SEED_WORK // max(work, 1)))
        self._position: tuple[int, ...] = (rank,) if rank and self._draws else ()
        self._before_update_too = False
        self.seeded_at: int | None = None
        """The step before which the generator was last seeded in the current block; None if the block is over."""
        if optimizer in DRAWING_OPTIMIZERS:
            self._before_update_too = processes > 1 and self._draws
            self._draws, self._block = True, 1

    def before_step(self, number: int) -> None:
        """Called before each step with its number, counted from 1 over the run."""
        if self._draws and (self.seeded_at is None or number - self.seeded_at >= self._block):
            self._seed_for(number)

    def before_update(self, number: int) -> None:
        """Seeds all processes the same way, for an optimizer that draws random numbers."""
        if self._before_update_too:
            from trainer.mxnet import mx

            mx.random.seed(derive(self._seed, "update", number))

    def end_block(self) -> None:
        """Makes the next step begin a new block."""
        self.seeded_at = None

    def replay(self, number: int, last_batches: Callable[[int], Iterator[Batch]]) -> None:
        """Restores the generator to its state after step `number`, by computing the steps of its block again.

        `last_batches(count)` returns the last `count` batches of the current epoch. Overwrites gradients, running
        statistics and losses: call it before those are restored.
        """
        if not self._draws or self.seeded_at is None or self._block == 1:
            return
        count = number - self.seeded_at + 1
        self._seed_for(self.seeded_at)
        for batch in islice(last_batches(count), count):
            self._step.forward_backward(batch)

    def _seed_for(self, number: int) -> None:
        from trainer.mxnet import mx

        self.seeded_at = number
        mx.random.seed(derive(self._seed, "step", number, *self._position))
