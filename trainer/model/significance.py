"""Judges two runs' models again on their test rows: whether their metrics differ by more than chance explains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.fingerprint import Fingerprint
from trainer.data.sources import as_batches
from trainer.decisions.resampling import interval, mcnemar, p_value, times_drawn
from trainer.errors import UsageError
from trainer.evaluation import Rows, joined
from trainer.launch.training_rows import read_again
from trainer.metrics.binary import binary_metrics_at
from trainer.metrics.evalmetric import as_metrics
from trainer.model.evaluate import GIVEN, Loss, values_of
from trainer.model.interface import Encoded
from trainer.model.load import find_model, load_from
from trainer.model.model import Model
from trainer.runs.find import read_record
from trainer.seeds import derive

TEST, ACCURACY = "test", "accuracy"
DRAWS = 1000
BATCH = 4096


@dataclass(frozen=True)
class Difference:
    """A metric of two models on the same rows, and second - first with its paired bootstrap interval and p-value."""

    first: float
    second: float
    low: float
    high: float
    p: float

    @property
    def value(self) -> float:
        """Second - first."""
        return self.second - self.first

    def to_json(self) -> dict[str, float | None]:
        """A JSON value; numbers that are not finite are null."""
        values = {"first": self.first, "second": self.second, "difference": self.value}
        values |= {"low": self.low, "high": self.high, "p": self.p}
        return {name: value if np.isfinite(value) else None for name, value in values.items()}


@dataclass(frozen=True)
class Significance:
    """The differences by metric, named as the runs logged them (`test/f1`), and McNemar's p-values of accuracies.

    `only` has, for each accuracy, the numbers of rows on which only the first and only the second model is right.
    """

    rows: int
    confidence: float
    differences: Mapping[str, Difference]
    mcnemar: Mapping[str, float]
    only: Mapping[str, tuple[int, int]]

    @property
    def real(self) -> list[str]:
        """The metrics whose difference chance does not explain; accuracies by McNemar's test too."""
        level = 1 - self.confidence
        return [
            name for name, each in self.differences.items() if each.p <= level and self.mcnemar.get(name, 0.0) <= level
        ]

    def to_json(self) -> dict[str, Any]:
        """A JSON value."""
        return {
            "rows": self.rows,
            "confidence": self.confidence,
            "differences": {name: each.to_json() for name, each in self.differences.items()},
            "mcnemar": {
                name: {"only_first": self.only[name][0], "only_second": self.only[name][1], "p": p}
                for name, p in self.mcnemar.items()
            },
        }


@dataclass(frozen=True)
class _Judged:
    """What a model gives for the rows: `raw` as the net gives them, and `calibrated` as the model does."""

    model: Model
    raw: Rows
    calibrated: Rows

    @property
    def given(self) -> float | None:
        """The threshold that the task was given."""
        found = self.model.about.threshold
        return None if found is None else found.given

    def values(self, chosen: NDArray[np.int64] | None = None) -> dict[str, float]:
        """The metrics as runs log them: of what the net gives, and as `tuned-…` of what the model decides."""
        raw, calibrated = (rows if chosen is None else rows.take(chosen) for rows in (self.raw, self.calibrated))
        found = dict(values_of(as_metrics(self.model.task.metrics()), raw, {GIVEN: self.given})[GIVEN])
        if self.model.threshold is not None:
            tuned = binary_metrics_at(
                self.model.threshold, calibrated.predictions, calibrated.labels, calibrated.weights
            )
            found |= {f"tuned-{name}": value for name, value in tuned.items()}
        return found

    def right(self, name: str) -> NDArray[np.bool_]:
        """Which rows are right by the decisions of an accuracy."""
        rows, threshold = (self.raw, self.given) if name == ACCURACY else (self.calibrated, self.model.threshold)
        labels = rows.labels.reshape(-1)
        if threshold is None:
            return np.equal(rows.predictions.argmax(axis=1), labels)
        return np.equal(rows.predictions.reshape(-1).astype(np.float64) > threshold, labels > 0.5)


def significance(
    first: Path,
    second: Path,
    *,
    draws: int = DRAWS,
    confidence: float = 0.95,
    seed: int = 0,
    watch: Callable[[int], None] | None = None,
) -> Significance:
    """Judges the models of the runs in two folders again on their test rows, which have to be the same.

    The bootstrap is paired: in each of `draws` resamples both models are judged on the same rows.

    Raises UsageError if a run has no test rows, if those of the other are others, if they cannot be read again or have
    changed, or if a run has no model.
    """
    check_same_rows(first, second)
    judged = [_judged(path) for path in (first, second)]
    _check_same_labels(judged[0].raw, judged[1].raw, second)
    values = [each.values() for each in judged]
    names = [name for name in values[0] if name in values[1]]
    count = len(judged[0].raw.labels)
    found: dict[str, list[float]] = {name: [] for name in names}
    generator = np.random.default_rng(derive(seed, "significance"))
    numbers = np.arange(count)
    for draw, times in enumerate(times_drawn(count, draws, generator)):
        chosen = np.repeat(numbers, times)
        one, other = (each.values(chosen) for each in judged)
        for name in names:
            found[name].append(other[name] - one[name])
        if watch is not None:
            watch(draw + 1)
    differences = {
        f"{TEST}/{name}": Difference(
            values[0][name],
            values[1][name],
            *interval(np.array(found[name]), confidence),
            p_value(np.array(found[name])),
        )
        for name in names
    }
    only = {} if judged[0].raw.weights is not None else _only(judged, names)
    return Significance(count, confidence, differences, {name: mcnemar(*each) for name, each in only.items()}, only)


def check_same_rows(first: Path, second: Path) -> None:
    """Raises UsageError if the runs' records do not say that both were judged on the same test rows."""
    prints = []
    for path in (first, second):
        found = Fingerprint.from_json(read_record(path).get("data"))
        if found is None:
            raise UsageError(
                "it has not recorded what identifies its data, so it is not known whether both runs have the same rows",
                where=f"run {path.name}",
            )
        if TEST not in found.splits:
            raise UsageError(
                "it has no test rows to judge the models on",
                where=f"run {path.name}",
                fix="Start both runs with --test-split or --test-data.",
            )
        prints.append(found)
    if not prints[0].has_same_rows(prints[1], TEST):
        changes = [each for each in prints[0].changes(prints[1]) if "train" not in each and "validation" not in each]
        raise UsageError(
            f"it was judged on other test rows than run {first.name}" + (f": {changes[0]}" if changes else ""),
            where=f"run {second.name}",
            fix="Compare runs with the same data, --test-split and --seed.",
        )


def _judged(path: Path) -> _Judged:
    """The run's model on its test rows, which are read the way in which the run read them."""
    from trainer.mxnet import mx

    try:
        splits = read_again(path).splits
    except UsageError as error:
        raise UsageError(
            f"its test rows cannot be read again: {error.what}", where=f"run {path.name}", fix=error.fix
        ) from error
    if splits.test is None:
        raise UsageError("it has no test rows to judge the models on", where=f"run {path.name}")
    model = load_from(find_model(path))
    batches = as_batches(
        splits.test, batch_size=BATCH, contexts=[mx.cpu()], seed=0, shuffle=False, split=TEST, epochs=1
    )
    loss = Loss(model)
    parts = []
    for batch in batches.epoch(1):
        shard = batch.shards[0]
        weights = None if shard.weight is None else shard.weight.asnumpy().reshape(-1)
        inputs = tuple(part.asnumpy() for part in shard.inputs)
        encoded = Encoded(inputs, shard.rows, shard.label.asnumpy(), weights)
        scores, losses = model.raw(encoded, loss.of(encoded))
        assert encoded.labels is not None  # noqa: S101  given above
        parts.append(Rows(scores, encoded.labels, weights, losses))
    rows = joined(parts)
    calibrator = model.calibrator
    return _Judged(
        model,
        rows,
        rows if calibrator is None else replace(rows, predictions=calibrator.apply(rows.predictions)),
    )


def _check_same_labels(first: Rows, second: Rows, path: Path) -> None:
    """Raises UsageError if the same rows have other labels or weights for the second model."""
    same = np.array_equal(first.labels, second.labels)
    weights = [rows.weights for rows in (first, second)]
    if same and (
        (weights[0] is None and weights[1] is None)
        or (weights[0] is not None and weights[1] is not None and np.allclose(weights[0], weights[1]))
    ):
        return
    raise UsageError(
        f"its test rows have other {'weights' if same else 'labels'}",
        where=f"run {path.name}",
        fix="Compare runs with the same --label, --positive-class and --sample-weight.",
    )


def _only(judged: list[_Judged], names: list[str]) -> dict[str, tuple[int, int]]:
    found = {}
    for name in (ACCURACY, f"tuned-{ACCURACY}"):
        if name in names:
            one, other = (each.right(name) for each in judged)
            found[f"{TEST}/{name}"] = int(np.count_nonzero(one & ~other)), int(np.count_nonzero(other & ~one))
    return found
