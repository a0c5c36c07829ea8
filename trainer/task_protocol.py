"""What a run knows of its task. A protocol: task and run would import each other otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trainer.mxnet import Array


class TaskOfRun(Protocol):
    """What a run's task is to plugins; `trainer.Task` describes each of these."""

    name: str
    headline: ClassVar[Sequence[str]]
    collect: ClassVar[bool]
    evaluation_batch_size: ClassVar[int | None]

    def loss(self) -> Any: ...
    def predictions(self, outputs: Array) -> Array: ...
    def model_info(self) -> Mapping[str, Any]: ...
    def model_interface(self, info: Mapping[str, Any]) -> Any: ...
    def describe(self) -> Sequence[str]: ...
    def feature_names(self) -> Sequence[str]: ...
    def class_names(self) -> Sequence[str]: ...
    def pictures(self, inputs: NDArray[Any]) -> NDArray[Any] | None: ...
