"""What the estimators share: their parameters, one training, and the model that it leaves."""

from __future__ import annotations

import copy
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_consistent_length, check_is_fitted

from trainer.catalog import registry
from trainer.config import options
from trainer.data.tables.frame import Frame
from trainer.errors import UsageError
from trainer.launch.fit import fit
from trainer.model import manifest
from trainer.sklearn.rows import table_of
from trainer.sklearn.stored import StoredModel
from trainer.terminal import NOTE

if TYPE_CHECKING:
    import pyarrow as pa

    from trainer.model.model import Model

LARGEST_SEED = 2**31 - 1
NAME = "sklearn"
"""The entry point that names tasks and plugins."""


class GluonEstimator(BaseEstimator):  # type: ignore[misc]
    """The base of the estimators. A fitted one is copied and pickled with the files of its model folder."""

    _role: str
    """Which task it trains, by the names of the entry point."""

    # The parameters, which scikit-learn reads from the constructor's signature, are declared there.
    net: Callable[..., Any] | None
    hidden: Sequence[int]
    activation: str
    dropout: float
    epochs: int
    batch_size: int
    optimizer: str | Mapping[str, Any]
    learning_rate: float | None
    weight_decay: float
    validation_split: float
    plugins: Sequence[Any]
    options: Mapping[str, Any] | None
    random_state: Any
    runs_dir: str | Path | None
    verbose: bool

    @property
    def model_(self) -> Model:
        """The trained model, as `trainer.load_model` gives it."""
        check_is_fitted(self)
        return self._stored.model

    def save_model(self, folder: str | Path) -> None:
        """Writes the model folder, for `trainer.load_model`, `trainer predict`, `evaluate` and `export`.

        Raises FileExistsError or OSError if it cannot be written; nothing is half written.
        """
        check_is_fitted(self)
        path = Path(folder)
        if path.exists():
            raise FileExistsError(f"{path} exists")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stored.save(path)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = tags.input_tags.categorical = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_stored")

    def _rows(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any,
        read: Callable[[Any], NDArray[Any]],
    ) -> tuple[pa.Table, NDArray[Any], NDArray[Any] | None]:
        """The rows to learn from, their targets, which `read` makes of y, and their weights; without those of weight 0.

        Raises ValueError for wrong ones.
        """
        table = table_of(self, X, reset=True)
        target = read(y)
        check_consistent_length(table, target)
        weights = self._weights(sample_weight, table)
        if weights is None or weights.all():
            return table, target, weights
        kept = np.flatnonzero(weights)
        return table.take(kept), target[kept], weights[kept]

    def _weights(self, sample_weight: Any, table: pa.Table) -> NDArray[Any] | None:
        """The weights of the rows, or None. Raises ValueError for wrong ones."""
        if sample_weight is None:
            return None
        rows = np.empty((table.num_rows, 1))
        weights: NDArray[Any] = _check_sample_weight(sample_weight, rows, ensure_non_negative=True)
        if not weights.any():
            raise ValueError("Sample weights must contain at least one non-zero number.")
        return weights

    def _train(self, table: pa.Table, target: Any, weights: NDArray[Any] | None, **own: Any) -> None:
        """Trains on the rows of a table with their targets and weights; `own` are further options of the task."""
        cls: Any = registry.load(registry.TASKS, self._names()[self._role])
        label = _free("label", table.column_names)
        table = table.append_column(label, [target])
        if weights is not None:
            column = _free("sample_weight", table.column_names)
            table = table.append_column(column, [np.asarray(weights, np.float64)])
            own["sample_weight"] = column
        weigh = own.pop("weigh", None)
        values = {
            "hidden": self.hidden,
            "activation": self.activation,
            "dropout": self.dropout,
            "validation_split": self.validation_split,
            "test_split": 0.0,
            **own,
            **self._settings(),
            "data": Frame(table),
            "label": label,
        }
        fields = {option.field: option.name for option in options.options_of(cls)}
        settings = {name: value for name, value in values.items() if name not in fields}
        of_task = {fields[name]: value for name, value in values.items() if name in fields}
        task: Any = options.build(cls, of_task, where=f"{type(self).__name__}.")
        task.network = self.net
        if weigh is not None:
            task.weigh = weigh
        used = [*self.plugins, *(self._names()["verbose"] if self.verbose else ())]
        without = [name for name in cls.defaults.plugins if name not in used and not registry.block_of(name)]
        self._run(task, without=without, **settings)

    def _settings(self) -> dict[str, Any]:
        """What `fit` takes, and further options of the task."""
        given = {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "optimizer": self.optimizer,
            "learning_rate": self.learning_rate,
            "weight_decay": self.weight_decay,
            "seed": self._seed(),
        }
        return {**{name: value for name, value in given.items() if value is not None}, **(self.options or {})}

    def _run(self, task: Any, **settings: Any) -> None:
        """Trains a task, and keeps its model."""
        plugins = [each if isinstance(each, str) else copy.deepcopy(each) for each in self.plugins]
        plugins += [each for each in self._names()["verbose"] if self.verbose and each not in plugins]
        folder = (
            nullcontext(self.runs_dir) if self.runs_dir is not None else tempfile.TemporaryDirectory(prefix="gluon-")
        )
        with folder as runs_dir, nullcontext() if self.verbose else _without_notes():
            run = fit(task, plugins=plugins, runs_dir=runs_dir, **settings)
            assert run.folder is not None  # noqa: S101  it was given one
            self._stored = StoredModel.of_folder(run.folder / manifest.FOLDER, self.net)
        self.history_ = run.history
        self.n_iter_ = run.epoch

    @staticmethod
    def _names() -> Mapping[str, Any]:
        """What the entry point names: tasks and plugins."""
        return registry.our_default(NAME) or {}

    def _seed(self) -> int:
        if isinstance(self.random_state, (int, np.integer)):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(LARGEST_SEED))

    def _computed(self, X: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # noqa: N803
        """The task's predictions for rows, (rows, …), and the net's outputs, (rows, outputs).

        Raises ValueError for other rows than those of `fit`.
        """
        check_is_fitted(self)
        table = table_of(self, X, reset=False)
        with as_value_errors():
            return self._stored.compute(table)


@contextmanager
def as_value_errors() -> Iterator[None]:
    """Raises what a user can fix as ValueError, as scikit-learn does."""
    try:
        yield
    except UsageError as error:
        raise ValueError(str(error)) from error


def _free(name: str, taken: Sequence[str]) -> str:
    """A name for a column that is not taken."""
    while name in taken:
        name += "_"
    return name


@contextmanager
def _without_notes() -> Iterator[None]:
    """Leaves out the notes on how a table was understood; warnings stay."""

    def is_no_note(record: logging.LogRecord) -> bool:
        return not getattr(record, NOTE, False)

    log = logging.getLogger("trainer")
    log.addFilter(is_no_note)
    try:
        yield
    finally:
        log.removeFilter(is_no_note)
