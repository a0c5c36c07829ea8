"""What a run knows about its task. It is a protocol because task and run would import each other otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trainer.mxnet import Array


class TaskOfRun(Protocol):
    """A run's task as plugins see it; `trainer.Task` describes each member."""

    name: str
    defaults: ClassVar[Any]
    headline: ClassVar[Sequence[str]]
    collect: ClassVar[bool]
    evaluation_batch_size: ClassVar[int | None]

    def loss(self) -> Any: ...
    def predictions(self, outputs: Array) -> Array: ...
    def model_info(self) -> Mapping[str, Any]: ...
    def model_interface(self, info: Mapping[str, Any]) -> Any: ...
    def describe(self) -> Sequence[str]: ...
    def feature_names(self) -> Sequence[str]: ...
    def feature_columns(self) -> Sequence[str]: ...
    def class_names(self) -> Sequence[str]: ...
    def pictures(self, inputs: NDArray[Any]) -> NDArray[Any] | None: ...
