"""The net of a table with many categories: rows of weights by id, beside or before dense layers. Imports MXNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from trainer import UsageError
from trainer.data import IdTable
from trainer.mxnet import gluon, mx

START = 0.05
"""Embeddings start between -START and START, as in Keras."""
MOST_ELEMENTS = 2**31 - 1
"""Elements of one array: MXNet's packages count them in 32 bits."""


class TableNet(gluon.HybridBlock):  # type: ignore[misc]
    """Takes the numbers, if there are any, and the ids (rows, k); returns the outputs.

    With `body`, a block of dense layers, it gets the numbers and the embedding of each id, side by side. Without one
    the net is linear: each output is the sum of the numbers' weights, the weights of the ids, and a bias.
    """

    def __init__(
        self,
        tables: Sequence[IdTable],
        body: Any | None,
        *,
        outputs: int,
        has_numbers: bool,
        is_lazy: bool,
        last_layer: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """`last_layer` has the initializers of the linear net's weights and bias."""
        super().__init__()
        self._tables = list(tables)
        self._has_numbers, self._outputs = has_numbers, outputs
        self._width = sum(len(table.columns) for table in tables)
        with self.name_scope():
            self._embeddings = [
                gluon.nn.Embedding(
                    table.rows,
                    _units(table, outputs),
                    weight_initializer=Start(table.shared_rows, START if body is not None else 0.0),
                    sparse_grad=is_lazy,
                )
                for table in tables
            ]
            for number, embedding in enumerate(self._embeddings):
                self.register_child(embedding, embedding_name(number))
            self.body = body
            self.dense = self.bias = None
            if body is None and has_numbers:
                self.dense = gluon.nn.Dense(outputs, **last_layer)
            elif body is None:
                start = last_layer.get("bias_initializer", "zeros")
                self.bias = self.params.get("bias", shape=(1, outputs), init=start)

    def hybrid_forward(self, F: Any, first: Any, ids: Any = None, bias: Any = None) -> Any:  # noqa: N803  Gluon's name
        """The outputs (rows, outputs)."""
        numbers, ids = (first, ids) if self._has_numbers else (None, first)
        rows = [
            embedding(self._of_table(F, ids, table))
            for embedding, table in zip(self._embeddings, self._tables, strict=True)
        ]
        if self.body is not None:
            flat = [each.reshape((0, -1)) for each in rows]
            parts = flat if numbers is None else [numbers, *flat]
            return self.body(F.concat(*parts, dim=1) if len(parts) > 1 else parts[0])
        total = rows[0].sum(axis=1)
        for each in rows[1:]:
            total = total + each.sum(axis=1)
        if self.dense is not None:
            return self.dense(numbers) + total
        return F.broadcast_add(total, bias)

    def _of_table(self, F: Any, ids: Any, table: IdTable) -> Any:  # noqa: N803
        if len(table.columns) == self._width:
            return ids
        return F.slice_axis(ids, axis=1, begin=table.begin, end=table.end)


def embedding_name(number: int) -> str:
    """The place of a table of weights in the net; its parameter is `NAME.weight`."""
    return f"embedding{number}"


def _units(table: IdTable, outputs: int) -> int:
    units = table.units or outputs
    if table.rows * units > MOST_ELEMENTS:
        raise UsageError(
            f"{table.rows:,} rows of {units} weights are more than an array can hold",
            where="the table's categories",
            fix="Raise --min-count, or lower --hash-bits.",
        )
    return units


@mx.init.register
class Start(mx.init.Initializer):  # type: ignore[misc]
    """Uniform, and 0 for the rows that training may never see, so that an unseen category changes nothing."""

    def __init__(self, zero_rows: Sequence[int] = (), scale: float = START) -> None:
        super().__init__(zero_rows=list(zero_rows), scale=scale)
        self._zero_rows, self._scale = list(zero_rows), scale

    def _init_weight(self, name: str, array: Any) -> None:
        if not self._scale:
            array[:] = 0
            return
        mx.random.uniform(-self._scale, self._scale, shape=array.shape, ctx=array.context, out=array)
        for row in self._zero_rows:
            array[row] = 0
