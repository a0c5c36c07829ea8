"""Checks that onnxruntime computes the same from an ONNX file as the model does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import TrainerError, listed
from trainer.model.interface import Encoded
from trainer.model.onnx_calibrator import UNCALIBRATED
from trainer.seeds import derive

if TYPE_CHECKING:
    from trainer.model.ids import Ids
    from trainer.model.model import Model

TOLERANCE = 1e-5
"""How far outputs may differ: this much, or this share of the value or of the largest value of the same output."""


def compare(
    onnx: Any, runtime: Any, content: bytes, model: Model, ids: Ids | None, *, scores: str, raw_inputs: bool
) -> float:
    """The largest difference between onnxruntime's outputs and ours, for 1, 7 and 64 rows.

    `scores` is the name of the output with the task's predictions, if the file has it. If they are calibrated, they
    are compared with the calibrated ones of onnxruntime's own: a steep calibrator may enlarge differences of rounding.
    Raises TrainerError if a difference exceeds TOLERANCE.
    """
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    calibrated = model.calibrator
    if calibrated is not None:
        content = _with_output(onnx, content, UNCALIBRATED)
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    outputs = [each.name for each in session.get_outputs()]
    largest = 0.0
    for rows in (1, 7, 64):
        raw, encoded = _sample(model, rows, ids, raw_inputs=raw_inputs)
        given = dict(zip([entry.name for entry in model.about.inputs], raw, strict=True))
        if ids is not None:
            name = model.about.inputs[ids.place].name
            given[name] = given[name].astype(np.int64)
        theirs = session.run(outputs, given)
        ours = _ours(model, encoded, outputs, scores)
        if calibrated is not None:
            ours[outputs.index(scores)] = calibrated.apply(theirs[outputs.index(UNCALIBRATED)]).astype(np.float32)
        for name, mine, other in zip(outputs, ours, theirs, strict=True):
            # Numbers in the unit of a label may be large, and differ by the rounding of the largest.
            slack = TOLERANCE * max(1.0, float(np.abs(mine).max(initial=0.0)))
            same = mine.shape == other.shape and np.allclose(other, mine, rtol=TOLERANCE, atol=slack)
            if not same:
                raise TrainerError(
                    f"onnxruntime and this program disagree: {name} of {rows} rows differs by "
                    f"{np.abs(mine - other).max():.2g}"
                    if mine.shape == other.shape
                    else f"onnxruntime gives {name} the shape {other.shape}, this program {mine.shape}"
                )
            largest = max(largest, float(np.abs(mine - other).max(initial=0.0)))
    return largest


def _with_output(onnx: Any, content: bytes, name: str) -> bytes:
    """The file with a further output."""
    built = onnx.load_from_string(content)
    built.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    whole: bytes = built.SerializeToString()
    return whole


def _sample(model: Model, rows: int, ids: Ids | None, *, raw_inputs: bool) -> tuple[list[NDArray[Any]], Encoded]:
    """Rows to compare on: standard normal numbers, ids that there are, or zeros for integers of unknown range.

    One row of raw inputs has missing values.
    """
    generator = np.random.default_rng(derive(0, "export", rows))
    arrays: list[NDArray[Any]] = []
    for entry in model.about.inputs:
        shape = (rows, *entry.shape)
        values = generator.normal(size=shape) if entry.dtype.startswith("float") else np.zeros(shape)
        arrays.append(values.astype(entry.dtype))
    if ids is not None:
        arrays[ids.place] = ids.sample(generator, rows)
    if not raw_inputs:
        return arrays, Encoded(tuple(arrays), rows)
    scaling = model.interface.scaling()
    assert scaling is not None  # noqa: S101  the graph was built with it
    raw = generator.normal(size=(rows, len(scaling[0]))) * scaling[1] + scaling[0]
    raw[rows // 2, ::2] = np.nan
    return [raw], model.encode(raw)


def _ours(model: Model, encoded: Encoded, names: Sequence[str], scores: str) -> list[NDArray[Any]]:
    from trainer.mxnet import autograd, mx

    with autograd.predict_mode():
        given = model.net(
            *[
                mx.nd.array(part, dtype=entry.dtype)
                for part, entry in zip(encoded.inputs, model.about.inputs, strict=True)
            ]
        )
        outputs = list(given) if isinstance(given, (list, tuple)) else [given]
        found = [output.asnumpy() for output in outputs]
        if scores in names:
            found.append(model.task.predictions(outputs[0] if len(outputs) == 1 else outputs).asnumpy())
            # Once as calibrated ones, which the caller computes.
            found += found[-1:] * (UNCALIBRATED in names)
    if len(found) != len(names):
        raise TrainerError(f"the ONNX file has the outputs {listed(names)}, the net {len(found)}")
    return found
