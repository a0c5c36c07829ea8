"""Images as batches: in the run's order, loaded ahead of training."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.data import Batch, Shard, split_rows
from trainer.errors import UsageError
from trainer.seeds import derive, permutation
from trainer_plugins.image_classification.cache import Cache, KeptImages
from trainer_plugins.image_classification.files import Images
from trainer_plugins.image_classification.loading import CorruptError, Job, augmented
from trainer_plugins.image_classification.pool import Pool, Ticket
from trainer_plugins.image_classification.transforms import Transforms, as_input, stack

if TYPE_CHECKING:
    from trainer.mxnet import Array, Context


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of each channel, for pixels from 0 to 1."""

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]


@dataclass(frozen=True)
class _Loading:
    """A batch that is being loaded."""

    rows: NDArray[Any]
    missing: Sequence[int]
    """The rows that are not in memory."""
    seeds: Sequence[int] | None
    """One per row, in training."""
    ticket: Ticket | None
    """The job that loads what is missing."""


class ImageBatches:
    """A split of images as Batches; labels are one-hot, (rows, classes), so that they can be smoothed and mixed.

    The order is a function of (seed, epoch), the augmentation of an image one of (seed, epoch, row): neither depends on
    the number of workers or devices, or on the batch that an epoch starts with.
    """

    weighted = False

    def __init__(
        self,
        images: Images,
        transforms: Transforms,
        normalisation: Normalisation,
        pool: Pool,
        cache: Cache,
        *,
        batch_size: int,
        contexts: Sequence[Context],
        seed: int,
        training: bool,
    ) -> None:
        self._images = images
        self._transforms = transforms
        self._normalisation = normalisation
        self._pool = pool
        self._batch_size = batch_size
        self._contexts = list(contexts)
        self._seed = seed
        self._training = training
        # The random part of a heavy augmentation needs the workers, which get the files.
        is_kept = not training or transforms.is_light
        self._kept = KeptImages(cache, len(images.items)) if is_kept else None
        self._submitted_before = -1
        self._one_hot = np.eye(len(images.classes), dtype=np.float32)

    @property
    def rows(self) -> int:
        """The number of images."""
        return len(self._images.items)

    @property
    def batches_per_epoch(self) -> int:
        """The number of batches; the last one may be smaller."""
        return -(-self.rows // self._batch_size)

    def sample(self) -> tuple[Array, ...]:
        """Zeros of an image's shape, (1, 3, size, size), on the first context: the net infers its shapes from them."""
        from trainer.mxnet import mx

        size = self._transforms.size
        return (mx.nd.zeros((1, 3, size, size), ctx=self._contexts[0]),)

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """The batches without the first `skip`, which are not loaded. Raises UsageError for a corrupt image."""
        self._let_workers_rest()
        order = permutation(self.rows, self._seed, epoch) if self._training else np.arange(self.rows)
        size = self._batch_size
        parts = iter([order[start : start + size] for start in range(skip * size, self.rows, size)])
        waiting: deque[_Loading] = deque()
        while True:
            while len(waiting) < self._pool.ahead and (rows := next(parts, None)) is not None:
                waiting.append(self._begun(rows, epoch))
            if not waiting:
                return
            loading = waiting.popleft()
            pixels = self._pixels(loading)
            # Submit the next job before this batch is trained.
            if (following := next(parts, None)) is not None:
                waiting.append(self._begun(following, epoch))
            yield self._batch(loading.rows, stack(pixels))

    def _let_workers_rest(self) -> None:
        """Ends the workers after a training epoch without a job for them: all images are in memory."""
        if self._training:
            if self._pool.submitted == self._submitted_before:
                self._pool.rest()
            self._submitted_before = self._pool.submitted

    def _begun(self, rows: NDArray[Any], epoch: int) -> _Loading:
        """Submits what has to be loaded of a batch."""
        drawn = [derive(self._seed, "augmentation", epoch, row) for row in rows.tolist()] if self._training else None
        missing = rows.tolist() if self._kept is None else self._kept.missing(rows)
        record = self._images.record
        job = Job(
            [self._images.items[row] for row in missing],
            None if record is None else str(record),
            self._transforms,
            drawn if self._kept is None else None,
            only_prepare=self._training and self._kept is not None,
        )
        return _Loading(rows, missing, drawn, self._pool.submit(job) if missing else None)

    def _pixels(self, loading: _Loading) -> Sequence[NDArray[np.uint8]]:
        loaded = self._loaded(loading)
        if self._kept is None:
            return loaded
        images = self._kept.joined(loading.rows, loading.missing, loaded)
        return images if loading.seeds is None else augmented(images, self._transforms, loading.seeds)

    def _loaded(self, loading: _Loading) -> Sequence[NDArray[np.uint8]]:
        if loading.ticket is None:
            return []
        try:
            images: list[NDArray[np.uint8]] = self._pool.result(loading.ticket)
        except CorruptError as error:
            raise UsageError(
                f"the image cannot be decoded: {error.reason}",
                where=self._images.name(loading.missing[error.row]),
                fix="Remove or replace it, or pass --skip-corrupt to leave out such images.",
            ) from error
        return images

    def _batch(self, rows: NDArray[Any], pixels: NDArray[np.uint8]) -> Batch:
        from trainer.mxnet import mx

        labels = self._one_hot[self._images.labels[rows]]
        shards, start = [], 0
        for context, count in zip(self._contexts, split_rows(len(rows), len(self._contexts)), strict=True):
            if not count:
                shards.append(Shard(context, (), None, None, 0))
                continue
            part = slice(start, start + count)
            start += count
            given = mx.nd.array(pixels[part], ctx=context, dtype=np.uint8)
            inputs = as_input(given, self._normalisation.mean, self._normalisation.deviation)
            shards.append(Shard(context, (inputs,), mx.nd.array(labels[part], ctx=context), None, count))
        return Batch(tuple(shards), len(rows), rows)
