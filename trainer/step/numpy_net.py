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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.device_time import now, recorded
from trainer.step.numpy_operators import OPERATORS, Code, Floats, Value


@dataclass(frozen=True)
class Plan:
    """The operators of a net that numpy can compute, and how much they compute per row."""

    nodes: Sequence[Mapping[str, Any]]
    head: int
    data: str
    columns: int
    """Of the data."""
    multiplications: int
    outputs: int
    """The results of all operators together."""


def plan_of(symbol: Any, data: str, shapes: Mapping[str, Sequence[int]]) -> Plan | None:
    """The plan for a symbol with one output (rows, columns); None if numpy cannot compute it.

    `data` is the name of its input, (rows, columns); `shapes` are those of the data and the parameters.
    """
    graph = json.loads(symbol.tojson())
    nodes, multiplications = graph["nodes"], 0
    widths: dict[int, int] = {}
    for number, node in enumerate(nodes):
        if node["op"] != "null":
            width = _width(nodes, node, widths, shapes)
            if width is None:
                return None
            widths[number] = width
            if node["op"] == "FullyConnected":
                multiplications += width * widths[node["inputs"][0][0]]
        elif node["name"] not in shapes:
            return None
        elif node["name"] == data:
            if len(shapes[data]) != 2:
                return None
            widths[number] = shapes[data][1]
    uses = Counter(nodes[place]["name"] for node in nodes for place, *_ in node["inputs"] if place not in widths)
    (head, *_), *more = graph["heads"]
    # Operators write the gradient of a parameter, so none may have two.
    if max(uses.values(), default=0) > 1 or more or nodes[head]["op"] == "null" or not multiplications:
        return None
    outputs = sum(widths[number] for number in widths if nodes[number]["op"] != "null")
    return Plan(nodes, head, data, shapes[data][1], multiplications, outputs)


def _width(
    nodes: Sequence[Mapping[str, Any]],
    node: Mapping[str, Any],
    widths: Mapping[int, int],
    shapes: Mapping[str, Sequence[int]],
) -> int | None:
    """The columns of an operator's result; None if it, or what it reads, cannot be computed here."""
    known, attributes = OPERATORS.get(node["op"]), node.get("attrs", {})
    if known is None or not known.accepts(attributes):
        return None
    places = [place for place, *_ in node["inputs"]]
    given = [widths[place] for place in places if place in widths]
    if len(given) != known.inputs or len(set(given)) > 1 or places[0] not in widths:
        return None
    others = [shapes[nodes[place]["name"]] for place in places if place not in widths]
    if node["op"] != "FullyConnected":
        return None if others else given[0]
    return others[0][0] if others and len(others[0]) == 2 and others[0][1] == given[0] else None


FUNCTIONS: Sequence[str] = (
    *("absolute", "add", "divide", "dot", "exp", "expm1", "logaddexp", "maximum", "minimum", "multiply", "negative"),
    *("sign", "subtract", "tanh"),
)


class NumpyNet:
    """A net with arrays for a fixed number of rows: `run(data, label)` leaves output and gradients in their arrays."""

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
    ) -> None:
        """`output`, (rows, columns), takes the net's output; `gradients` those of the parameters that are trained.

        `write_gradient(output, label, to)` writes the gradient of the loss with respect to the output; it is multiplied
        by `scale` and, for `weighted` rows, by the third argument of `run`, (rows, 1).
        """
        names: dict[str, Any] = {name: getattr(np, name) for name in FUNCTIONS}
        names |= {"zero": np.zeros((), np.float32), "one": np.ones((), np.float32), "write_gradient": write_gradient}
        code = Code(len(output), parameters, gradients, names)
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
        source = "\n    ".join(["def run(data, label, weight=None):", *lines])
        exec(compile(source, "<a net in numpy>", "exec"), names)  # noqa: S102  it has only names given here
        self.run: Callable[..., None] = names["run"]
        self._lines, self._names = lines, names

    def run_recorded(self, data: Floats, label: Floats, weight: Floats | None = None) -> None:
        """Does the same as `run`, line by line, and records each call."""
        names = {**self._names, "data": data, "label": label, "weight": weight}
        for line in self._lines:
            began = now()
            exec(line, names)  # noqa: S102  it has only names given in this file
            recorded.add(f"numpy.{line.partition('(')[0]}", began)

    @staticmethod
    def _build(plan: Plan, code: Code, output: str) -> Value:
        users = Counter(place for node in plan.nodes for place, *_ in node["inputs"])
        users[plan.head] += 1
        values: dict[int, Value] = {}
        for number, node in enumerate(plan.nodes):
            if node["op"] == "null":
                if node["name"] == plan.data:
                    values[number] = Value("data", plan.columns, needs_gradient=False, users=users[number])
                continue
            code.output = output if number == plan.head else ""
            inputs = [values.get(place, plan.nodes[place]["name"]) for place, *_ in node["inputs"]]
            values[number] = OPERATORS[node["op"]].build(code, node.get("attrs", {}), inputs)
            values[number].users = users[number]
        return values[plan.head]


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
