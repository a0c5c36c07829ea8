"""Calibrators as ONNX operators, in float64 as `Calibrator.apply` computes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.decisions.calibrator import Calibrator
from trainer.decisions.calibrators import LEAST, MOST, Beta, Isotonic, Platt, Temperature, VectorScaling
from trainer.errors import UsageError

UNCALIBRATED = "uncalibrated"


def calibrate(onnx: Any, graph: Any, calibrator: Calibrator, scores: str) -> None:
    """Puts the calibrator before the output `scores`, float32; what it was is `uncalibrated` inside the graph.

    Raises UsageError for a kind that is not known here.
    """
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [UNCALIBRATED if each == scores else each for each in names]
    dimensions = next(each for each in graph.output if each.name == scores).type.tensor_type.shape.dim
    steps = _Steps(onnx, graph)
    given = steps.add("Cast", [UNCALIBRATED], to=onnx.TensorProto.DOUBLE)
    # MXNet writes names in place of some sizes.
    is_several = len(dimensions) > 1 and dimensions[1].dim_value != 1
    found = _apply(steps, calibrator, given, is_several=is_several)
    steps.add("Cast", [found], output=scores, to=onnx.TensorProto.FLOAT)


def _apply(steps: _Steps, calibrator: Calibrator, given: str, *, is_several: bool) -> str:
    if isinstance(calibrator, Isotonic):
        return _isotonic(steps, calibrator, given)
    logs = steps.add("Log", [steps.add("Max", [given, steps.constant(LEAST)])])
    if isinstance(calibrator, VectorScaling):
        scaled = steps.add("Mul", [logs, steps.constant(calibrator.factors)])
        return steps.add("Softmax", [steps.add("Add", [scaled, steps.constant(calibrator.offsets)])], axis=-1)
    if isinstance(calibrator, Temperature) and is_several:
        return steps.add("Softmax", [steps.add("Div", [logs, steps.constant(calibrator.temperature)])], axis=-1)
    below = steps.add("Sub", [steps.constant(1.0), steps.add("Min", [given, steps.constant(MOST)])])
    complements = steps.add("Log", [below])
    if isinstance(calibrator, Temperature):
        a = b = 1 / calibrator.temperature
        offset = 0.0
    elif isinstance(calibrator, Platt):
        a, b, offset = calibrator.slope, calibrator.slope, calibrator.offset
    elif isinstance(calibrator, Beta):
        a, b, offset = calibrator.a, calibrator.b, calibrator.offset
    else:
        raise UsageError(
            f"ONNX has no operators for a calibrator of kind {calibrator.kind!r}",
            where="--format onnx",
            fix="Train without it, or use --format mxnet.",
        )
    above = steps.add("Mul", [logs, steps.constant(a)])
    taken = steps.add("Mul", [complements, steps.constant(b)])
    score = steps.add("Add", [steps.add("Sub", [above, taken]), steps.constant(offset)])
    return steps.add("Sigmoid", [score])


def _isotonic(steps: _Steps, calibrator: Isotonic, given: str) -> str:
    """Base + slope × (score - start) of the segment, whose number is the number of points at or below the score."""
    scores, values = np.array(calibrator.scores), np.array(calibrator.probabilities)
    slopes = np.concatenate([[0.0], np.diff(values) / np.diff(scores), [0.0]])
    starts, bases = np.concatenate([scores[:1], scores]), np.concatenate([values[:1], values])
    each = steps.add("Unsqueeze", [given, steps.constant([-1], np.int64)])
    reached = steps.add("GreaterOrEqual", [each, steps.constant(scores)])
    ones = steps.add("Cast", [reached], to=steps.onnx.TensorProto.INT64)
    segment = steps.add("ReduceSum", [ones, steps.constant([-1], np.int64)], keepdims=0)
    base, slope, start = (
        steps.add("Gather", [steps.constant(column), segment], axis=0) for column in (bases, slopes, starts)
    )
    return steps.add("Add", [base, steps.add("Mul", [slope, steps.add("Sub", [given, start])])])


class _Steps:
    """Adds operators to a graph."""

    def __init__(self, onnx: Any, graph: Any) -> None:
        self.onnx, self._graph, self._numbers = onnx, graph, count()

    def constant(self, values: float | Sequence[float] | NDArray[Any], dtype: type = np.float64) -> str:
        """An array, by its name."""
        name = f"calibration_{next(self._numbers)}"
        self._graph.initializer.append(self.onnx.numpy_helper.from_array(np.array(values, dtype), name))
        return name

    def add(self, operator: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        """The name of an operator's output."""
        name = output or f"calibration_{next(self._numbers)}"
        self._graph.node.append(self.onnx.helper.make_node(operator, inputs, [name], **attributes))
        return name
