"""Traces a net into a symbol for inference, with parameters named after their place in the net."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.errors import first_line
from trainer.mxnet import gluon, mx


class NoSymbol(Exception):  # noqa: N818  not an error: it carries a reason and is caught at once
    """The net has no symbolic form; the message says why."""


def trace_net(net: Any, places: Mapping[str, Any], inputs: int) -> tuple[Any, list[str], int]:
    """The net's symbol, the names of its inputs, and its number of outputs; raises NoSymbol.

    `places` maps places (`0.weight`) to the net's parameters. Gluon numbers its own names over all nets that a process
    builds (`dense7_weight`), so they would differ from run to run.
    """
    if not isinstance(net, gluon.HybridBlock):
        raise NoSymbol(f"the net ({type(net).__name__}) is not a HybridBlock")
    names = _input_names(inputs, places)
    # Names that cannot clash with Gluon's, which are still in use here.
    variables = [mx.sym.var(f"model:{name}") for name in names]
    try:
        given = net(*variables)
    except Exception as error:
        # A hybrid_forward that reads a shape or a value works under autograd, but may raise anything here.
        first = first_line(error)
        raise NoSymbol(f"the net cannot be traced ({type(error).__name__}: {first})") from error
    parts = given if isinstance(given, (list, tuple)) else [given]
    if not all(isinstance(part, mx.sym.Symbol) for part in parts):
        raise NoSymbol("the net returns nested outputs")
    symbol = mx.sym.Group(list(parts)) if len(parts) > 1 else parts[0]
    renamed = {parameter.name: place for place, parameter in places.items()}
    renamed |= {f"model:{name}": name for name in names}
    return _renamed(symbol, renamed), names, len(symbol.list_outputs())


def _input_names(count: int, taken: Mapping[str, Any]) -> list[str]:
    """`data`, or `data0`, `data1`, … as in Gluon's export."""
    stem = "data"
    while any(place.startswith(stem) for place in taken):
        stem = f"input_{stem}"
    return [stem] if count == 1 else [f"{stem}{number}" for number in range(count)]


def _renamed(symbol: Any, names: Mapping[str, str]) -> Any:
    """The symbol with its variables renamed by `names`, and its operators named by kind and number."""
    graph = json.loads(symbol.tojson())
    nodes: Sequence[dict[str, Any]] = graph["nodes"]
    counts: dict[str, int] = {}
    nested = any("subgraphs" in node for node in nodes)
    for node in nodes:
        if node["op"] == "null":
            node["name"] = names.get(node["name"], node["name"])
        elif not nested:
            # Subgraphs refer to names outside of them.
            kind = node["op"].lower().strip("_")
            node["name"] = f"{kind}{counts.setdefault(kind, 0)}"
            counts[kind] += 1
    return mx.sym.load_json(json.dumps(graph))
