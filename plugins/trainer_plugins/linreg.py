"""Regression on tables: a number to predict, with any number of hidden layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainer import Defaults, Numbers, UsageError
from trainer_plugins.dense_tables import COLUMNS, DenseTables
from trainer_plugins.table_starts import levels, log_mean, mean

if TYPE_CHECKING:
    from trainer import NumberLoss
    from trainer.data import Quantity, Rows, Schema
    from trainer.metrics import Metric

MEDIAN = 0.5
QUANTILES = (0.1, MEDIAN, 0.9)
"""The quantiles unless others are given."""
NOISE, MIDDLE = 5.0, 100.0
Quantile = Annotated[float, Field(gt=0, lt=1)]


@dataclass
class LinearRegression(DenseTables):
    """Learns a number in a table's label column, or that of generated data without --data.

    Without hidden layers (--hidden "") it is linear regression; on a table, it then starts at weights of zero and at
    the training labels' mean, or their median or quantiles if the objective is about those. The net computes with the
    label standardised by the training rows, so that the learning rate does not depend on the unit. Losses, metrics and
    predictions are in the label's unit.

    `--objective` chooses the loss: `squared` (predicts the mean), `absolute` (the median), `huber` (in between: squared
    up to --huber-delta, absolute beyond), `quantile` (each of --quantiles at once, never crossing) and `poisson` (the
    mean of counts or rates ≥ 0, with a log link; the loss is the Poisson deviance). For rates, give the exposure as
    --sample-weight.

    A column of more than --one-hot-limit categories has a row of weights per category: an embedding before the hidden
    layers, or without them a weight per output. --hash-bits hashes categories instead of listing them.

    The generated data has rows of ten standard normal features and the label 100 + x1 + 2·x2 + … + 10·x10 plus normal
    noise with deviation 5; for `poisson`, Poisson counts whose mean is exp(1 + (x1 + 2·x2 + … + 10·x10) / 20).
    """

    objective: Annotated[
        Literal["squared", "absolute", "huber", "quantile", "poisson"],
        Field(description="The loss: squared, absolute or Huber's error, quantiles, or Poisson deviance."),
    ] = "squared"
    quantiles: Annotated[
        tuple[Quantile, ...], Field(description="For --objective quantile: those to predict; default: 0.1,0.5,0.9.")
    ] = ()
    huber_delta: Annotated[
        float | None,
        Field(gt=0, description="For --objective huber: the error, in the label's unit, up to which it is squared; "
              "default: the deviation of the training labels."),
    ] = None  # fmt: skip

    for_classes = "trainer run logreg"
    defaults = Defaults(
        epochs=20,
        batch_size=32,
        optimizer="adam",
        learning_rate=0.01,
        seed=12345,
        plugins=("progress", "metrics-log", "checkpoint", "tensorboard", "report"),
    )

    @property
    def headline(self) -> Sequence[str]:  # type: ignore[override]
        """The losses, R² and the mean absolute error; for quantiles without a median, the losses."""
        if self._has_median():
            return ("train/loss", "validation/loss", "validation/r2", "validation/mean-absolute-error")
        return ("train/loss", "validation/loss")

    def target_kind(self) -> Literal["number", "non-negative number"]:
        """A number, or one that is not negative."""
        return "non-negative number" if self.objective == "poisson" else "number"

    def check(self) -> None:
        """Refuses options of a table without one, and those of another objective."""
        super().check()
        for option, value, objective in (
            ("--quantiles", self.quantiles, "quantile"),
            ("--huber-delta", self.huber_delta, "huber"),
        ):
            if value and self.objective != objective:
                raise UsageError(
                    f"the objective is {self.objective}",
                    where=option,
                    fix=f"Add --objective {objective}, or leave {option} out.",
                )
        if len(set(self.quantiles)) < len(self.quantiles):
            raise UsageError("one of the quantiles is there twice", where="--quantiles", fix="Name each one once.")

    def quantiles_predicted(self) -> Sequence[float]:
        """The quantiles in rising order; empty for another objective."""
        return tuple(sorted(self.quantiles or QUANTILES)) if self.objective == "quantile" else ()

    def _has_median(self) -> bool:
        return self.objective != "quantile" or MEDIAN in self.quantiles_predicted()

    def adopt(self, schema: Schema) -> None:
        """Takes over what was learned of the table."""
        super().adopt(schema)
        self.__dict__.pop("_loss", None)

    @property
    def _target(self) -> Quantity:
        from trainer.data import Quantity

        target = None if self.schema is None else self.schema.target
        return target if isinstance(target, Quantity) else Quantity()

    def numbers(self) -> Numbers:
        """How the net's output leads to the prediction."""
        target = self._target
        if self.objective == "poisson":
            return Numbers(scale=target.mean or 1.0, link="log")
        return Numbers(self.quantiles_predicted(), target.mean, target.deviation)

    def outputs(self) -> int:
        """The neurons of the last layer: one, or one per quantile."""
        return len(self.quantiles_predicted()) or 1

    @cached_property
    def _loss(self) -> NumberLoss:
        from trainer import NumberLoss

        known = self.numbers()
        return NumberLoss.of(
            self.objective,
            offset=known.offset,
            scale=known.scale,
            delta=self.huber_delta or known.scale,
            quantiles=self.quantiles_predicted(),
        )

    def constant_outputs(self, labels: NDArray[np.float32], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """The mean on the net's scale, its logarithm for Poisson, and the median or quantiles for the others."""
        known = self.numbers()
        scaled = (labels.astype(np.float64) - known.offset) / known.scale
        if self.objective == "poisson":
            return log_mean(scaled, weights)
        if self.objective == "squared":
            return mean(scaled, weights)
        return levels(scaled, weights, self.quantiles_predicted() or [MEDIAN])

    def loss(self) -> Any:
        """The objective, in the label's unit, of outputs on the net's scale."""
        return self._loss

    def metrics(self) -> Sequence[Metric]:
        """The errors and R², of the median for quantiles; with them pinball losses and coverages, or the deviance."""
        from trainer.metrics import MedianAbsoluteError, OfColumn, PoissonDeviance, Quantiles, Regression

        usual = [Regression(), MedianAbsoluteError()]
        if self.objective == "quantile":
            known = list(self.quantiles_predicted())
            of_median = [OfColumn(each, known.index(MEDIAN)) for each in usual] if MEDIAN in known else []
            return [*of_median, Quantiles(known)]
        return [*usual, PoissonDeviance()] if self.objective == "poisson" else usual

    def predictions(self, outputs: Any) -> Any:
        """The numbers in the label's unit: (rows,), or (rows, quantiles)."""
        return self._loss.predictions(outputs)

    def generated(self, seed: int) -> Sequence[Rows]:
        """Rows of a linear model with noise: training rows, then validation rows, from one seed."""
        from trainer.data import Number, Quantity, Rows, Schema
        from trainer.mxnet import mx

        mx.random.seed(seed)
        splits = []
        factors = mx.nd.arange(1, COLUMNS + 1, ctx=mx.cpu())
        for rows in (self.train_rows, self.validation_rows):
            features = mx.nd.random.normal(0, 1, shape=(rows, COLUMNS), ctx=mx.cpu())
            sums = mx.nd.dot(features, factors)
            if self.objective == "poisson":
                labels = mx.nd.sample_poisson((1 + sums / 20).exp())
            else:
                labels = MIDDLE + sums + mx.nd.random.normal(0, NOISE, shape=(rows,), ctx=mx.cpu())
            splits.append(Rows(features.asnumpy(), labels.asnumpy().astype(np.float32), None, {}))
        columns = tuple(Number(f"x{number}", standardize=False) for number in range(1, COLUMNS + 1))
        target = Quantity(non_negative=self.objective == "poisson")
        labels = splits[0].labels
        assert labels is not None  # noqa: S101  they were just made
        self.adopt(Schema(columns, "label", target.fitted("label", labels, where="the generated data")))
        kind = "counts whose mean is exp(1 + s / 20)" if self.objective == "poisson" else "label 100 + s + noise"
        self._lines = [
            f"{self.train_rows} training and {self.validation_rows} validation rows of ten standard normal features; "
            f"{kind}, with s = x1 + 2·x2 + … + 10·x10"
        ]
        return splits
