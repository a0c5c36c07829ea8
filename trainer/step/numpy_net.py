"""Computes a small dense net with numpy: forward and backward pass over arrays that are laid out once.

MXNet starts each operator in a thread of its own, which takes longer than the operator of a small net. numpy computes
in the calling thread, and returns when it is done. `NumpyNet` follows a symbol whose operators are all in `OPERATORS`.
It writes a Python function for the net, with one call of numpy in each line: functions for each operator would take a
fifth longer.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.device_time import now, recorded

Floats = NDArray[np.float32]

# ---- the function ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Value:
    """The result of an operator, (rows, columns), in the function that is written."""

    name: str
    columns: int
    needs_gradient: bool
    users: int
    """How many operators read it."""
    gradient: str = ""
    """The array with the gradient of the loss; empty until an operator writes to it."""


@dataclass
class Code:
    """The lines of the function, and the arrays that they use."""

    rows: int
    parameters: Mapping[str, Floats]
    gradients: Mapping[str, Floats]
    """Without those that are not trained."""
    names: dict[str, Any]
    forward: list[str] = field(default_factory=list)
    backward: list[Callable[[], Sequence[str]]] = field(default_factory=list)
    """Writes the lines of each operator, called from the last operator to the first."""
    output: str = ""
    """Where the operator that is being added has to leave its result, if it is the net's output."""

    def named(self, array: Any) -> str:
        """A name for an array."""
        name = f"a{len(self.names)}"
        self.names[name] = array
        return name

    def room(self, columns: int) -> str:
        """A new array for a row each of (rows, columns)."""
        return self.named(np.empty((self.rows, columns), np.float32))

    def pass_back(self, value: Value, line: str) -> list[str]:
        """The lines that bring an operator's part of a value's gradient to it. `line` writes the part to `{to}`."""
        if not value.needs_gradient:
            return []
        if not value.gradient:
            value.gradient = self.room(value.columns)
            return [line.format(to=value.gradient)]
        part = self.room(value.columns)
        return [line.format(to=part), f"add({value.gradient}, {part}, {value.gradient})"]


# ---- operators ------------------------------------------------------------------------------------------------------

Inputs = Sequence[Value | str]
"""The results of other operators, and the names of parameters."""


def _dense(code: Code, _attributes: Mapping[str, str], inputs: Inputs) -> Value:
    """FullyConnected: output = input · weightᵀ + bias."""
    given, names = inputs[0], [str(name) for name in inputs[1:]]
    assert isinstance(given, Value)  # noqa: S101  `plan_of` has checked the order of inputs
    weight = code.parameters[names[0]]
    trained = [name for name in names if name in code.gradients]
    output = Value(code.output or code.room(len(weight)), len(weight), given.needs_gradient or bool(trained), users=0)
    code.forward.append(f"dot({given.name}, {code.named(weight.T)}, {output.name})")
    if len(names) > 1:
        code.forward.append(f"add({output.name}, {code.named(code.parameters[names[1]])}, {output.name})")

    def backward() -> list[str]:
        if not output.gradient:
            return []
        lines = []
        if names[0] in trained:
            turned = code.named(code.names[output.gradient].T)
            lines.append(f"dot({turned}, {given.name}, {code.named(code.gradients[names[0]])})")
        if names[-1] in trained[-1:] and len(names) > 1:
            ones = code.named(np.ones(code.rows, np.float32))
            lines.append(f"dot({ones}, {output.gradient}, {code.named(code.gradients[names[1]])})")
        return lines + code.pass_back(given, f"dot({output.gradient}, {code.named(weight)}, {{to}})")

    code.backward.append(backward)
    return output


@dataclass(frozen=True)
class Activation:
    """The lines of an elementwise function of `{x}`, and of its derivative from the function's values `{y}`.

    The values go to `{y}`, which may be the same array as `{x}`, the derivatives to `{s}`, where the function may keep
    something on its way; `{c}` is a constant.
    """

    values: Sequence[str]
    derivatives: Sequence[str]


_SIGMOID = ("negative({x}, {y})", "exp({y}, {y})", "add({y}, one, {y})", "divide(one, {y}, {y})")
ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
    {
        # The sign of values from 0: a comparison would have to be converted.
        "relu": Activation(["maximum({x}, zero, {y})"], ["sign({y}, {s})"]),
        "sigmoid": Activation(_SIGMOID, ["subtract(one, {y}, {s})", "multiply({s}, {y}, {s})"]),
        "tanh": Activation(["tanh({x}, {y})"], ["multiply({y}, {y}, {s})", "subtract(one, {s}, {s})"]),
        "softrelu": Activation(
            ["logaddexp({x}, zero, {y})"], ["negative({y}, {s})", "expm1({s}, {s})", "negative({s}, {s})"]
        ),
        "softsign": Activation(
            ["absolute({x}, {s})", "add({s}, one, {s})", "divide({x}, {s}, {y})"],
            ["absolute({y}, {s})", "subtract(one, {s}, {s})", "multiply({s}, {s}, {s})"],
        ),
    }
)
LEAKY = Activation(["multiply({x}, {c}, {s})", "maximum({x}, {s}, {y})"], ["sign({y}, {s})", "maximum({s}, {c}, {s})"])
"""For a slope up to 1."""
ELU = Activation(
    ["minimum({x}, zero, {s})", "expm1({s}, {s})", "maximum({x}, {s}, {y})"],
    ["minimum({y}, zero, {s})", "add({s}, one, {s})"],
)
"""For a slope of 1: exp(x) - 1 is then never below x."""


def _leaky(attributes: Mapping[str, str]) -> Activation | None:
    kind, slope = attributes.get("act_type", "leaky"), float(attributes.get("slope", 0.25))
    if kind == "leaky" and 0 < slope <= 1:
        return LEAKY
    return ELU if kind == "elu" and slope == 1 else None


@dataclass(frozen=True)
class Operator:
    """How an operator is added to a net, and whether its attributes are among those that numpy computes."""

    build: Callable[[Code, Mapping[str, str], Inputs], Value]
    accepts: Callable[[Mapping[str, str]], bool] = lambda _attributes: True
    inputs: int = 1
    """Results of other operators that it takes."""


def _elementwise(choose: Callable[[Mapping[str, str]], Activation | None]) -> Operator:
    def build(code: Code, attributes: Mapping[str, str], inputs: Inputs) -> Value:
        (given,) = (each for each in inputs if isinstance(each, Value))
        function = choose(attributes)
        assert function is not None  # noqa: S101  `plan_of` has asked
        # Nobody else needs the value before the activation, nor does the derivative.
        in_place = given.users == 1 and given.needs_gradient
        name = code.output or (given.name if in_place else code.room(given.columns))
        output = Value(name, given.columns, given.needs_gradient, users=0)
        constant = code.named(np.array(attributes.get("slope", 0.25), np.float32))
        names = {"x": given.name, "y": name, "s": code.room(given.columns), "c": constant}
        code.forward += [line.format(**names) for line in function.values]

        def backward() -> list[str]:
            if not output.gradient:
                return []
            lines = [line.format(**names) for line in function.derivatives]
            back = f"multiply({output.gradient}, {names['s']}, {{to}})"
            if in_place:
                given.gradient = output.gradient
                return [*lines, back.format(to=given.gradient)]
            return lines + code.pass_back(given, back)

        code.backward.append(backward)
        return output

    return Operator(build, lambda attributes: choose(attributes) is not None)


def _sum(code: Code, _attributes: Mapping[str, str], inputs: Inputs) -> Value:
    """elemwise_add of two arrays of the same shape."""
    first, second = (each for each in inputs if isinstance(each, Value))
    name = code.output or code.room(first.columns)
    output = Value(name, first.columns, first.needs_gradient or second.needs_gradient, users=0)
    code.forward.append(f"add({first.name}, {second.name}, {name})")

    def backward() -> list[str]:
        if not output.gradient:
            return []
        return [line for value in (first, second) for line in code.pass_back(value, f"{{to}}[...] = {output.gradient}")]

    code.backward.append(backward)
    return output


OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        "FullyConnected": Operator(_dense),
        "Activation": _elementwise(lambda attributes: ACTIVATIONS.get(attributes["act_type"])),
        "LeakyReLU": _elementwise(_leaky),
        "relu": _elementwise(lambda _attributes: ACTIVATIONS["relu"]),
        "sigmoid": _elementwise(lambda _attributes: ACTIVATIONS["sigmoid"]),
        "tanh": _elementwise(lambda _attributes: ACTIVATIONS["tanh"]),
        "softsign": _elementwise(lambda _attributes: ACTIVATIONS["softsign"]),
        "elemwise_add": Operator(_sum, inputs=2),
    }
)


# ---- a net ----------------------------------------------------------------------------------------------------------


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


class _Silent:
    """Keeps numpy from warning of numbers that are not finite, which the loss reports.

    `np.errstate` does the same and takes ten times as long, a sixth of a small net's step.
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
