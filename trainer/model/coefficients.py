"""The coefficients of a linear model of a table, in the units of the table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from trainer.errors import UsageError
from trainer.model.manifest import SYMBOL
from trainer.model.tables import TableModel

if TYPE_CHECKING:
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
    weight, bias = _dense(model, where)
    schema, numbers = interface.schema, model.task.numbers()
    outputs = schema.target.names[1:] if schema.target.is_binary else schema.target.names
    quantity: Literal["log odds", "value", "logarithm"] = "log odds"
    if numbers is not None:
        if len(weight) > 1:
            raise UsageError(
                f"it predicts {len(weight)} quantiles, of which only the lowest is linear in the columns",
                where=where,
                fix="Train a model of one quantile.",
            )
        outputs, quantity = interface.outputs.names, "value" if numbers.link == "identity" else "logarithm"
        if numbers.link == "identity":
            weight, bias = weight * numbers.scale, bias * numbers.scale + numbers.offset
        else:
            bias = bias + np.log(numbers.scale)
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
        ),
        quantity,
    )


def _dense(model: Model, where: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weight (outputs, inputs) and bias (outputs,) of the net's one dense layer."""
    nodes = json.loads((model.folder / SYMBOL).read_text(encoding="utf-8"))["nodes"] if model.about.symbol else []
    operators = [node["op"] for node in nodes if node["op"] != "null"]
    if operators != ["FullyConnected"]:
        layers = operators.count("FullyConnected")
        what = f"its net has {layers} dense layers" if layers > 1 else "its net is not one dense layer"
        raise UsageError(
            f"{what}, so it is not linear and has no coefficients",
            where=where,
            fix='Train without hidden layers (--hidden "").',
        )
    found = {each.name: each.data().asnumpy().astype(np.float64) for each in model.net.collect_params().values()}
    (weight,) = (value for value in found.values() if value.ndim == 2)
    if not all(np.isfinite(value).all() for value in found.values()):
        raise UsageError("its weights are not finite numbers", where=where, fix="Train it again, with a lower rate.")
    bias = next((value for value in found.values() if value.ndim == 1), np.zeros(len(weight)))
    return weight, bias


def _by_name(names: Sequence[str], values: Sequence[float]) -> Mapping[str, float]:
    return dict(zip(names, values, strict=True))
