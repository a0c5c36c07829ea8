"""The parts of a linear model of a table: a dense layer for the numbers, and a weight per category."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.kinds import Embedded
from trainer.data.tables.schema import Schema
from trainer.errors import UsageError, listed
from trainer.model.manifest import SYMBOL

if TYPE_CHECKING:
    from trainer.model.model import Model

SUMS = {"Embedding", "sum", "slice_axis", "elemwise_add", "broadcast_add", "_Plus", "Reshape", "FullyConnected"}
"""The operators of a linear net with ids."""


@dataclass(frozen=True)
class LinearParts:
    """What the outputs of a linear net are the sum of."""

    weight: NDArray[np.float64]
    """(outputs, numbers)."""
    bias: NDArray[np.float64]
    """(outputs,)."""
    tables: tuple[NDArray[np.float64], ...] = ()
    """The weights by id, (rows, outputs), one for each of the schema's tables of ids."""

    def scaled(self, factor: float, offset: float) -> LinearParts:
        """Those of factor × output + offset."""
        tables = tuple(table * factor for table in self.tables)
        return LinearParts(self.weight * factor, self.bias * factor + offset, tables)

    def centred(self) -> LinearParts:
        """Those of the outputs minus their mean."""
        tables = tuple(table - table.mean(axis=1, keepdims=True) for table in self.tables)
        return LinearParts(self.weight - self.weight.mean(axis=0), self.bias - self.bias.mean(), tables)


def linear_parts(model: Model, schema: Schema, where: str) -> LinearParts:
    """The parts. Raises UsageError if the net is not linear, has hashed categories, or has diverged."""
    nodes = json.loads((model.folder / SYMBOL).read_text(encoding="utf-8"))["nodes"] if model.about.symbol else []
    operators = [node["op"] for node in nodes if node["op"] != "null"]
    tables = schema.id_tables
    names = [f"embedding{number}.weight" for number in range(len(tables))]
    is_sum = set(operators) <= SUMS and operators.count("FullyConnected") == bool(schema.feature_names)
    is_sum = is_sum and set(names) <= set(model.net.collect_params().keys())
    if not (operators == ["FullyConnected"] if not tables else is_sum):
        layers = operators.count("FullyConnected")
        what = f"its net has {layers} dense layers" if layers > 1 else "its net is not one dense layer"
        raise UsageError(
            f"{what}, so it is not linear and has no coefficients",
            where=where,
            fix='Train without hidden layers (--hidden "").',
        )
    hashed = [column.name for table in tables for column in table.columns if not isinstance(column, Embedded)]
    if hashed:
        raise UsageError(
            f"the categories of {listed(hashed, 4)} are hashed, so several may share a weight and there is no list of "
            "them",
            where=where,
            fix="Train without --hash-bits to see a weight for each category.",
        )
    found = {each.name: each.data().asnumpy().astype(np.float64) for each in model.net.collect_params().values()}
    if not all(np.isfinite(value).all() for value in found.values()):
        raise UsageError("its weights are not finite numbers", where=where, fix="Train it again, with a lower rate.")
    by_id = tuple(found.pop(name) for name in names)
    own = found.pop("bias") if "bias" in found and by_id else None
    outputs = by_id[0].shape[1] if by_id else None
    weight = next((value for value in found.values() if value.ndim == 2), np.zeros((outputs or 1, 0)))
    bias = next((value for value in found.values() if value.ndim == 1), np.zeros(len(weight)))
    return LinearParts(weight, bias if own is None else own.reshape(-1), by_id)
