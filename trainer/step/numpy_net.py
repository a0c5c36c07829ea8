"""Computes a small dense net with numpy: forward and backward pass over arrays that are laid out once.

MXNet starts each operator in a thread of its own, which takes longer than the operator of a small net. numpy computes
in the calling thread, and returns when it is done. `NumpyNet` follows a symbol whose operators are all in `OPERATORS`.
It writes a Python function for the net, with one call of numpy in each line: functions for each operator would take a
fifth longer.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.device_time import now, recorded
from trainer.step.numpy_operators import OPERATORS, Code, Floats, Value
from trainer.step.numpy_tables import ON_TABLES, Ids, Pend, Shape, build, shape_of


@dataclass(frozen=True)
class Plan:
    """The operators of a net that numpy can compute, and how much they compute per row."""

    nodes: Sequence[Mapping[str, Any]]
    head: int
    inputs: Sequence[str]
    shapes: Mapping[int, Shape]
    """What each operator and each input gives: the number of its columns, or row numbers and what they look up."""
    multiplications: int
    outputs: int
    """The results of all operators together."""

    def kind_of(self, number: int) -> tuple[tuple[int, ...], Any]:
        """The shape of a row and the type of an input."""
        place = next(place for place, node in enumerate(self.nodes) if node["name"] == self.inputs[number])
        shape = self.shapes[place]
        if isinstance(shape, Ids):
            return (shape.columns,), np.dtype(shape.given)
        assert isinstance(shape, int)  # noqa: S101  inputs are rows or row numbers
        return (shape,), np.dtype(np.float32)


def plan_of(
    symbol: Any, inputs: Mapping[str, int | Ids], shapes: Mapping[str, Sequence[int]], tables: Collection[str] = ()
) -> Plan | None:
    """The plan for a symbol with one output (rows, columns); None if numpy cannot compute it.

    `inputs` gives the columns of each input, `shapes` the shapes of the parameters, of which `tables` are looked up.
    """
    graph = json.loads(symbol.tojson())
    nodes, multiplications = graph["nodes"], 0
    found: dict[int, Shape] = {}
    for number, node in enumerate(nodes):
        if node["op"] != "null":
            shape = _shape(nodes, node, found, shapes, tables)
            if shape is None:
                return None
            found[number] = shape
            if node["op"] == "FullyConnected":
                multiplications += shape * found[node["inputs"][0][0]]
        elif node["name"] in inputs:
            found[number] = inputs[node["name"]]
        elif node["name"] not in shapes:
            return None
    uses = Counter(nodes[place]["name"] for node in nodes for place, *_ in node["inputs"] if place not in found)
    (head, *_), *more = graph["heads"]
    # Operators write the gradient of a parameter, so none may have two.
    if max(uses.values(), default=0) > 1 or more or nodes[head]["op"] == "null" or not isinstance(found[head], int):
        return None
    if not multiplications and not tables:
        return None
    results = [found[number] for number in found if nodes[number]["op"] != "null"]
    outputs = sum(each for each in results if isinstance(each, int))
    return Plan(nodes, head, tuple(inputs), found, multiplications, outputs)


def _shape(
    nodes: Sequence[Mapping[str, Any]],
    node: Mapping[str, Any],
    found: Mapping[int, Shape],
    shapes: Mapping[str, Sequence[int]],
    tables: Collection[str],
) -> Any:
    """What an operator gives; None if it, or what it reads, cannot be computed here."""
    attributes = node.get("attrs", {})
    places = [place for place, *_ in node["inputs"]]
    given = [found[place] for place in places if place in found]
    parameters = [nodes[place]["name"] for place in places if place not in found]
    if node["op"] in ON_TABLES and given:
        table = parameters[0] if parameters and parameters[0] in tables else ""
        return shape_of(node["op"], attributes, given, table, shapes[table][1] if table else 0)
    known = OPERATORS.get(node["op"])
    if known is None or not known.accepts(attributes) or set(parameters) & set(tables):
        return None
    columns = [each for each in given if isinstance(each, int)]
    if len(columns) != len(given) or len(given) != known.inputs or len(set(columns)) > 1 or places[0] not in found:
        return None
    others = [shapes[name] for name in parameters]
    if node["op"] == "broadcast_add":
        return columns[0] if [tuple(each) for each in others] == [(1, columns[0])] else None
    if node["op"] != "FullyConnected":
        return None if others else columns[0]
    return others[0][0] if others and len(others[0]) == 2 and others[0][1] == columns[0] else None


FUNCTIONS: Sequence[str] = (
    *("absolute", "add", "divide", "dot", "exp", "expm1", "logaddexp", "maximum", "minimum", "multiply", "negative"),
    *("sign", "subtract", "take", "tanh"),
)


class NumpyNet:
    """A net with arrays for a fixed number of rows; `run(*inputs, label)` leaves output and gradients in them."""

    def __init__(
        self,
        plan: Plan,
        *,
        parameters: Mapping[str, Floats],
        gradients: Mapping[str, Floats],
        output: Floats,
        write_gradient: Callable[[Floats, Floats, Floats], None],
        scale: float = 1.0,
        weighted: bool = False,
        tables: Mapping[str, Pend] | None = None,
    ) -> None:
        """`output`, (rows, columns), takes the net's output; `gradients` those of the parameters that are trained.

        `write_gradient(output, label, to)` writes the gradient of the loss with respect to the output; it is multiplied
        by `scale` and, for `weighted` rows, by the last argument of `run`, (rows, 1). `tables` take the gradients of
        what is looked up.
        """
        names: dict[str, Any] = {name: getattr(np, name) for name in FUNCTIONS}
        names |= {"zero": np.zeros((), np.float32), "one": np.ones((), np.float32), "write_gradient": write_gradient}
        code = Code(len(output), parameters, gradients, tables or {}, names)
        head = self._build(plan, code, code.named(output))
        head.gradient = code.room(head.columns)
        lines = [*code.forward, f"write_gradient({head.name}, label, {head.gradient})"]
        if scale != 1:
            factor = code.named(np.array(scale, np.float32))
            lines.append(f"multiply({head.gradient}, {factor}, {head.gradient})")
        if weighted:
            lines.append(f"multiply({head.gradient}, weight, {head.gradient})")
        for backward in reversed(code.backward):
            lines += backward()
        self._arguments = [*(f"input{number}" for number in range(len(plan.inputs))), "label"]
        source = "\n    ".join([f"def run({', '.join(self._arguments)}, weight=None):", *lines])
        exec(compile(source, "<a net in numpy>", "exec"), names)  # noqa: S102  it has only names given here
        self.run: Callable[..., None] = names["run"]
        self._lines, self._names = lines, names

    def run_recorded(self, *given: Floats) -> None:
        """Does the same as `run`, line by line, and records each call."""
        names = {**self._names, **dict(zip([*self._arguments, "weight"], given, strict=False))}
        for line in self._lines:
            began = now()
            exec(line, names)  # noqa: S102  it has only names given in this file
            call = line.partition("(")[0]
            recorded.add(f"numpy.{call if call in FUNCTIONS else _told(names.get(call))}", began)

    @staticmethod
    def _build(plan: Plan, code: Code, output: str) -> Value:
        users = Counter(place for node in plan.nodes for place, *_ in node["inputs"])
        users[plan.head] += 1
        values: dict[int, Any] = {}
        for number, node in enumerate(plan.nodes):
            shape = plan.shapes.get(number)
            if node["op"] == "null":
                if node["name"] in plan.inputs:
                    name = f"input{plan.inputs.index(node['name'])}"
                    values[number] = (
                        Value(name, shape, needs_gradient=False, users=users[number])
                        if isinstance(shape, int)
                        else shape
                    )
                continue
            code.output = output if number == plan.head else ""
            inputs = [values.get(place, plan.nodes[place]["name"]) for place, *_ in node["inputs"]]
            if node["op"] in ON_TABLES and shape is not None:
                values[number] = build(code, node["op"], shape, inputs)
            else:
                values[number] = OPERATORS[node["op"]].build(code, node.get("attrs", {}), inputs)
            if isinstance(values[number], Value):
                values[number].users = users[number]
        head: Value = values[plan.head]
        return head


def _told(called: Any) -> str:
    """The name of a function in a line; assignments have none."""
    return str(getattr(called, "__name__", "copyto"))


class _Silent(threading.local):
    """Keeps numpy from warning of numbers that are not finite, which the loss reports.

    `np.errstate` does the same and takes ten times as long, a sixth of a small net's step. Both hold for one thread.
    """

    _quiet = (np.getbufsize(), 0, None)
    """numpy's own form of its settings: no error is reported."""

    def __init__(self) -> None:
        self._before: list[Any] = []

    def __enter__(self) -> None:
        self._before.append(np.geterrobj())  # noqa: NPY201  MXNet needs numpy 1
        np.seterrobj(list(self._quiet))  # noqa: NPY201

    def __exit__(self, *_error: object) -> None:
        np.seterrobj(self._before.pop())  # noqa: NPY201


silent = _Silent()
