"""Builds a model's symbol from its file, operator by operator: MXNet never reads the file's JSON itself.

MXNet's own reader trusts the file: it neither checks which operators there are, nor how many inputs they get, nor
whether an input exists. Here each operator is created and composed by MXNet's functions for programs, which check all
of that, and the shapes of everything that the net would compute are known before any memory is taken.
"""

from __future__ import annotations

import ctypes
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from trainer.errors import UsageError, last_line
from trainer.model.attributes import CHOICES, RESHAPES, SUMMED_AXES, check_attributes, check_axes, numbers_in
from trainer.model.operators import SUBGRAPHS, check_operator
from trainer.reading import Unreadable, check_memory, checked, read_json

MOST_ELEMENTS = 2**31 - 1
"""Elements of one array: MXNet's packages count them in 32 bits."""
BYTES = 4
"""Of an element, in the estimate of the memory that a row needs."""

Shape = tuple[int, ...]
Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]
Index = Annotated[int, Field(ge=0, le=MOST_ELEMENTS)]
Entry = Annotated[list[Index], Field(min_length=2, max_length=3)]


class _Node(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    op: Text
    name: Text
    inputs: list[Entry]
    attrs: dict[Text, Text] = {}
    subgraphs: list[_Graph] = []


class _Graph(BaseModel):
    """MXNet's JSON; entries are a node's number and the number of its output."""

    model_config = ConfigDict(extra="ignore", strict=True)

    nodes: Annotated[list[_Node], Field(min_length=1)]
    heads: Annotated[list[Entry], Field(min_length=1)]


@dataclass
class _Built:
    """A graph's symbol, and the symbol of each of its nodes."""

    symbol: Any
    nodes: list[Any] = field(default_factory=list)
    nested: list[tuple[int, list[_Built]]] = field(default_factory=list)
    """For each node with graphs inside: its number, and the graphs."""
    graph: _Graph | None = None


def read_symbol(
    path: Path, shapes: Mapping[str, Shape], allowed: Collection[str] = (), rows: Collection[str] = ()
) -> Any:
    """The symbol in a file, whose inputs and parameters have the given shapes.

    `rows` names the inputs that have one row here, and any number of them later. `allowed` names operators that are
    otherwise refused. Raises UsageError for a file that is not a symbol, for an operator that is refused, and for
    shapes that do not fit each other or that are too large.
    """
    try:
        graph = checked(_Graph, read_json(path))
        built = _build(graph, allowed)
        unknown = sorted(set(built.symbol.list_inputs()) - set(shapes))
        if unknown:
            raise Unreadable(f"there are no values for {unknown[0]!r}")
        _elements(built, {name: (2, *shape[1:]) if name in rows else shape for name, shape in shapes.items()})
        check_memory(BYTES * _elements(built, shapes), "the arrays that the net computes for one row")
    except Unreadable as error:
        raise UsageError(f"it is not a usable symbol: {error}", where=str(path)) from error
    except UsageError as error:
        raise UsageError(error.what, where=str(path), fix=error.fix) from error
    except OSError as error:
        raise UsageError(f"it cannot be read: {error.strerror or error}", where=str(path)) from error
    return built.symbol


def _build(graph: _Graph, allowed: Collection[str]) -> _Built:
    """Creates the nodes in their order; a node's inputs come before it. Raises Unreadable or UsageError."""
    from trainer.mxnet import mx

    built = _Built(None, graph=graph)
    for number, node in enumerate(graph.nodes):
        where = f"node {number} ({node.name})"
        if node.op == "null":
            if node.inputs or node.subgraphs:
                raise Unreadable(f"{where} is a variable and has inputs")
            built.nodes.append(_variable(mx, node))
            continue
        check_operator(node.op, allowed)
        check_attributes(node.op, node.attrs, where)
        inside = [_build(each, allowed) for each in node.subgraphs]
        if len(inside) != SUBGRAPHS.get(node.op, 0):
            raise Unreadable(f"{where} has {len(inside)} graphs inside; {node.op} takes {SUBGRAPHS.get(node.op, 0)}")
        given = [_entry(built.nodes, entry, where) for entry in node.inputs]
        try:
            symbol = _operator(mx, node, [*(each.symbol for each in inside), *given])
        except mx.MXNetError as error:
            raise Unreadable(f"{where}: {last_line(error)}") from error
        if inside:
            _check_places(node, [each.symbol for each in inside], len(given), where)
            built.nested.append((number, inside))
        built.nodes.append(symbol)
    heads = [_entry(built.nodes, entry, "an output") for entry in graph.heads]
    built.symbol = mx.sym.Group(heads) if len(heads) > 1 else heads[0]
    return built


def _variable(mx: Any, node: _Node) -> Any:
    # Attributes such as __shape__; others would be taken for an operator's.
    attributes = {name: value for name, value in node.attrs.items() if re.fullmatch(r"__\w+__", name)}
    return mx.sym.var(node.name, attr=attributes)


def _operator(mx: Any, node: _Node, inputs: Sequence[Any]) -> Any:
    """One operator with its inputs. Raises MXNetError for attributes that it does not take; Unreadable for too few."""
    base = mx.base
    handle = ctypes.c_void_p()
    base.check_call(base._LIB.NNGetOpHandle(base.c_str(node.op), ctypes.byref(handle)))  # noqa: SLF001
    create = mx.symbol._internal._symbol_creator  # noqa: SLF001  what the generated functions of mx.sym call
    keys, values = list(node.attrs), list(node.attrs.values())
    symbol = create(handle.value, list(inputs), {}, keys, values, node.name, False)
    # MXNet adds variables for inputs that are missing.
    children = symbol.get_children()
    found = 0 if children is None else len(children)
    wanted = len(inputs) - SUBGRAPHS.get(node.op, 0)
    if found != wanted:
        raise Unreadable(f"{node.op} {node.name} has {wanted} inputs instead of {found}")
    return symbol


def _entry(nodes: Sequence[Any], entry: Sequence[int], where: str) -> Any:
    """An output of an earlier node."""
    number, output = entry[:2]
    if number >= len(nodes) or output >= len(nodes[number].list_outputs()):
        raise Unreadable(f"{where} refers to output {output} of node {number}, which does not come before it")
    return nodes[number][output]


# ---- graphs inside of operators --------------------------------------------------------------------------------------


def _places(node: _Node, name: str) -> list[int]:
    return numbers_in(node.attrs.get(name, ""))


def _check_places(node: _Node, graphs: Sequence[Any], given: int, where: str) -> None:
    """Loops and conditions say which of their inputs is which of the graph's, and MXNet does not check it."""
    counts = [len(graph.list_inputs()) for graph in graphs]
    outputs = [len(graph.list_outputs()) for graph in graphs]
    told = _places(node, "num_outputs")
    if node.op == "_foreach":
        every = [*_places(node, "in_data_locs"), *_places(node, "in_state_locs"), *_places(node, "remain_locs")]
        right = sorted(every) == list(range(counts[0])) and given == counts[0] and told == outputs
        right = right and outputs[0] - sum(_places(node, "num_out_data")) == len(_places(node, "in_state_locs"))
        right = right and bool(_places(node, "in_data_locs"))
    else:
        names = {"_while_loop": ("cond", "func"), "_cond": ("cond", "then", "else")}[node.op]
        listed = [_places(node, f"{name}_input_locs") for name in names]
        right = [len(each) for each in listed] == counts and all(0 <= each < given for part in listed for each in part)
        right = right and outputs[0] == 1
        if node.op == "_cond":
            right = right and outputs[1:] == [*told, *told]
        else:
            variables, data = _places(node, "func_var_locs"), sum(_places(node, "num_out_data"))
            right = right and all(0 <= each < counts[1] for each in variables) and told == outputs[1:]
            right = right and 0 <= data <= outputs[1] and outputs[1] - data == len(variables)
    if not right:
        raise Unreadable(f"{where}: the inputs and outputs of {node.op} are not those of the graph inside it")


def _inner_shapes(node: _Node, graphs: Sequence[_Built], given: Sequence[Shape]) -> list[dict[str, Shape]]:
    """The shapes of the inputs of the graphs inside of a node, from those of the node's inputs."""
    names = [graph.symbol.list_inputs() for graph in graphs]
    if node.op == "_foreach":
        data = _places(node, "in_data_locs")
        places = [*data, *_places(node, "in_state_locs"), *_places(node, "remain_locs")]
        shapes = [shape[1:] if number < len(data) else shape for number, shape in enumerate(given)]
        return [{names[0][place]: shape for place, shape in zip(places, shapes, strict=True)}]
    parts = ("cond", "func") if node.op == "_while_loop" else ("cond", "then", "else")
    return [
        dict(zip(own, (given[place] for place in _places(node, f"{part}_input_locs")), strict=True))
        for own, part in zip(names, parts, strict=True)
    ]


# ---- shapes ----------------------------------------------------------------------------------------------------------


def _elements(built: _Built, shapes: Mapping[str, Shape]) -> int:
    """How many elements all arrays of a graph have. Raises Unreadable for shapes that do not fit or are too large."""
    from trainer.mxnet import mx

    assert built.graph is not None  # noqa: S101
    for name, shape in shapes.items():
        _count(shape, name)
    everything = mx.sym.Group(built.nodes) if len(built.nodes) > 1 else built.nodes[0]
    for number, node in enumerate(built.graph.nodes):
        if node.op in SUMMED_AXES:
            inputs = mx.sym.Group([_entry(built.nodes, entry, node.name) for entry in node.inputs])
            check_axes(node.attrs, [len(shape) for shape in _inferred(inputs, shapes)], f"node {number} ({node.name})")
    parts = iter(_inferred(everything, shapes))
    by_node = [[tuple(next(parts, ())) for _ in symbol.list_outputs()] for symbol in built.nodes]
    for node, outputs in zip(built.graph.nodes, by_node, strict=True):
        if node.op in CHOICES:
            chosen, among = (by_node[number][output] for number, output, *_ in node.inputs[:2])
            if chosen and among and chosen not in (among, among[:1]):
                raise Unreadable(f"{node.name} chooses by an array of shape {chosen} from one of shape {among}")
        if node.op in RESHAPES:
            _check_size(by_node[node.inputs[0][0]][node.inputs[0][1]], outputs[0], node.name)
    total = sum(
        _count(shape, node.name) for node, outputs in zip(built.graph.nodes, by_node, strict=True) for shape in outputs
    )
    for number, graphs in built.nested:
        node = built.graph.nodes[number]
        given = [by_node[entry[0]][entry[1]] for entry in node.inputs]
        for graph, own in zip(graphs, _inner_shapes(node, graphs, given), strict=True):
            total += _elements(graph, own)
    return total


def _inferred(symbol: Any, shapes: Mapping[str, Shape]) -> Sequence[Shape]:
    """The shape of each output; () if it is unknown. Raises Unreadable for shapes that do not fit."""
    from trainer.mxnet import mx

    names = set(symbol.list_inputs())
    # A shape without axes, or with a length of 0, means that it is unknown.
    known = {name: shape for name, shape in shapes.items() if name in names and shape}
    try:
        _, found, _ = symbol.infer_shape_partial(**known)
    except (mx.MXNetError, ValueError, TypeError, OverflowError) as error:
        raise Unreadable(f"the shapes do not fit: {last_line(error)}") from error
    return [tuple(shape) for shape in found or [()] * len(symbol.list_outputs())]


def _check_size(given: Shape, made: Shape, name: str) -> None:
    """Raises Unreadable if an array would be copied into one of another size, which MXNet does not check."""
    known = all(length > 0 for length in (*given, *made)) and given and made
    if known and math.prod(given) != math.prod(made):
        raise Unreadable(f"{name} makes an array of shape {made} of one of shape {given}")


def _count(shape: Sequence[int], name: str) -> int:
    """The elements of an array; unknown lengths, which depend on the values, count as 1."""
    count = math.prod(max(length, 1) for length in shape)
    # Below -1, which is unknown: MXNet's 32-bit sums have overflowed.
    if count > MOST_ELEMENTS or min(shape, default=0) < -1:
        raise Unreadable(f"{name} would have the shape {tuple(shape)}, which is more than an array can hold")
    return count
