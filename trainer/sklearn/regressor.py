"""The regressor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.utils import check_array
from sklearn.utils.validation import column_or_1d

from trainer.sklearn.estimator import GluonEstimator, as_value_errors


class GluonRegressor(RegressorMixin, GluonEstimator):  # type: ignore[misc]
    """Learns a number; it is standardised inside, and predictions, losses and metrics are in its units.

    `net` is a function that returns a Gluon net, or a block's class; if it has a parameter `outputs`, it gets the
    number of outputs: one, or one per quantile. Without `net`, the net has the layers of `hidden` (empty: linear
    regression), each with `activation` and `dropout`. Columns of numbers are standardised, missing ones filled; columns
    of text become categories.

    `objective` is the loss: "squared" (predicts the mean), "absolute" (the median), "huber", "poisson" (the mean of
    numbers ≥ 0, with a log link) or "quantile", which predicts `quantiles` (without them, 0.1, 0.5 and 0.9).

    `optimizer` is a name or a dict with `name` and its arguments; `learning_rate=None` takes the optimizer's own.
    `validation_split` is the fraction of the rows for metrics `validation/…`, which early stopping needs. `plugins` are
    names or instances, of which each training uses a copy; `options` has further options of the task and of `fit`, such
    as `{"huber_delta": 2.0, "steps": 500}`. `random_state` gives the seed. With `runs_dir`, each training leaves a
    run's folder. `verbose` prints a line per epoch.

    Fitted, it has `n_features_in_`, `feature_names_in_` (if the columns have names), `model_` (as `trainer.load_model`
    gives it), `quantiles_` (rising; empty for another objective), `history_` (a dict per epoch) and `n_iter_` (the
    epochs).
    """

    _role = "regressor"

    def __init__(
        self,
        net: Callable[..., Any] | None = None,
        *,
        hidden: Sequence[int] = (64,),
        activation: str = "relu",
        dropout: float = 0.0,
        objective: str = "squared",
        quantiles: Sequence[float] = (),
        epochs: int = 20,
        batch_size: int = 32,
        optimizer: str | Mapping[str, Any] = "adam",
        learning_rate: float | None = 0.01,
        weight_decay: float = 0.0,
        validation_split: float = 0.0,
        plugins: Sequence[Any] = (),
        options: Mapping[str, Any] | None = None,
        random_state: Any = None,
        runs_dir: str | Path | None = None,
        verbose: bool = False,
    ) -> None:
        self.net = net
        self.hidden = hidden
        self.activation = activation
        self.dropout = dropout
        self.objective = objective
        self.quantiles = quantiles
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.validation_split = validation_split
        self.plugins = plugins
        self.options = options
        self.random_state = random_state
        self.runs_dir = runs_dir
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> GluonRegressor:  # noqa: N803
        """Trains on rows X (rows, features) with numbers y (rows,). Rows of weight 0 are left out.

        Raises ValueError for what cannot be learned, such as numbers that are all equal.
        """
        table, numbers, weights = self._rows(X, y, sample_weight, _numbers)
        if len(numbers) < 2:
            raise ValueError(f"{type(self).__name__} needs at least 2 rows to learn from, and n_samples = 1")
        with as_value_errors():
            self._train(table, numbers, weights, objective=self.objective, quantiles=self.quantiles)
        self.quantiles_ = tuple(self.model_.about.card.get("quantiles", ()))
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """The predicted numbers: (rows,), or (rows, quantiles) if there are several quantiles."""
        found = self._computed(X)[0].reshape(-1, max(1, len(self.quantiles_)))
        return found[:, 0] if found.shape[1] == 1 else found

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:  # noqa: N803
        """R², or for quantiles the mean of their D²: the part of the pinball loss of a constant that is avoided."""
        if not self.quantiles_:
            return float(super().score(X, y, sample_weight))
        from sklearn.metrics import d2_pinball_score

        found = self._computed(X)[0].reshape(-1, len(self.quantiles_)).T
        each = [
            d2_pinball_score(y, column, sample_weight=sample_weight, alpha=alpha)
            for alpha, column in zip(self.quantiles_, found, strict=True)
        ]
        return float(np.mean(each))


def _numbers(y: Any) -> NDArray[np.float64]:
    """The numbers to learn, (rows,). Raises ValueError for others."""
    if y is None:
        raise ValueError("This GluonRegressor estimator requires y to be passed, but the target y is None.")
    y = column_or_1d(y.to_numpy() if hasattr(y, "to_numpy") else y, warn=True)
    return check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")  # type: ignore[no-any-return]
