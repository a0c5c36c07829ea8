"""Exports a model to other programs' formats, after checking that the exported model computes the same."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from trainer.atomic import new_folder, write_atomic
from trainer.errors import TrainerError, UsageError, first_line
from trainer.model.manifest import ABOUT, PARAMETERS
from trainer.model.onnx_calibrator import calibrate
from trainer.model.onnx_check import compare
from trainer.model.parameters import read_parameters

if TYPE_CHECKING:
    from trainer.decisions import Calibrator
    from trainer.model.ids import Ids
    from trainer.model.model import Model

Format = Literal["onnx", "mxnet"]
FORMATS: tuple[Format, ...] = ("onnx", "mxnet")
OPSET = 13
"""The newest ONNX operator set that MXNet 1.9.1 writes. By default it labels the file with the newest set that the
installed onnx knows, whose operators may have another meaning."""
IR_VERSION = 8
"""The file format's version: that of ONNX 1.12, which every later runtime reads."""
OUTPUT, SCORES = "output", "prediction"


@dataclass(frozen=True)
class Exported:
    """The inputs and outputs of an ONNX file."""

    inputs: Sequence[tuple[str, str, str]]
    """Name, type and shape."""
    outputs: Sequence[str]
    features: Sequence[str]
    ids: Sequence[str]
    """The columns of the input that holds ids, as int64; empty if there is none."""
    difference: float
    """The largest difference between onnxruntime's outputs and this program's."""


def check_target(output: Path, form: Format, *, force: bool) -> None:
    """Raises UsageError if the export could not be written later; writes nothing."""
    where = "--output"
    if not output.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {output.absolute().parent}", where=where, fix="Create it first.")
    if form == "onnx":
        if output.is_dir():
            raise UsageError(f"{output} is a folder", where=where, fix="Name a file in it.")
        _import_onnx()
    elif output.exists() and not (output / ABOUT).is_file():
        # Replacing a folder deletes it, and a folder that is not a model may hold anything.
        raise UsageError(f"{output} exists and is not a model folder", where=where, fix="Choose another name.")
    if output.exists() and not force:
        raise UsageError(f"{output} exists", where=where, fix="Choose another name, or pass --force to replace it.")


def copy_folder(model: Model, output: Path) -> None:
    """Copies the model folder, completely or not at all. Raises UsageError if it cannot be written."""
    output = output.absolute()
    if output == model.folder or model.folder in output.parents:
        raise UsageError(f"{output} is the model itself", where="--output", fix="Choose another name.")
    try:
        with new_folder(output, replace=True) as new:
            for name in (*model.about.names, ABOUT):
                write_atomic(new / name, (model.folder / name).read_bytes())
    except OSError as error:
        raise UsageError(f"it cannot be written: {error.strerror or error}", where=str(output)) from error


def to_onnx(model: Model, output: Path, *, raw_inputs: bool = False) -> Exported:
    """Writes one ONNX file for any number of rows, after checking that onnxruntime computes the same from it.

    Its outputs are the net's (`output`, or `output0`, …) and, if the task's predictions can be traced, `prediction`
    (the probabilities, calibrated if the model's are). Its inputs are the net's, as `Model.encode` returns them.
    `raw_inputs` adds standardisation and the filling of missing values (NaN) to the graph, in float64 like `encode`;
    all columns must be numeric. The metadata holds threshold, classes and feature names.

    Raises UsageError if onnx is not installed, the net has operators that ONNX lacks, the encoding does not allow raw
    inputs, or the predictions to calibrate cannot be traced; TrainerError if onnxruntime computes something else.
    """
    onnx, runtime = _import_onnx()
    if not model.about.symbol:
        raise UsageError(
            f"the model has no symbol: {model.about.symbol_why}", where="--format onnx", fix="ONNX needs a HybridBlock."
        )
    ids = model.interface.ids()
    built = _build(onnx, model, ids)
    if model.calibrator is not None:
        _calibrate_inside(onnx, built, model.calibrator)
    if raw_inputs:
        _standardise_inside(onnx, built, model)
    _describe(onnx, built, model, ids, raw_inputs=raw_inputs)
    try:
        onnx.checker.check_model(built, full_check=True)
        content = built.SerializeToString()
        difference = compare(onnx, runtime, content, model, ids, scores=SCORES, raw_inputs=raw_inputs)
    except (TrainerError, OSError):
        raise
    except Exception as error:
        # onnx, protobuf and onnxruntime each raise their own errors.
        raise TrainerError(f"MXNet's ONNX file for this net cannot be used: {first_line(error)}") from error
    try:
        write_atomic(output.absolute(), content)
    except OSError as error:
        raise UsageError(f"it cannot be written: {error.strerror or error}", where=str(output)) from error
    inputs = [
        (
            entry.name,
            "float64" if raw_inputs else "int64" if ids is not None and number == ids.place else entry.dtype,
            "×".join(["rows", *map(str, entry.shape)]),
        )
        for number, entry in enumerate(model.about.inputs)
    ]
    features = model.about.card.get("features") or []
    return Exported(
        inputs, [each.name for each in built.graph.output], features, () if ids is None else ids.names, difference
    )


def _import_onnx() -> tuple[Any, Any]:
    """The packages onnx and onnxruntime. Raises UsageError if they are not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import onnx
            import onnxruntime
    except ImportError as error:
        raise UsageError(
            f"onnx or onnxruntime cannot be imported: {error}",
            where="--format onnx",
            fix='Install them: pip install "gluon-trainer[onnx]".',
        ) from error
    return onnx, onnxruntime


def _build(onnx: Any, model: Model, ids: Ids | None) -> Any:
    """The graph from MXNet's converter, cleaned of what newer runtimes warn about."""
    from trainer.mxnet import mx

    symbol, outputs = _with_scores(mx, model)
    values = read_parameters(model.folder / PARAMETERS)
    inputs = model.about.inputs
    element_types = [onnx.helper.np_dtype_to_tensor_dtype(np.dtype(entry.dtype)) for entry in inputs]
    if ids is not None:
        # ONNX's operators take row numbers as int64.
        element_types[ids.place] = onnx.TensorProto.INT64
    disabled = logging.root.manager.disable
    try:
        with warnings.catch_warnings():
            # The converter uses deprecated helpers.
            warnings.simplefilter("ignore")
            logging.disable(logging.CRITICAL)
            graph = mx.onnx.mx2onnx._export_onnx.MXNetGraph().create_onnx_graph_proto(  # noqa: SLF001
                symbol,
                values,
                [(1, *entry.shape) for entry in inputs],
                element_types,
                opset_version=OPSET,
                dynamic=True,
                dynamic_input_shapes=[("rows", *entry.shape) for entry in inputs],
            )
    except Exception as error:
        # It raises AttributeError for an unknown operator, and anything for one that it supports in part.
        raise UsageError(f"MXNet cannot write this net as ONNX: {first_line(error)}", where="--format onnx") from error
    finally:
        logging.disable(disabled)
    # Runtimes fold only parameters that are not listed as inputs, which the format allows since version 4.
    named = {tensor.name for tensor in graph.initializer}
    kept = [each for each in graph.input if each.name not in named]
    del graph.input[:]
    graph.input.extend(kept)
    _order_outputs(graph, outputs)
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="gluon-trainer")


def _with_scores(mx: Any, model: Model) -> tuple[Any, list[str]]:
    """The net's outputs under readable names and, if they can be traced, the task's predictions."""
    # The one that was checked when the model was loaded; MXNet's own reader would trust the file.
    net = model.net._cached_graph[1]  # noqa: SLF001
    count = model.about.outputs
    names = [OUTPUT] if count == 1 else [f"{OUTPUT}{number}" for number in range(count)]
    parts = [mx.sym.identity(net[number], name=name) for number, name in enumerate(names)]
    try:
        scores = model.task.predictions(net[0] if count == 1 else [net[number] for number in range(count)])
        if isinstance(scores, mx.sym.Symbol) and len(scores.list_outputs()) == 1 and scores is not net:
            parts.append(mx.sym.identity(scores, name=SCORES))
            names.append(SCORES)
    except Exception:  # noqa: BLE001  predictions() is written for arrays; with a symbol it may raise anything
        logging.getLogger("trainer").info("the task's predictions cannot be traced; the file has none")
    return mx.sym.Group(parts), names


def _order_outputs(graph: Any, names: Sequence[str]) -> None:
    """Puts the outputs in the order of `names` and makes their number of rows variable."""
    found = {each.name: each for each in graph.output}
    del graph.output[:]
    for name in names:
        dimension = found[name].type.tensor_type.shape.dim[0]
        dimension.Clear()
        dimension.dim_param = "rows"
        graph.output.append(found[name])


def _standardise_inside(onnx: Any, built: Any, model: Model) -> None:
    """Inserts (value - offset) / divisor before the net, with NaN replaced by the offset.

    Raises UsageError if the model's encoding is something else.
    """
    scaling = model.interface.scaling()
    if scaling is None or len(model.about.inputs) != 1:
        raise UsageError(
            "this model's encoding is not plain standardisation: it has columns that are not numbers, such as text or "
            "dates, or does not standardise its numbers",
            where="--raw-inputs",
            fix="Omit it, and encode the rows with load_model(path).encode.",
        )
    graph, name = built.graph, model.about.inputs[0].name
    helper, kind = onnx.helper, onnx.TensorProto
    inner = f"{name}_standardised"
    for node in graph.node:
        node.input[:] = [inner if each == name else each for each in node.input]
    offset, divisor = (onnx.numpy_helper.from_array(values, f"{name}_{what}") for values, what in
                       zip(scaling, ("mean", "deviation"), strict=True))  # fmt: skip
    graph.initializer.extend([offset, divisor])
    steps = [
        helper.make_node("IsNaN", [name], [f"{name}_missing"]),
        helper.make_node("Where", [f"{name}_missing", offset.name, name], [f"{name}_filled"]),
        helper.make_node("Sub", [f"{name}_filled", offset.name], [f"{name}_centred"]),
        helper.make_node("Div", [f"{name}_centred", divisor.name], [f"{name}_scaled"]),
        helper.make_node("Cast", [f"{name}_scaled"], [inner], to=kind.FLOAT),
    ]
    nodes = [*steps, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.input[:]
    shape = ["rows", *model.about.inputs[0].shape]
    graph.input.append(helper.make_tensor_value_info(name, kind.DOUBLE, shape))


def _calibrate_inside(onnx: Any, built: Any, calibrator: Calibrator) -> None:
    """Raises UsageError if there is nothing to calibrate."""
    if SCORES not in [each.name for each in built.graph.output]:
        raise UsageError(
            "the task's predictions cannot be written as ONNX operators, so calibrated ones cannot either",
            where="--format onnx",
            fix="Use --format mxnet, or train without a calibrator.",
        )
    calibrate(onnx, built.graph, calibrator, SCORES)


def _describe(onnx: Any, built: Any, model: Model, ids: Ids | None, *, raw_inputs: bool) -> None:
    """Adds what a program that loads the file has to know as metadata: text by name."""
    card, info = model.about.card, model.about.info
    facts: dict[str, Any] = {
        "task": model.about.task.name,
        "threshold": model.threshold,
        "classes": card.get("classes"),
        "features": card.get("features"),
        "predicts": card.get("predicts"),
        "calibrated": None if model.calibrator is None else model.calibrator.describe(),
        "preprocessing": "none" if raw_inputs else "inputs are the encoded features",
        "encoding": info or None,
        "card": card,
    }
    if ids is not None:
        facts |= {"ids": ids.rules, "ids_input": model.about.inputs[ids.place].name, "ids_reference": ids.source}
    texts = {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in facts.items()
        if value is not None
    }
    onnx.helper.set_model_props(built, texts)
    built.doc_string = str(card.get("predicts") or "")
