"""The classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import assert_all_finite

from trainer.data.tables.targets import Classes
from trainer.errors import UsageError
from trainer.sklearn.estimator import GluonEstimator, as_value_errors

if TYPE_CHECKING:
    import pyarrow as pa


class GluonClassifier(ClassifierMixin, GluonEstimator):  # type: ignore[misc]
    """Learns classes: a net whose outputs are logits, one for two classes, otherwise one per class.

    `net` is a function that returns a Gluon net, or a block's class; if it has a parameter `outputs`, it gets the
    number of outputs. Without `net`, the net has the layers of `hidden` (empty: logistic regression), each with
    `activation` and `dropout`. Columns of numbers are standardised, missing ones filled; columns of text become
    categories. `class_weight` is None, "balanced" or a dict of weights by class.

    `optimizer` is a name or a dict with `name` and its arguments; `learning_rate=None` takes the optimizer's own.
    `validation_split` is the fraction of the rows for metrics `validation/…`, which early stopping needs. `plugins` are
    names or instances, of which each training uses a copy; `options` has further options of the task and of `fit`, such
    as `{"categorical": ["zip"], "steps": 500}`. `random_state` gives the seed. With `runs_dir`, each training leaves
    a run's folder. `verbose` prints a line per epoch.

    Fitted, it has `classes_`, `n_features_in_`, `feature_names_in_` (if the columns have names), `model_` (as
    `trainer.load_model` gives it), `history_` (a dict per epoch) and `n_iter_` (the epochs).
    """

    _role = "classifier"

    def __init__(
        self,
        net: Callable[..., Any] | None = None,
        *,
        hidden: Sequence[int] = (64,),
        activation: str = "relu",
        dropout: float = 0.0,
        class_weight: str | Mapping[Any, float] | None = None,
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
        self.class_weight = class_weight
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

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> GluonClassifier:  # noqa: N803
        """Trains on rows X (rows, features) with labels y (rows,). Rows of weight 0 are left out.

        Raises ValueError for what cannot be learned, such as labels of one class.
        """
        table, labels, weights = self._rows(X, y, sample_weight, _labels)
        classes, numbers = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(
                f"{type(self).__name__} needs samples of at least 2 classes in the data, but the data contains only "
                f"one class: {classes[0]!r}"
            )
        names = _written(classes)
        own: dict[str, Any] = {}
        if isinstance(self.class_weight, str) and self.class_weight == "balanced":
            own["class_weight"] = "balanced"
        elif self.class_weight is not None:
            further = compute_sample_weight(self.class_weight, labels)
            by_class = dict(zip(names[numbers], further.tolist(), strict=True))
            if min(by_class.values()) > 0:
                own["weigh"] = lambda order: np.array([by_class[name] for name in order])
            else:
                # Rows of no weight are left out.
                weights = further * (1.0 if weights is None else weights)
        with as_value_errors():
            self._train(table, names[numbers], weights, **own)
        target = self.model_.interface.schema.target  # type: ignore[attr-defined]
        self._order = target.encode("y", _column(names), where="y").astype(int)
        self.classes_ = classes
        return self

    def decision_function(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """The net's logits, with class weights if the loss has any: of the second class (rows,), or of each class."""
        outputs = self._computed(X)[1]
        if len(self.classes_) == 2:
            return outputs[:, 0] if self._order[1] == 1 else -outputs[:, 0]
        return outputs[:, self._order]

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """The probability of each class, (rows, classes): without the class weights of the loss, and calibrated if
        a plugin has chosen how.
        """
        found = self._computed(X)[0].astype(np.float64)
        if len(self.classes_) == 2:
            found = np.column_stack([1 - found, found]) if found.ndim == 1 else found
        ordered: NDArray[np.float64] = found[:, self._order]
        return ordered / ordered.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """The most probable class, (rows,); with a tuned threshold, the second of two if its probability is above."""
        threshold = self.model_.threshold
        if len(self.classes_) == 2 and threshold is not None:
            probabilities = self.predict_proba(X)
            # The threshold is that of the task's second class.
            place = self._order[1]
            positive = probabilities[:, place] > threshold
            return self.classes_[np.where(positive, place, 1 - place)]  # type: ignore[no-any-return]
        if self.model_.calibrator is not None:
            own = self.model_.task.class_weights()
            weights = 1.0 if own is None else own[self._order]
            return self.classes_[(self.predict_proba(X) * weights).argmax(axis=1)]  # type: ignore[no-any-return]
        return self.classes_[self.decision_function(X).argmax(axis=1)]  # type: ignore[no-any-return]


def _labels(y: Any) -> NDArray[Any]:
    """Labels of classes, (rows,). Raises ValueError for others."""
    if y is None:
        raise ValueError("This GluonClassifier estimator requires y to be passed, but the target y is None.")
    if hasattr(y, "to_numpy"):
        y = y.to_numpy()
    labels: NDArray[Any] = column_or_1d(y, warn=True)
    if labels.dtype.kind == "f":
        assert_all_finite(labels, input_name="y")
    check_classification_targets(labels)
    return labels


def _written(classes: NDArray[Any]) -> NDArray[Any]:
    """The classes as the texts of a label column; their numbers if a table takes some for missing or for the same."""
    texts = np.array([str(each) for each in classes.tolist()], dtype=object)
    try:
        learned = len(Classes.learn("y", _column(texts), None, where="y").names)
    except UsageError:
        learned = 0
    return texts if learned == len(texts) else np.arange(len(texts)).astype(str).astype(object)


def _column(texts: NDArray[Any]) -> pa.ChunkedArray:
    import pyarrow as pa

    return pa.chunked_array([pa.array(texts, pa.string())])
