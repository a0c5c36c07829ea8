"""A loaded model: rows in, predictions out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from trainer.decisions import calibrator_of, rule_of
from trainer.errors import UsageError, first_line, listed
from trainer.model import info_tables
from trainer.model.graph import read_symbol
from trainer.model.interface import Encoded, ModelInterface
from trainer.model.manifest import ABOUT, PARAMETERS, SYMBOL, About
from trainer.model.parameters import Header, check_parameters, differences, read_headers, without_kinds
from trainer.model.sizes import Collected, rows_at_a_time
from trainer.nets.naming import NET

if TYPE_CHECKING:
    import pyarrow as pa

    from trainer.decisions import Calibrator, Rule
    from trainer.mxnet import Array, Context
    from trainer.task import Task


class Model:
    """A trained model; `trainer.load_model` creates it from its folder.

    `net` is a Gluon block on one device, `about` the content of `model.json`, `task` the trained task. Several threads
    may use it; they take turns on the device.
    """

    def __init__(self, folder: Path, about: About, task: Task, context: Context, allowed: Collection[str] = ()) -> None:
        self.folder = folder
        self.about = about
        self.task = task
        self.interface: ModelInterface = _interface(folder, about, task)
        self.calibrator, self.rules = _decision(folder, about)
        """What calibrates the predicted probabilities, or None; what is said about a row beside its prediction."""
        self._context = context
        self._lock = Lock()
        self.net, self._rows_at_a_time = _load_net(folder, about, task, context, allowed)
        """Takes the encoded inputs, each (rows, …), and returns the outputs, such as logits."""

    def __repr__(self) -> str:
        card = self.about.card
        columns, classes = list(card.get("columns") or card.get("features") or ()), card.get("classes")
        shapes = (f"({', '.join(map(str, ['rows', *entry.shape]))})" for entry in self.about.inputs)
        takes = f"{len(columns)} columns ({listed(columns, 4)})" if columns else listed(shapes, 4)
        gives = f"; classes {listed(map(str, classes), 6)}" if classes else ""
        return f"<Model {self.about.task.name}: takes {takes}{gives}>"

    @property
    def threshold(self) -> float | None:
        """The decision threshold: the tuned one if there is one, otherwise the given one; None if the task has none."""
        found = self.about.threshold
        if found is None:
            return None
        return found.given if found.tuned is None else found.tuned

    def predict(self, data: Any, *, threshold: float | None = None) -> pa.Table:
        """Predictions for rows in memory: a table with one row each, in the same order.

        `data` is what the task takes; for tables a pyarrow Table, a data frame, a dict of columns, or an array
        (rows, columns). The task names the result's columns: `probability` and `class` for two classes. `threshold`
        replaces the model's. Raises UsageError if the data or the threshold does not fit the model.
        """
        import pyarrow as pa

        threshold = check_threshold(threshold, self.threshold)
        encoded = self.encode(data)
        table = self.read_by_rules(data)
        return pa.table(self.columns(self.scores(encoded), threshold, table))

    def columns(self, scores: NDArray[Any], threshold: float | None, table: Mapping[str, Any]) -> dict[str, Any]:
        """The columns of the output: those of the interface, then those of the rules.

        `scores` (rows, …) are what `scores` returned; `table` has the columns that the rules read.
        """
        found = self.interface.columns(scores, threshold)
        for rule in self.rules:
            found |= rule.columns(scores, {name: table[name] for name in rule.reads})
        return found

    @property
    def reads(self) -> Sequence[str]:
        """The columns of the table that the rules read."""
        return list(dict.fromkeys(name for rule in self.rules for name in rule.reads))

    def read_by_rules(self, data: Any) -> Mapping[str, Any]:
        """The columns of rows in memory that the rules read, as Arrow arrays. Raises UsageError if one is missing."""
        wanted = self.reads
        if not wanted:
            return {}
        from trainer.data.tables.memory import as_table

        table = as_table(data, wanted)
        absent = [name for name in wanted if name not in table.column_names]
        if absent:
            raise UsageError(
                f"columns are missing that the model's decisions read: {listed(absent)}",
                where="the data",
                fix=f"It has: {listed(table.column_names)}.",
            )
        return {name: table.column(name) for name in wanted}

    def encode(self, data: Any) -> Encoded:
        """Rows in memory as the net takes them, with counts of missing and unseen values.

        Raises UsageError if they do not fit the model.
        """
        encoded = self.interface.encode(data)
        self._check(encoded)
        return encoded

    def scores(self, encoded: Encoded) -> NDArray[Any]:
        """The task's predictions from the net's outputs, (rows, …), such as calibrated probabilities.

        Waits for the device.
        """
        return self.compute(encoded)[0]

    def compute(
        self, encoded: Encoded, loss: Callable[[Any, slice], Array] | None = None
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """The scores, and the result of `loss` (called with the outputs and their slice of rows), (rows,).

        The second array is empty without `loss`.
        """
        found, losses = self.raw(encoded, loss)
        return found if self.calibrator is None else self.calibrator.apply(found), losses

    def raw(
        self, encoded: Encoded, loss: Callable[[Any, slice], Array] | None = None
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """As `compute`, with the task's predictions as they are, not calibrated."""
        from trainer.mxnet import autograd

        scores, losses = Collected(encoded.rows), Collected(encoded.rows)
        with self._lock, autograd.predict_mode():
            batches = self._batches(encoded)
            batch = next(batches, None)
            while batch is not None:
                rows, inputs = batch
                given = self.net(*inputs)
                outputs = list(given) if isinstance(given, (list, tuple)) else given
                computed = self.task.predictions(outputs)
                lost = None if loss is None else loss(outputs, rows)
                # The device computes while the next batch is copied; what follows waits for it.
                batch = next(batches, None)
                scores.add(computed.asnumpy())
                if lost is not None:
                    losses.add(lost.asnumpy())
        return scores.whole, losses.whole

    def _batches(self, encoded: Encoded) -> Iterator[tuple[slice, Sequence[Array]]]:
        from trainer.mxnet import mx

        size = self._rows_at_a_time
        for start in range(0, encoded.rows, size):
            rows = slice(start, min(start + size, encoded.rows))
            yield (
                rows,
                [
                    mx.nd.array(part[rows], ctx=self._context, dtype=entry.dtype)
                    for part, entry in zip(encoded.inputs, self.about.inputs, strict=True)
                ],
            )

    def _check(self, encoded: Encoded) -> None:
        wanted = [tuple(entry.shape) for entry in self.about.inputs]
        found = [part.shape[1:] for part in encoded.inputs]
        if wanted != found:
            raise UsageError(f"the rows have shape {found}, the model takes {wanted}", where="the data")


def check_threshold(given: float | None, own: float | None) -> float | None:
    """The threshold to use. Raises UsageError if it is not a probability or the model has no threshold."""
    if given is None:
        return own
    if own is None:
        raise UsageError("the model has no decision threshold", where="threshold")
    if not 0 <= given <= 1:
        raise UsageError(f"{given!r} is not a probability", where="threshold", fix="Use a number from 0 to 1.")
    return given


def _interface(folder: Path, about: About, task: Task) -> ModelInterface:
    try:
        return task.model_interface({**about.info, **info_tables.read(folder, about.tables)})
    except Exception as error:
        # The task's code reads what a stranger may have written, and raises whatever it comes across.
        raise UsageError(f"it is damaged: info: {first_line(error)}", where=str(folder / ABOUT)) from error


def _decision(folder: Path, about: About) -> tuple[Calibrator | None, list[Rule]]:
    try:
        return calibrator_of(about.calibrator), [rule_of(rule) for rule in about.rules]
    except UsageError as error:
        raise UsageError(error.what, where=str(folder / ABOUT)) from error


def _check_net(net: Any, headers: Mapping[str, Header], about: About) -> None:
    """Raises UsageError if the net has other parameters than those that were saved."""
    own = net._collect_params_with_prefix()  # noqa: SLF001  the names under which Gluon saves them
    differing = differences(headers, {name: each.shape for name, each in own.items()})
    if differing:
        raise UsageError(
            f"the net is not the one that was trained: {listed(sorted(differing), 4)}",
            where="net=" if about.task.name == NET else f"task {about.task.name!r}",
            fix="Give the net that the run trained.",
        )


def _load_net(folder: Path, about: About, task: Task, context: Context, allowed: Collection[str]) -> tuple[Any, int]:
    """The net with its weights, and how many rows it computes at a time.

    Raises UsageError if the files do not match, before they take memory.
    """
    from trainer.mxnet import gluon, mx

    names = [entry.name for entry in about.inputs]
    shapes = [(1, *entry.shape) for entry in about.inputs]
    headers = without_kinds(read_headers(folder / PARAMETERS))
    size = about.batch_size
    try:
        if about.symbol:
            known = {name: header.shape for name, header in headers.items()} | dict(zip(names, shapes, strict=True))
            symbol = read_symbol(folder / SYMBOL, known, allowed, names)
            wanted = dict.fromkeys(set(symbol.list_inputs()) - set(names))
            check_parameters(folder / PARAMETERS, headers, wanted)
            with warnings.catch_warnings():
                # It warns that the inputs' types are unknown; they follow from the parameters.
                warnings.simplefilter("ignore")
                net = gluon.SymbolBlock(symbol, [mx.sym.var(name) for name in names])
                net.collect_params().load(str(folder / PARAMETERS), ctx=context, cast_dtype=True, dtype_source="saved")
            net.hybridize(static_alloc=True)
            size = rows_at_a_time(symbol, {entry.name: entry.shape for entry in about.inputs}, size)
        else:
            net = task.net()
            _check_net(net, headers, about)
            net.load_parameters(str(folder / PARAMETERS), ctx=context)
        samples = zip(shapes, about.inputs, strict=True)
        net(*[mx.nd.zeros(shape, ctx=context, dtype=entry.dtype) for shape, entry in samples])
        mx.nd.waitall()
    except UsageError:
        raise
    except Exception as error:
        # MXNet raises its own errors, and Python's for names and shapes that do not match.
        raise UsageError(f"symbol and parameters cannot be used: {first_line(error)}", where=str(folder)) from error
    return net, size
