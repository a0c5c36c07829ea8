"""Task: what is trained, as a plugin. It names data, net, loss and metrics; the engine does the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trainer.metrics.base import Metric
    from trainer.model.interface import ModelInterface
    from trainer.mxnet import Array
    from trainer.run import Run


@dataclass(frozen=True)
class Splits:
    """The rows to train on, and those to judge by.

    Each is an `Arrays`, a Gluon `DataLoader`, or anything with the methods of `Batches`. The test split is evaluated
    once, after training.
    """

    train: Any
    validation: Any = None
    test: Any = None


@dataclass(frozen=True)
class Defaults:
    """What a run of the task uses unless told otherwise."""

    epochs: int = 10
    batch_size: int = 32
    optimizer: str = "sgd"
    learning_rate: float | None = None
    """None: the optimizer's own. It goes with `optimizer` and is not used for another one."""
    optimizer_arguments: Mapping[str, float] = field(default_factory=dict)
    """Further arguments of the optimizer, such as momentum; they go with it too."""
    weight_decay: float = 0.0
    seed: int = 0
    plugins: Sequence[str] = ()
    """The plugins that are used unless a run says otherwise."""


class Task:
    """What is trained: a dataclass whose fields are the options of `trainer run <task>`.

    Raise UsageError from any of the methods for what the user can put right. Importing the module of a task must not
    import MXNet (take it from `trainer.mxnet` inside the methods), so that help and typing errors answer at once.
    """

    name: str = ""
    """The name of the entry point; set by the code that creates the task."""
    api: ClassVar[str] = ""
    """The version of `trainer.API_VERSION` that it was written for; empty for none in particular."""
    defaults: ClassVar[Defaults] = Defaults()
    headline: ClassVar[Sequence[str]] = ("train/loss", "validation/loss")
    """The metrics that one line about an epoch should show."""
    threshold: float | None
    """Tasks that decide by a threshold have a field of this name; for the others it does not exist."""
    evaluation_batch_size: ClassVar[int | None] = None
    """Rows per batch of an evaluation; None: the batch size of training. It never changes a metric, only the speed."""
    collect: ClassVar[bool] = True
    """Whether an evaluation keeps all predictions and labels on the host for plugins to read."""

    def splits(self, run: Run) -> Splits:
        """The rows. Random numbers come from seeds derived from `run.settings.seed`.

        Not called `data`: a task's fields are its options, and `data` is what most tasks will call one of them.
        """
        raise NotImplementedError

    def work(self, batch_size: int) -> float | None:
        """Roughly how many multiplications a forward pass of a batch takes; None if that is not known.

        The command line asks before MXNet is imported, and chooses by the answer how the CPU computes.
        """
        return None

    def net(self) -> Any:
        """A Gluon block. Parameters that are not initialised yet are, with `initializer`, from the run's seed."""
        raise NotImplementedError

    def initializer(self) -> Any:
        """The initializer of parameters that have none of their own."""
        from trainer.mxnet import mx

        return mx.init.Xavier()

    def loss(self) -> Any:
        """A Gluon loss, or any function of (outputs, labels[, weights]) that gives one value per row, (rows,).

        The weights are passed if the data has them.
        """
        raise NotImplementedError

    def metrics(self) -> Sequence[Metric | Any]:
        """Computed over every evaluation: metrics of `trainer.metrics`, or `mx.metric.EvalMetric`s as they are."""
        return ()

    def predictions(self, outputs: Array) -> Array:
        """What metrics and thresholds see of the net's outputs, on the device: probabilities from logits, say."""
        return outputs

    def model_info(self) -> Mapping[str, Any]:
        """What a saved model has to know of the data to take other rows, as JSON values; asked for after training.

        Such as what was learned of columns and labels. It is kept in `model.json` and passed to `model_interface`.
        """
        return {}

    def model_interface(self, info: Mapping[str, Any]) -> ModelInterface:
        """How files and other rows become inputs of the model, and predictions columns of a table.

        `info` is what `model_info` gave, in this process or an earlier one: raise UsageError if it cannot be right. The
        task's `splits` was not called.
        """
        from trainer.model.interface import ModelInterface

        return ModelInterface()

    def describe(self) -> Sequence[str]:
        """Lines about the data, shown before training; asked for after `splits`."""
        return ()

    def feature_names(self) -> Sequence[str]:
        """The names of the input's columns, if it is a table; asked for after `splits`."""
        return ()

    def class_names(self) -> Sequence[str]:
        """The names of the classes, in the order of the net's outputs; asked for after `splits`."""
        return ()

    def pictures(self, inputs: NDArray[Any]) -> NDArray[Any] | None:
        """Inputs of the net, (rows, …), as images to look at, (rows, height, width, 3) of uint8; None for no images."""
        return None

    def check(self) -> None:
        """Raises UsageError if options contradict each other; called before MXNet is imported."""
