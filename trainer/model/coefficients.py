"""The coefficients of a linear model of a table, in the units of the table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from trainer.data.tables.kinds import Embedded
from trainer.errors import UsageError
from trainer.model.category_weights import LinearParts, linear_parts
from trainer.model.tables import TableModel

if TYPE_CHECKING:
    from trainer.data.tables.schema import Schema
    from trainer.model.model import Model


@dataclass(frozen=True)
class Coefficient:
    """One input of the net: what each output gains if it grows by one, and by one deviation of the training rows."""

    feature: str
    """The name of the input, such as `age` or `colour=red`."""
    column: str
    """The table's column."""
    values: tuple[float, ...]
    """Per unit of the column, one for each output."""
    per_deviation: tuple[float, ...] | None
    """Per deviation of the training rows; None if the input is not standardised."""


@dataclass(frozen=True)
class Linear:
    """A linear model: each output is its intercept plus the sum of coefficient × input over the inputs."""

    outputs: tuple[str, ...]
    """What the outputs are about: of two classes the second, of more each, or what is predicted of a number."""
    intercepts: tuple[float, ...]
    coefficients: tuple[Coefficient, ...]
    quantity: Literal["log odds", "value", "logarithm"] = "log odds"
    """What an output is: the log odds of a class (of several, up to a constant), a number, or its logarithm."""
    many: tuple[str, ...] = ()
    """The columns with more categories than are one-hot; a row has no input for them, and one of their values."""

    def to_json(self) -> dict[str, Any]:
        """A JSON value with everything by name."""
        return {
            "outputs": list(self.outputs),
            "quantity": self.quantity,
            "intercept": _by_name(self.outputs, self.intercepts),
            "coefficients": [
                {
                    "feature": each.feature,
                    "column": each.column,
                    "value": _by_name(self.outputs, each.values),
                    "per_deviation": each.per_deviation and _by_name(self.outputs, each.per_deviation),
                }
                for each in self.coefficients
            ],
        }


def linear_of(model: Model) -> Linear:
    """The coefficients of a model. Raises UsageError if it is not a linear model of a table, or has diverged."""
    where, interface = str(model.folder), model.interface
    if not isinstance(interface, TableModel):
        raise UsageError("its inputs are not the columns of a table, so it has no coefficients by column", where=where)
    schema, numbers = interface.schema, model.task.numbers()
    parts = linear_parts(model, schema, where)
    outputs = schema.target.names[1:] if schema.target.is_binary else schema.target.names
    quantity: Literal["log odds", "value", "logarithm"] = "log odds"
    if numbers is not None:
        if len(parts.weight) > 1:
            raise UsageError(
                f"it predicts {len(parts.weight)} quantiles, of which only the lowest is linear in the columns",
                where=where,
                fix="Train a model of one quantile.",
            )
        outputs, quantity = interface.outputs.names, "value" if numbers.link == "identity" else "logarithm"
        if numbers.link == "identity":
            parts = parts.scaled(numbers.scale, numbers.offset)
        else:
            parts = parts.scaled(1.0, float(np.log(numbers.scale)))
    weight, bias = parts.weight, parts.bias
    scales = [scale for column in schema.columns for scale in column.scales]
    columns = [column.name for column in schema.columns for _ in column.feature_names]
    means, deviations = (np.array([getattr(scale, name) for scale in scales]) for name in ("mean", "deviation"))
    # weight · (value - mean) / deviation = (weight / deviation) · value - weight · mean / deviation
    values = weight / deviations
    intercepts = bias - values @ means
    is_scaled = (means != 0) | (deviations != 1)
    return Linear(
        outputs,
        tuple(intercepts.tolist()),
        tuple(
            Coefficient(
                feature,
                columns[place],
                tuple(values[:, place].tolist()),
                tuple(weight[:, place].tolist()) if is_scaled[place] else None,
            )
            for place, feature in enumerate(schema.feature_names)
        )
        + tuple(_of_categories(schema, parts)),
        quantity,
        tuple(schema.id_names),
    )


def _of_categories(schema: Schema, parts: LinearParts) -> Iterator[Coefficient]:
    """A coefficient for each category of a column that is an id."""
    for table, weights in zip(schema.id_tables, parts.tables, strict=True):
        for column, first in zip(table.columns, table.offsets, strict=True):
            if isinstance(column, Embedded):
                rows = weights[first : first + column.rows].tolist()
                for name, values in zip(column.row_names, rows, strict=True):
                    yield Coefficient(f"{column.name}={name}", column.name, tuple(values), None)


def _by_name(names: Sequence[str], values: Sequence[float]) -> Mapping[str, float]:
    return dict(zip(names, values, strict=True))
