"""Task: what is trained, as a plugin. It names data, net, loss and metrics; the engine does the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from trainer.data.fingerprint import Fingerprint
    from trainer.data.slices import Slices
    from trainer.data.tables.stream import FileRows
    from trainer.metrics.base import Metric
    from trainer.model.interface import ModelInterface
    from trainer.mxnet import Array
    from trainer.run import Run


@dataclass(frozen=True)
class Splits:
    """The rows to train on, and those to evaluate on.

    Each is an `Arrays`, a Gluon `DataLoader`, or anything with the methods of `Batches`. The splits for calibration and
    test are evaluated once, after training.
    """

    train: Any
    validation: Any = None
    test: Any = None
    calibration: Any = field(default=None, kw_only=True)
    """Rows that nothing of training uses, neither early stopping nor the choice of the best weights."""
    split_version: int | None = field(default=None, kw_only=True)
    """The version of the way in which the task divided one set of rows, such as `trainer.data.SPLIT_VERSION`; None if
    it did not. A run is only resumed if it is still the same."""
    files: Mapping[str, Sequence[FileRows]] = field(default_factory=dict, kw_only=True)
    """The files that the rows were read from, by the option that names them: `data`, `validation-data`. They are
    recorded in `run.json`."""
    fingerprint: Fingerprint | None = field(default=None, kw_only=True)
    """What identifies the data, such as `TableSplits.fingerprint`; without one, that of the splits which are `Arrays`.
    A run is only resumed with the same data, unless the user accepts others."""
    slices: Mapping[str, Mapping[str, Slices]] = field(default_factory=dict, kw_only=True)
    """For metrics of groups: the rows of `validation`, `calibration` and `test` by the values of columns, as
    `trainer.data.Slices` by split and column. Plugins have them as `run.slices(split)`."""
    reweighted: bool = field(default=False, kw_only=True)
    """Whether training rows have other weights in the loss than their own, such as those of their classes."""


@dataclass(frozen=True)
class Defaults:
    """The defaults of the task's runs."""

    epochs: int = 10
    batch_size: int = 32
    optimizer: str = "sgd"
    learning_rate: float | None = None
    """None: the optimizer's default. Belongs to `optimizer`, and is ignored for a different one."""
    optimizer_arguments: Mapping[str, float] = field(default_factory=dict)
    """Further arguments of that optimizer, such as momentum."""
    weight_decay: float = 0.0
    seed: int = 0
    plugins: Sequence[str] = ()
    """The plugins that a run uses by default."""


@dataclass(frozen=True)
class Numbers:
    """What a task predicts if it is numbers and not classes."""

    quantiles: Sequence[float] = ()
    """The quantile of each column of the predictions, (rows, quantiles); empty if they are one number, (rows,)."""
    offset: float = 0.0
    scale: float = 1.0
    """They lead from the net's output to the label's unit: a prediction is offset + scale × output."""
    link: Literal["identity", "log"] = "identity"
    """`log`: a prediction is scale × exp(output), and there is no offset."""


@dataclass(frozen=True)
class EmbeddedCategories:
    """The categories of a column whose weights are rows of a parameter of the net."""

    column: str
    parameter: str
    """The place of the parameter in the net, such as `embedding0.weight`."""
    first: int
    """The row of the first category; the others follow."""
    names: Sequence[str]
    """The most frequent ones first."""


class Task:
    """What is trained: a dataclass whose fields are the options of `trainer run <task>`.

    Raise UsageError in any method for a mistake that the user can fix. Importing the module of a task must not import
    MXNet (import it from `trainer.mxnet` inside the methods), so that help and usage errors appear at once.
    """

    name: str = ""
    """The name of the entry point; set by the code that creates the task."""
    api: ClassVar[str] = ""
    """The version of `trainer.API_VERSION` that it was written for; empty if it does not matter."""
    defaults: ClassVar[Defaults] = Defaults()
    headline: ClassVar[Sequence[str]] = ("train/loss", "validation/loss")
    """The metrics to show in a one-line summary of an epoch."""
    threshold: float | None
    """Tasks with a decision threshold have a field of this name; other tasks do not."""
    evaluation_batch_size: ClassVar[int | None] = None
    """Rows per batch in evaluations; None: the batch size of training. It affects the speed, not the metrics."""
    collect: ClassVar[bool] = True
    """Whether an evaluation keeps all predictions and labels on the host for plugins to read."""

    def splits(self, run: Run) -> Splits:
        """The rows. Random numbers come from seeds derived from `run.settings.seed`.

        Not called `data`, because a task's fields are its options, and most tasks have an option `data`.
        """
        raise NotImplementedError

    def work(self, batch_size: int) -> float | None:
        """The approximate number of multiplications per forward pass of a batch; None if unknown.

        The command line calls this before it imports MXNet, and chooses the CPU settings accordingly.
        """
        return None

    def work_layers(self) -> int | None:
        """The number of layers with weights, for the same purpose; None if unknown."""
        return None

    def net(self) -> Any:
        """A Gluon block. Uninitialised parameters are initialised with `initializer` and the run's seed."""
        raise NotImplementedError

    def initializer(self) -> Any:
        """The initializer of parameters without their own."""
        from trainer.mxnet import mx

        return mx.init.Xavier()

    def loss(self) -> Any:
        """A Gluon loss, or any function of (outputs, labels[, weights]) that returns one value per row, (rows,).

        The weights are passed if the data has them.
        """
        raise NotImplementedError

    def metrics(self) -> Sequence[Metric | Any]:
        """The metrics of every evaluation: those of `trainer.metrics`, or any `mx.metric.EvalMetric`."""
        return ()

    def predictions(self, outputs: Array) -> Array:
        """Converts the net's outputs, on the device, to what metrics and thresholds use, such as probabilities."""
        return outputs

    def model_info(self) -> Mapping[str, Any]:
        """What a saved model needs to know about the data to accept other rows, as JSON values; called after training.

        For example the statistics of columns and the classes. It is stored in `model.json` and passed to
        `model_interface`. A pyarrow Table among the values, for what is too large for JSON, is stored as an Arrow file
        in the model folder; its name is of small letters and hyphens.
        """
        return {}

    def model_interface(self, info: Mapping[str, Any]) -> ModelInterface:
        """The object that converts files and other rows to model inputs, and predictions to columns of a table.

        `info` is what `model_info` returned, in this process or an earlier one; raise UsageError if it is invalid.
        `splits` is not called before.
        """
        from trainer.model.interface import ModelInterface

        return ModelInterface()

    def describe(self) -> Sequence[str]:
        """Lines about the data, shown before training; called after `splits`."""
        return ()

    def notes(self) -> Sequence[str]:
        """Lines that the user should know about how the data were understood; called after `splits`.

        A run says them once at its start, whatever plugins it has: the command line as notes, `fit` as warnings of the
        logger `trainer`.
        """
        return ()

    def feature_names(self) -> Sequence[str]:
        """The names of the input's columns, if it is a table; called after `splits`."""
        return ()

    def feature_columns(self) -> Sequence[str]:
        """The table's column of each of `feature_names`: the categories of a column share it. Empty: all differ."""
        return ()

    def class_names(self) -> Sequence[str]:
        """The names of the classes, in the order of the net's outputs; called after `splits`."""
        return ()

    def class_weights(self) -> NDArray[np.float64] | None:
        """The weight of each class in the loss, (classes,), if `predictions` corrects for them; called after `splits`.

        Such probabilities are those of a loss without weights. Decisions remain those of the weighted net: of several
        classes, the one with the highest product of weight and probability; of two, by the threshold.
        """
        return None

    def numbers(self) -> Numbers | None:
        """What the predictions are if they are numbers; None for classes. Called after `splits`."""
        return None

    def embeddings(self, most: int) -> Sequence[EmbeddedCategories]:
        """The columns with an embedding and their `most` most frequent categories; called after `splits`."""
        return ()

    def pictures(self, inputs: NDArray[Any]) -> NDArray[Any] | None:
        """Inputs of the net, (rows, …), as images, (rows, height, width, 3) of uint8; None if they are not images."""
        return None

    def check(self) -> None:
        """Raises UsageError if options contradict each other; called before MXNet is imported."""
