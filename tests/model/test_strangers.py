"""Model folders that somebody else wrote: what MXNet would call, read or allocate is refused before MXNet sees it."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import operator_fuzz
import pytest
from modelling import train
from mutations import mutations
from nets import Given, regression
from tiny import settings

from trainer import Engine, TrainerError, UsageError, load_model
from trainer.model import manifest
from trainer.model.graph import read_symbol
from trainer.model.operators import known, why_refused
from trainer.model.parameters import read_headers
from trainer.mxnet import gluon, mx

ROW = {"x": (1, 4)}


def node(name, inputs=(), **attributes):
    return {"op": name, "name": name.lower(), "attrs": attributes, "inputs": [[number, 0, 0] for number in inputs]}


def symbol(path, *nodes, heads=((1, 0, 0),)):
    """A symbol's file: the variable x, and these nodes."""
    graph = {"nodes": [{"op": "null", "name": "x", "inputs": []}, *nodes], "heads": heads, "arg_nodes": [0]}
    path.write_text(json.dumps(graph))
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model-symbol.json"


@pytest.mark.parametrize(
    ("name", "attributes", "reason"),
    [
        ("_Native", {"info": "0xdeadbeef"}, "calls an address in memory"),
        ("_NDArray", {"info": "4096"}, "calls an address in memory"),
        ("_CachedOp", {}, "calls an address in memory"),
        ("Custom", {"op_type": "mine"}, "calls a function outside of the file"),
        ("_npi_Custom", {"op_type": "mine"}, "calls a function outside of the file"),
        ("_CustomFunction", {}, "calls a function outside of the file"),
        ("_cvimread", {"filename": "/etc/passwd"}, "reads a file that the model names"),
        ("_backward_RNN", {}, "belongs to a backward pass"),
        ("_sg_mkldnn_conv", {}, "only oneDNN's own pass writes it"),
        ("scatter_nd", {"shape": "(10,)"}, "at places that other values name, and does not check them"),
        ("_contrib_index_copy", {}, "at places that other values name"),
        ("SequenceLast", {"use_sequence_length": "True"}, "at places that other values name"),
        ("_npx_sequence_mask", {"use_sequence_length": "True"}, "takes lengths from other values"),
        ("_npi_scatter_set_nd", {}, "at places that other values name"),
        ("ctc_loss", {}, "at places that other values name"),
        ("sgd_update", {}, "it changes weights"),
        ("sample_gamma", {}, "it never returns"),
        ("NoSuchThing", {}, "MXNet has no operator 'NoSuchThing'"),
    ],
)
def test_an_operator_with_a_pointer_a_file_or_a_callback_is_refused_by_name(path, name, attributes, reason):
    with pytest.raises(UsageError, match=reason):
        read_symbol(symbol(path, node(name, [0], **attributes)), ROW)
    inside = {**node("_foreach", [0]), "subgraphs": [json.loads(path.read_text())]}
    with pytest.raises(UsageError, match=reason):
        read_symbol(symbol(path, inside), ROW)


def test_every_other_operator_is_let_in_and_whatever_takes_a_pointer_is_not():
    refused = {name for name in known() if why_refused(name)}
    assert all("backward" in name or why_refused(name) for name in refused)
    assert {"Convolution", "FullyConnected", "RNN", "Dropout", "_foreach", "_contrib_box_nms"} <= known() - refused
    # The list is complete: an operator with an attribute of a kind that is not a plain value would be noticed here.
    kinds = {kind for name in known() - refused for kind in mx.operator.get_operator_arguments(name).types}
    plain = r"(int|long|float|double|real_t|bool|string|Shape|tuple of|NDArray|Symbol|\{|, |$)"
    assert [kind for kind in kinds if not re.match(plain, kind)] == []


def test_who_trusts_a_file_lets_its_operator_in(path, model):
    symbol(path, node("_cvimread", filename="a.png"))
    with pytest.raises(UsageError, match=r"pass allow_operators=\['_cvimread'\] to load_model"):
        read_symbol(path, ROW)
    read_symbol(path, ROW, ["_cvimread"])
    with pytest.raises(UsageError, match=r"allow_operators: MXNet has no operator 'Costum'\. Did you mean 'Custom'"):
        load_model(model, allow_operators=["Costum"])
    with pytest.raises(UsageError, match=r"allow_operators: 'Custom' is a string. Pass a list: \['Custom'\]"):
        load_model(model, allow_operators="Custom")


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ([node("tile", [0], reps="(100000, 100000)")], "more than an array can hold"),
        ([node("tile", [0], reps="(8000, 8000)"), node("tile", [1], reps="(1, 8)")], "row would take .* are free"),
        ([node("_zeros", shape="(100000, 100000)")], "the shapes do not fit"),
        ([node("Concat", [0], num_args="2000000000")], "num_args of Concat is '2000000000'"),
        ([node("SliceChannel", [0], num_outputs="2000000000")], "num_outputs of SliceChannel"),
        ([node("GroupNorm", [0, 0, 0], num_groups="0")], "something is divided by it"),
        ([node("Pooling", [0], stride="(0, 1)")], "something is divided by it"),
        ([node("tile", [0], reps="(-1, 1)")], "reps of tile is"),
        ([node("_contrib_AdaptiveAvgPooling2D", [0], output_size="(-1, -1)")], "output_size of _contrib_Adaptive"),
        ([node("_split_v2", [0], indices="()")], "_split_v2 has neither indices nor sections"),
        ([node("softmax", [0, 0], use_length="True")], "use_length of softmax takes lengths from other values"),
        ([node("Reshape", [0], shape="(3, 2)")], r"makes an array of shape \(3, 2\) of one of shape \(1, 4\)"),
        ([node("tile", [0], reps="(2, 2)"), node("where", [1, 0, 0])], r"chooses by an array of shape \(2, 8\) from"),
        ([node("Reshape", [0], target_shape="(2, )")], "target_shape and keep_highest of Reshape"),
        ([node("_npi_tensordot", [0, 0], a_axes_summed="(0, 0)", b_axes_summed="(0, 0)")], "sums over the axes"),
        ([node("_npi_tensordot_int_axes", [0, 0], axes="9")], "sums over the axes"),
        ([node("_npi_arange", start="0", stop="1e15")], "makes more numbers than an array can hold"),
        ([node("_npi_arange", start="0", stop="5e9")], "makes more numbers than an array can hold"),
        ([node("_arange", start="0", stop="10", step="0")], "makes more numbers than an array can hold"),
        ([node("FullyConnected", [0], num_hidden="3")], "has 1 inputs instead of 3"),
        ([node("relu", [0, 0])], "relu"),
        ([node("relu", [7])], "refers to output 0 of node 7, which does not come before it"),
        ([node("relu", [1])], "refers to output 0 of node 1, which does not come before it"),
        ([{**node("relu"), "inputs": [[0, 99, 0]]}], "refers to output 99 of node 0"),
        ([{**node("relu"), "inputs": [[-1, 0, 0]]}], "greater than or equal to 0"),
        ([node("Activation", [0], act_type="none")], "node 1"),
        ([{**node("relu", [0]), "subgraphs": [{"nodes": [], "heads": []}]}], "subgraphs"),
        ([{**node("relu", [0]), "name": "a\0b"}], "name: String should match pattern"),
        ([{**node("relu", [0]), "attr": {}}], "attr: Extra inputs"),
        ([{"op": "null", "name": "other", "inputs": []}], "no values for 'other'"),
    ],
)  # fmt: skip
def test_a_symbol_that_would_end_the_process_or_fill_the_memory_is_refused(path, monkeypatch, nodes, reason):
    monkeypatch.setattr("trainer.reading.free_memory", lambda: 10**9)
    with pytest.raises(UsageError, match=reason):
        read_symbol(symbol(path, *nodes, heads=[[len(nodes), 0, 0]]), ROW)


@pytest.mark.parametrize("text", ["", "{}", "[]", "{", "[" * 100_000, "1" * 9999, '{"nodes": 1, "heads": []}', "\0"])
def test_a_symbol_that_is_not_one_is_refused(path, text):
    path.write_text(text)
    with pytest.raises(UsageError, match="it is not a usable symbol"):
        read_symbol(path, ROW)


def test_no_operator_ends_the_process_whatever_its_attributes_and_inputs_are(tmp_path):
    """Each of them once, with values of a seed; `tests/support/operator_fuzz.py --rounds 50` tries more."""
    log = tmp_path / "tried"
    done = subprocess.run(
        [sys.executable, Path(operator_fuzz.__file__), log],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{log.read_text()[-1000:]} {done.stderr[-500:]}"
    computed = [line for line in log.read_text().splitlines() if '"how": "computed"' in line]
    assert len(computed) > 300


# ---- what is let in --------------------------------------------------------------------------------------------------


class Loops(gluon.HybridBlock):
    """Every operator with graphs inside."""

    def hybrid_forward(self, F, x):
        doubled, total = F.contrib.foreach(lambda row, held: (2 * row, held + row), x, F.zeros_like(x.sum(axis=0)))
        counted = F.contrib.while_loop(
            lambda left, _: left < 3, lambda left, held: (held, (left + 1, held * 2)), (F.zeros(1), F.ones(4)), 5
        )[1][1]
        chosen = F.contrib.cond(F.ones(1) > 0, lambda: counted + 1, lambda: counted - 1)
        return doubled, total + chosen


class Split(gluon.HybridBlock):
    """Several outputs of one operator, one input twice, and a recurrent layer with its state."""

    def __init__(self):
        super().__init__()
        self.recurrent = gluon.rnn.LSTM(3)

    def hybrid_forward(self, F, x):
        first, second = F.split(self.recurrent(x.expand_dims(0)).squeeze(axis=0), 3, axis=1)[:2]
        return F.concat(first * first, second, F.topk(x, ret_typ="mask"), dim=1)


@pytest.mark.parametrize("kind", [Loops, Split, gluon.nn.BatchNorm, gluon.nn.LayerNorm])
def test_a_net_of_harmless_operators_is_the_same_after_reading(path, kind):
    net = kind()
    traced = net(mx.sym.var("x"))
    traced = mx.sym.Group(list(traced)) if isinstance(traced, (list, tuple)) else traced
    path.write_text(traced.tojson())
    arguments, _, states = traced.infer_shape_partial(x=(2, 4))
    names = [*traced.list_arguments(), *traced.list_auxiliary_states()]
    shapes = dict(zip(names, [*arguments, *states], strict=True))
    assert read_symbol(path, shapes).tojson() == traced.tojson()


def test_what_is_inside_of_a_loop_counts_too(path):
    def traced(times):
        body = lambda row, held: (row.tile((times, times)).sum(), held)  # noqa: E731
        return mx.sym.contrib.foreach(body, mx.sym.var("x"), [])[0].tojson()

    path.write_text(traced(10**5))
    with pytest.raises(UsageError, match="more than an array can hold"):
        read_symbol(path, {"x": (2, 4)})
    graph = json.loads(traced(2))
    for each in graph["nodes"]:
        if each["op"] == "_foreach":
            each["attrs"]["in_data_locs"] = "(7,)"
    path.write_text(json.dumps(graph))
    with pytest.raises(UsageError, match="are not those of the graph inside it"):
        read_symbol(path, {"x": (2, 4)})


# ---- parameters ------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "a.params"
    mx.nd.save(str(path), {"arg:w": mx.nd.ones((3, 4)), "aux:b": mx.nd.zeros(2, dtype="int64")})
    return path


def test_headers_are_those_of_the_arrays(saved):
    assert {name: (each.shape, each.dtype) for name, each in read_headers(saved).items()} == {
        "arg:w": ((3, 4), "float32"),
        "aux:b": ((2,), "int64"),
    }


def test_parameters_that_are_cut_anywhere_are_refused(saved):
    whole = saved.read_bytes()
    for size in range(len(whole)):
        saved.write_bytes(whole[:size])
        with pytest.raises(UsageError, match="not a usable file of MXNet parameters"):
            read_headers(saved)
    saved.write_bytes(whole + b"\0")
    with pytest.raises(UsageError, match="its arrays end at"):
        read_headers(saved)


def test_every_byte_of_a_header_may_be_wrong(saved):
    whole = saved.read_bytes()
    for place in range(len(whole)):
        for value in (0, 127, 255):
            saved.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
            with suppress(UsageError):
                read_headers(saved)


# ---- the whole folder ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return train(tmp_path_factory.mktemp("strangers"), epochs=1).folder / "model"


@pytest.fixture
def copied(model, tmp_path):
    shutil.copytree(model, tmp_path / "copy")
    return tmp_path / "copy"


def seal(folder):
    """Makes sizes and checksums right."""
    path = folder / manifest.ABOUT
    about = json.loads(path.read_text())
    for name in about["files"]:
        content = (folder / name).read_bytes()
        about["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    path.write_text(json.dumps(about))


def test_every_field_of_a_models_description(copied):
    path = copied / manifest.ABOUT
    given = json.loads(path.read_text())
    # Of what is only shown, one entry is as good as all.
    given |= {name: dict(list(given[name].items())[:1]) for name in ("card", "metrics", "versions")}
    rows = {"age": [1.0], "size": [2.0], "job": ["cook"], "member": [True]}
    refused = set()
    for what, value in mutations(given):
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        try:
            load_model(copied).predict(rows)
        except TrainerError:
            refused.add(what)
    needed = [f"{name} without" for name in given if name not in ("symbol_why", "threshold", "tables")]
    assert [what for what in (*needed, "nested", "epoch = None", "files = {}") if what not in refused] == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda values: values | {"arg:more": mx.nd.ones(1)}, "the net has other parameters: more is missing"),
        (lambda values: dict(list(values.items())[1:]), "no values for"),
        (lambda values: {name: mx.nd.ones((7, 7)) for name in values}, "the shapes do not fit"),
    ],
)
def test_parameters_of_another_net_are_refused_before_they_are_read(copied, monkeypatch, change, reason):
    path = copied / manifest.PARAMETERS
    mx.nd.save(str(path), change(mx.nd.load(str(path))))
    seal(copied)
    monkeypatch.setattr(mx.nd, "load", lambda *_: pytest.fail("the parameters were read"))
    with pytest.raises(UsageError, match=reason):
        load_model(copied)


def test_cut_parameters_with_the_right_checksum_are_refused_before_they_are_read(copied, monkeypatch):
    path = copied / manifest.PARAMETERS
    path.write_bytes(path.read_bytes()[:-16])
    seal(copied)
    monkeypatch.setattr(mx.nd, "load", lambda *_: pytest.fail("the parameters were read"))
    with pytest.raises(UsageError, match="it is not a usable file of MXNet parameters: it is cut"):
        load_model(copied)


def test_a_net_without_a_symbol_has_its_parameters_checked_too(tmp_path):
    class Opaque(gluon.Block):
        def __init__(self):
            super().__init__()
            self.dense = gluon.nn.Dense(1, in_units=5)

        def forward(self, x):
            return self.dense(x)

    task = Given(regression(12), regression(6), Opaque, gluon.loss.L2Loss)
    folder = Engine(task, settings(), [], run_folder=tmp_path / "run").fit().folder / "model"
    assert load_model(folder, task=task).scores(load_model(folder, task=task).encode(np.ones((1, 5)))).shape == (1, 1)
    mx.nd.save(str(folder / manifest.PARAMETERS), {"dense.weight": mx.nd.ones((2, 5)), "dense.bias": mx.nd.ones(1)})
    seal(folder)
    with pytest.raises(UsageError, match=r"dense\.weight has the shape \(1, 5\) in place of \(2, 5\)"):
        load_model(folder, task=task)
