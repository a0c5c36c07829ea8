"""Finds the tables of weights that a net looks rows up in, for updates of only the rows that a batch uses."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any


@dataclass(frozen=True)
class Lookup:
    """Columns of an input that hold row numbers of a table."""

    input: int
    """The number of the input, from 0."""
    begin: int
    end: int | None
    """The columns; None for all, in an input of any shape."""


Lookups = Mapping[str, Sequence[Lookup]]
"""The lookups of each table, by the name of its parameter."""


def lookups_of(symbol: Any, inputs: Sequence[str], tables: Collection[str]) -> Lookups | None:
    """The lookups of the parameters in `tables`; None if the net uses one of them, or its row numbers, otherwise.

    Recognised are operators `Embedding` on a whole input, or on columns that `slice_axis` takes from it.
    """
    net = _Net(json.loads(symbol.tojson())["nodes"], inputs)
    found: dict[str, list[Lookup]] = {}
    for name in tables:
        lookups = [net.lookup(user, net.number(name)) for user in net.users(net.number(name))]
        known = [each for each in lookups if each is not None]
        if not known or len(known) < len(lookups):
            return None
        found[name] = known
    taken = [each for lookups in found.values() for each in lookups]
    return found if all(net.reads_apart(number, taken) for number in {each.input for each in taken}) else None


def resized(symbol: Any, sizes: Mapping[str, int]) -> Any:
    """The symbol for tables of other sizes, by the names of their parameters, with dense gradients."""
    from trainer.mxnet import mx

    graph = json.loads(symbol.tojson())
    for node in graph["nodes"]:
        table = graph["nodes"][node["inputs"][1][0]]["name"] if node["op"] == "Embedding" else ""
        if table in sizes:
            node["attrs"] |= {"input_dim": str(sizes[table]), "sparse_grad": "False"}
    return mx.sym.load_json(json.dumps(graph))


class _Net:
    """The operators of a symbol, and who uses their results."""

    def __init__(self, nodes: Sequence[Mapping[str, Any]], inputs: Sequence[str]) -> None:
        self._nodes = nodes
        self._inputs = inputs
        self._places = {node["name"]: number for number, node in enumerate(nodes) if node["op"] == "null"}

    def number(self, name: str) -> int:
        """The number of a variable, or -1."""
        return self._places.get(name, -1)

    def users(self, number: int) -> list[Mapping[str, Any]]:
        """The operators that read a result; one that reads it twice is there twice."""
        return [node for node in self._nodes for place, *_ in node["inputs"] if place == number]

    def lookup(self, node: Mapping[str, Any], table: int) -> Lookup | None:
        """What an operator that uses a table looks up in it; None if it does something else."""
        places = [place for place, *_ in node["inputs"]]
        if node["op"] != "Embedding" or places[1] != table or places[0] == table:
            return None
        source = self._nodes[places[0]]
        columns = _columns(source)
        if columns[1] is not None:
            source = self._nodes[source["inputs"][0][0]]
        if source["op"] != "null" or source["name"] not in self._inputs:
            return None
        return Lookup(self._inputs.index(source["name"]), *columns)

    def reads_apart(self, number: int, taken: Sequence[Lookup]) -> bool:
        """Whether no column of an input is read twice, so that each holds row numbers of one table only."""
        read = [_columns(node) for node in self.users(self.number(self._inputs[number]))]
        own = [each for each in taken if each.input == number]
        if any(end is None for _, end in read):
            return len(read) == len(own) == 1
        ranges = sorted((begin, end) for begin, end in read if end is not None)
        return all(before[1] <= after[0] for before, after in pairwise(ranges))


def _columns(node: Mapping[str, Any]) -> tuple[int, int | None]:
    """The columns that an operator takes from its input; all for other operators than slices of columns."""
    attributes = node.get("attrs", {})
    if node["op"] == "slice_axis" and attributes.get("axis") == "1":
        begin, end = int(attributes["begin"]), attributes.get("end", "None")
        if end != "None" and 0 <= begin < int(end):
            return begin, int(end)
    return 0, None
