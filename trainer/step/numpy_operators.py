"""The operators of a net that numpy computes: each writes its lines of a Python function (`trainer.step.numpy_net`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    tables: Mapping[str, Callable[..., None]]
    """Take the gradients of what is looked up in the tables among the parameters."""
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


def _biased(code: Code, _attributes: Mapping[str, str], inputs: Inputs) -> Value:
    """broadcast_add of a value and a parameter (1, columns)."""
    given, name = inputs[0], str(inputs[1])
    assert isinstance(given, Value)  # noqa: S101  `plan_of` has checked the order of inputs
    is_trained = name in code.gradients
    output = Value(code.output or code.room(given.columns), given.columns, given.needs_gradient or is_trained, users=0)
    code.forward.append(f"add({given.name}, {code.named(code.parameters[name])}, {output.name})")

    def backward() -> list[str]:
        if not output.gradient:
            return []
        lines = []
        if is_trained:
            ones = code.named(np.ones((1, code.rows), np.float32))
            lines.append(f"dot({ones}, {output.gradient}, {code.named(code.gradients[name])})")
        return lines + code.pass_back(given, f"{{to}}[...] = {output.gradient}")

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
        # Nothing else needs the value before the activation, nor does the derivative.
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
        "broadcast_add": Operator(_biased),
    }
)
