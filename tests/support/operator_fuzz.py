"""Hostile symbols for every operator that is let in: attributes and index values that no net would have.

Run as a program, it tries some of them, and writes what it is about to try into a file: a crash ends the process, and
the file's last line says what did it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import random
import resource
import time
from pathlib import Path

ROUNDS = 1
SHAPES = [(2, 3), (2, 3, 4, 4), (4,), (2, 3, 4), (1,), (2, 4, 4), (2, 2), (1, 1, 4, 4), (2, 3, 4, 4, 4), (3, 5), (4, 5)]
VALUES = [0.0, 1.0, -1.0, 1e9, -1e9, 3e7, -3e7, float("nan"), float("inf"), 2.0**31, -(2.0**31), 5.0, 0.5]
NUMBERS = ["-1", "0", "1", "2", "-2", "7", "-7", "100", "2147483647", "-2147483648", "1000000", "-1000000"]
REALS = ["0", "-1", "1e30", "-1e30", "nan", "inf", "-inf", "1e-30", "0.5", "2"]
WORDS = ["", "x", "ij,jk->ik", "...,i->", "float32", "int32"]
ENOUGH_SECONDS = 0.5
IMAGE = (1, 2, 4, 4)
TYPICAL = {
    "ROIPooling": ({"pooled_size": "(2, 2)", "spatial_scale": "0.5"}, [IMAGE, (3, 5)]),
    "_contrib_ROIAlign": ({"pooled_size": "(2, 2)", "spatial_scale": "0.5"}, [IMAGE, (3, 5)]),
    "_contrib_RROIAlign": ({"pooled_size": "(2, 2)", "spatial_scale": "0.5"}, [IMAGE, (3, 6)]),
    "_contrib_PSROIPooling": ({"output_dim": "2", "pooled_size": "2", "spatial_scale": "0.5"}, [(1, 8, 4, 4), (3, 5)]),
    "_contrib_DeformablePSROIPooling": (
        {"output_dim": "2", "pooled_size": "2", "group_size": "2", "spatial_scale": "0.5", "no_trans": "True"},
        [(1, 8, 4, 4), (3, 5)],
    ),
    "_contrib_Proposal": ({}, [(1, 24, 4, 4), (1, 48, 4, 4), (1, 3)]),
    "_contrib_MultiProposal": ({}, [(1, 24, 4, 4), (1, 48, 4, 4), (1, 3)]),
    "_contrib_MultiBoxTarget": ({}, [(1, 8, 4), (1, 3, 5), (1, 3, 8)]),
    "_contrib_MultiBoxDetection": ({}, [(1, 3, 8), (1, 32), (1, 8, 4)]),
    "_contrib_box_nms": ({}, [(2, 5, 6)]),
    "_contrib_box_decode": ({}, [(1, 5, 4), (1, 5, 4)]),
    "_contrib_box_encode": ({}, [(1, 5), (1, 5), (1, 5, 4), (1, 3, 4), (4,), (4,)]),
    "_contrib_bipartite_matching": ({"threshold": "0.1"}, [(3, 4)]),
    "CTCLoss": ({}, [(5, 2, 4), (2, 3)]),
    "ctc_loss": (
        {"use_data_lengths": "True", "use_label_lengths": "True"},
        [(5, 2, 4), (2, 3), (2,), (2,)],
    ),
    "GridGenerator": ({"transform_type": "affine", "target_shape": "(4, 4)"}, [(1, 6)]),
    "BilinearSampler": ({}, [IMAGE, IMAGE]),
    "SpatialTransformer": (
        {"target_shape": "(4, 4)", "transform_type": "affine", "sampler_type": "bilinear"},
        [IMAGE, (1, 6)],
    ),
    "Correlation": ({}, [(1, 2, 8, 8), (1, 2, 8, 8)]),
    "Crop": ({"num_args": "2"}, [(1, 2, 8, 8), IMAGE]),
    "Pad": ({"mode": "constant", "pad_width": "(0, 0, 0, 0, 1, 1, 1, 1)"}, [IMAGE]),
    "_npi_pad": ({"mode": "constant", "pad_width": "[(1, 1), (1, 1)]"}, [(2, 3)]),
    "RNN": ({"state_size": "5", "num_layers": "1", "mode": "gru"}, [(3, 2, 4), (165,), (1, 2, 5)]),
    "_npx_rnn": (
        {"state_size": "5", "num_layers": "1", "mode": "gru", "use_sequence_length": "True"},
        [(3, 2, 4), (165,), (1, 2, 5), (2,)],
    ),
    "Deconvolution": ({"kernel": "(2, 2)", "num_filter": "2"}, [IMAGE, (2, 2, 2, 2)]),
    "Convolution": ({"kernel": "(2, 2)", "num_filter": "2", "no_bias": "True"}, [IMAGE, (2, 2, 2, 2)]),
    "_contrib_DeformableConvolution": (
        {"kernel": "(2, 2)", "num_filter": "2", "no_bias": "True"},
        [IMAGE, (1, 8, 3, 3), (2, 2, 2, 2)],
    ),
    "_contrib_ModulatedDeformableConvolution": (
        {"kernel": "(2, 2)", "num_filter": "2", "no_bias": "True"},
        [IMAGE, (1, 8, 3, 3), (1, 4, 3, 3), (2, 2, 2, 2)],
    ),
    "_contrib_count_sketch": ({"out_dim": "4"}, [(2, 3), (1, 3), (1, 3)]),
    "_contrib_hawkesll": ({}, [(2, 3), (3,), (3,), (2, 3), (2, 5), (2, 5), (2,), (2,)]),
    "_histogram": ({"bin_cnt": "4", "range": "(0.0, 1.0)"}, [(5,)]),
    "_npi_bincount": ({}, [(5,)]),
    "batch_take": ({}, [(3, 4), (3,)]),
    "_ravel_multi_index": ({"shape": "(3, 4)"}, [(2, 5)]),
    "_unravel_index": ({"shape": "(3, 4)"}, [(5,)]),
    "softmax": ({"use_length": "True"}, [(2, 4), (2,)]),
    "SequenceMask": ({"use_sequence_length": "True"}, [(3, 2, 4), (2,)]),
    "_contrib_interleaved_matmul_selfatt_qk": ({"heads": "2"}, [(3, 2, 24)]),
    "_contrib_interleaved_matmul_selfatt_valatt": ({"heads": "2"}, [(3, 2, 24), (4, 3, 3)]),
    "_contrib_interleaved_matmul_encdec_qk": ({"heads": "2"}, [(3, 2, 8), (3, 2, 16)]),
    "_contrib_interleaved_matmul_encdec_valatt": ({"heads": "2"}, [(3, 2, 16), (4, 3, 3)]),
    "take": ({}, [(4, 3), (5,)]),
    "Embedding": ({"input_dim": "4", "output_dim": "3"}, [(5,), (4, 3)]),
    "_contrib_SparseEmbedding": ({"input_dim": "4", "output_dim": "3"}, [(5,), (4, 3)]),
    "gather_nd": ({}, [(3, 4), (2, 5)]),
    "_contrib_boolean_mask": ({}, [(4, 3), (4,)]),
    "pick": ({}, [(3, 4), (3,)]),
    "one_hot": ({"depth": "4"}, [(5,)]),
    "UpSampling": ({"scale": "2", "sample_type": "nearest", "num_args": "1"}, [IMAGE]),
    "_contrib_BilinearResize2D": ({"height": "3", "width": "3"}, [IMAGE]),
    "_contrib_AdaptiveAvgPooling2D": ({"output_size": "(2, 2)"}, [IMAGE]),
    "col2im": ({"output_size": "(4, 4)", "kernel": "(2, 2)"}, [(1, 8, 9)]),
    "im2col": ({"kernel": "(2, 2)"}, [IMAGE]),
    "Pooling": ({"kernel": "(2, 2)"}, [IMAGE]),
    "_npi_einsum": ({"num_args": "2", "subscripts": "ij,jk->ik"}, [(2, 3), (3, 4)]),
    "_np_moveaxis": ({"source": "(0, )", "destination": "(1, )"}, [(2, 3)]),
    "_np_roll": ({"shift": "(1, )", "axis": "(0, )"}, [(2, 3)]),
    "_npi_rot90": ({"k": "1", "axes": "(0, 1)"}, [(2, 3)]),
    "_npi_insert_scalar": ({"int_ind": "1", "val": "1", "axis": "0"}, [(4,)]),
    "_npi_insert_tensor": ({"axis": "0"}, [(4,), (2,), (2,)]),
    "_npi_insert_slice": ({"start": "0", "stop": "2", "step": "1", "val": "1", "axis": "0"}, [(4,)]),
    "_npi_delete": ({"axis": "0"}, [(4,), (2,)]),
    "_npi_choice": ({"a": "4", "size": "(3, )", "replace": "True"}, []),
    "_npi_boolean_mask_assign_scalar": ({"value": "1"}, [(4, 3), (4,)]),
    "_npi_boolean_mask_assign_tensor": ({}, [(4,), (4,), (1,)]),
    "_npi_tensordot": ({"a_axes_summed": "(1, )", "b_axes_summed": "(0, )"}, [(2, 3), (3, 4)]),
    "broadcast_to": ({"shape": "(2, 3)"}, [(1, 3)]),
    "slice_like": ({}, [(4, 5), (2, 3)]),
    "_slice_assign": ({"begin": "(0, )", "end": "(1, )"}, [(2, 3), (1, 3)]),
    "_slice_assign_scalar": ({"begin": "(0, )", "end": "(1, )"}, [(2, 3)]),
    "_image_crop": ({"x": "1", "y": "1", "width": "2", "height": "2"}, [(4, 4, 3)]),
    "_image_normalize": ({}, [(3, 4, 4)]),
    "_image_resize": ({"size": "(3, 3)"}, [(4, 4, 3)]),
    "_image_random_lighting": ({}, [(4, 4, 3)]),
    "_image_random_hue": ({"min_factor": "0", "max_factor": "1"}, [(4, 4, 3)]),
    "_image_adjust_lighting": ({"alpha": "(1, 1, 1)"}, [(4, 4, 3)]),
    "_random_pdf_normal": ({}, [(2, 3), (2,), (2,)]),
    "_random_pdf_dirichlet": ({}, [(2, 3), (3,)]),
    "softmax_cross_entropy": ({}, [(3, 4), (3,)]),
    "khatri_rao": ({"num_args": "2"}, [(2, 3), (4, 3)]),
    "_linalg_gemm": ({}, [(2, 3), (3, 4), (2, 4)]),
    "_linalg_trmm": ({}, [(3, 3), (3, 4)]),
    "_linalg_extracttrian": ({}, [(3, 3)]),
    "_linalg_maketrian": ({}, [(6,)]),
    "_linalg_makediag": ({}, [(3,)]),
    "_linalg_extractdiag": ({}, [(3, 3)]),
    "BatchNorm": ({}, [IMAGE, (2,), (2,), (2,), (2,)]),
    "LRN": ({"nsize": "3"}, [IMAGE]),
    "SoftmaxOutput": ({}, [(3, 4), (3,)]),
    "SVMOutput": ({}, [(3, 4), (3,)]),
    "_split_v2": ({"indices": "(1, )", "axis": "1"}, [(2, 3)]),
    "topk": ({"k": "2"}, [(2, 3)]),
    "Reshape": ({"shape": "(3, 2)"}, [(2, 3)]),
    "sample_multinomial": ({}, [(2, 3)]),
    "_sample_unique_zipfian": ({"range_max": "4", "shape": "(2, )"}, []),
    "_contrib_dgl_adjacency": ({}, [(3, 3)]),
    "_contrib_edge_id": ({}, [(3, 3), (2,), (2,)]),
    "_contrib_calibrate_entropy": ({"num_quantized_bins": "5"}, [(11,), (12,)]),
}
"""Operators whose inputs have peculiar shapes: attributes and shapes that they take."""
LIMIT = 2 << 30


def parts(kind):
    """The choices of an enumeration."""
    return [part.strip(" '") for part in kind[kind.index("{") + 1 : kind.index("}")].split(",")]


def hostile(kind, draw):
    """An attribute's value that its type allows, and that may be far from sensible."""
    if "{" in kind:
        return draw.choice(parts(kind))
    if kind.startswith("tuple of <Shape"):
        return "[" + ", ".join(hostile("Shape", draw) for _ in range(draw.randint(0, 3))) + "]"
    if kind.startswith(("tuple of <long", "Shape")):
        length = draw.choice([0, 1, 1, 2, 2, 2, 3, 4, 4, 5, 6, 40])
        return "(" + "".join(draw.choice(NUMBERS) + ", " for _ in range(length)) + ")"
    if kind.startswith("tuple of"):
        return "(" + "".join(draw.choice(REALS) + ", " for _ in range(draw.choice([0, 1, 2, 4, 40]))) + ")"
    if kind.startswith("boolean"):
        return draw.choice(["True", "False"])
    if kind.startswith(("float", "double", "real_t")):
        return draw.choice(REALS)
    if kind.startswith(("int", "long")):
        return draw.choice([*NUMBERS, "3", "4"]).lstrip("-" if "non-negative" in kind else "")
    return draw.choice(WORDS)


def sensible(kind, draw):
    """A value for a required attribute that an operator may well take."""
    if "{" in kind:
        return draw.choice(parts(kind))
    if kind.startswith("tuple of <Shape"):
        return "[(1, ), (1, )]"
    if kind.startswith(("Shape", "tuple of")):
        return draw.choice(
            ["(1, )", "(2, 2)", "(0, 1)", "(1, 1)", "(2, 3, 4, 4)", "(1, 1, 1, 1, 1, 1, 1, 1)", "(4, 4)"]
        )
    if kind.startswith("boolean"):
        return draw.choice(["True", "False"])
    if kind.startswith("string"):
        return "ij,jk->ik"
    return draw.choice(["1", "1", "2", "0", "3"]) if kind.startswith(("int", "long")) else draw.choice(["0.5", "1"])


def typical(name, kinds, draw):
    """Attributes and shapes that the operator takes, but for up to two attributes."""
    attributes, shapes = dict(TYPICAL[name][0]), list(TYPICAL[name][1])
    free = [each for each, kind in kinds.items() if not kind.startswith(("NDArray", "Symbol"))]
    for each in draw.sample(free, min(len(free), draw.choice([0, 0, 0, 1, 1, 2]))):
        attributes[each] = hostile(kinds[each], draw)
    return attributes, shapes


def trial(mx, name, draw):
    """A node's attributes, and the shapes of its inputs."""
    about = mx.operator.get_operator_arguments(name)
    if name in TYPICAL and draw.random() < 0.8:
        return typical(name, dict(zip(about.names, about.types, strict=True)), draw)
    inputs, attributes, several = 0, {}, False
    for argument, kind in zip(about.names, about.types, strict=True):
        if kind.startswith(("NDArray", "Symbol")) or (not kind[0].isalpha() and not kind.startswith("{")):
            several = several or "[]" in kind
            inputs += 1
            continue
        required = "required" in kind or "optional" not in kind
        if required:
            attributes[argument] = sensible(kind, draw)
        if draw.random() < (0.3 if required else 0.25):
            attributes[argument] = hostile(kind, draw)
    if several:
        inputs += draw.choice([0, 0, 1, 2, 3])
        for count in ("num_args", "num_arrays", "num_weights", "num_tensors"):
            if count in about.names:
                attributes[count] = str(inputs)
    if draw.random() < 0.2:
        inputs = max(0, inputs - draw.choice([1, 1, 2, 3]))
    return attributes, inputs


def fitting(mx, name, attributes, inputs, draw):
    """Shapes of the inputs that the operator takes, if any are found."""
    if isinstance(inputs, list):
        fit = list(inputs)
        if fit and draw.random() < 0.2:
            fit[draw.randrange(len(fit))] = draw.choice([*SHAPES, (7,), (2,), (1, 1)])
        return fit
    from trainer.model import graph
    from trainer.model.attributes import check_attributes
    from trainer.model.operators import _handle

    try:
        check_attributes(name, attributes, "")
        create = mx.symbol._internal._symbol_creator
        auto = create(_handle(name), [], {}, list(attributes), list(attributes.values()), "n", False)
        children = auto.get_children()
        count = 0 if children is None else len(children)
        if count <= 100 and draw.random() < 0.93:
            inputs = count
    except Exception:
        pass
    variables = [mx.sym.var(f"x{number}") for number in range(inputs)]
    first = draw.sample(SHAPES, len(SHAPES))
    tries = itertools.islice(first, 6)
    node = None
    for shape in tries:
        if not inputs:
            return []
        try:
            check_attributes(name, attributes, "")
            node = node or graph._operator(
                mx, graph._Node(op=name, name="n", inputs=[[0, 0]] * inputs, attrs=attributes), variables
            )
            found, _, more = node.infer_shape_partial(x0=shape)
        except Exception:
            continue
        names = [*node.list_arguments(), *node.list_auxiliary_states()]
        known = dict(zip(names, [*(found or ()), *(more or ())], strict=False))
        fit = [tuple(known.get(f"x{each}") or draw.choice(SHAPES)) or (1,) for each in range(inputs)]
        if draw.random() < 0.3:
            fit[draw.randrange(inputs)] = draw.choice([*SHAPES, (7,), (2,), (1, 1)])
        return fit
    common = draw.choice(SHAPES)
    return [draw.choice([common, common, *SHAPES]) for _ in range(inputs)]


def attempt(mx, path, name, attributes, shapes, draw, say):
    """Reads one symbol and, unless it is refused, computes it. Returns how far it came."""
    from trainer import UsageError
    from trainer.model.graph import read_symbol

    variables = [{"op": "null", "name": f"x{number}", "inputs": []} for number in range(len(shapes))]
    node = {"op": name, "name": "n", "attrs": attributes, "inputs": [[number, 0, 0] for number in range(len(shapes))]}
    path.write_text(json.dumps({"nodes": [*variables, node], "heads": [[len(shapes), 0, 0]]}))
    known = {f"x{number}": shape for number, shape in enumerate(shapes)}
    try:
        symbol = read_symbol(path, known)
    except UsageError as error:
        return "refused", str(error)
    for _ in range(2):
        values = [draw.choice(VALUES) for _ in shapes]
        kinds = [draw.choice(["float32", "float32", "float32", "int32", "int64"]) for _ in shapes]
        if draw.random() < 0.6:
            kinds = ["float32"] * len(shapes)
        say({"op": name, "attrs": attributes, "shapes": shapes, "values": values, "kinds": kinds})
        try:
            given = {}
            for (variable, shape), value, kind in zip(known.items(), values, kinds, strict=True):
                given[variable] = mx.nd.full(shape, value, dtype="float64").astype(kind)
                if draw.random() < 0.6:
                    mixed = [draw.choice([0, 0, 1, 1, 2, 3, -1, 3, *VALUES]) for _ in range(math.prod(shape))]
                    given[variable] = mx.nd.array(mixed, dtype="float64").reshape(shape).astype(kind)
            arguments = {each: given[each] for each in symbol.list_arguments()}
            states = {each: given[each] for each in symbol.list_auxiliary_states()}
            bound = symbol.bind(mx.cpu(), args=arguments, aux_states=states, grad_req="null")
            for each in bound.forward(is_train=False):
                each.asnumpy()
            mx.nd.waitall()
        except Exception as error:
            last = "failed", str(error)
        else:
            return "computed", ""
    return last


def main():
    given = argparse.ArgumentParser()
    given.add_argument("log", type=Path)
    given.add_argument("--rounds", type=int, default=ROUNDS)
    given.add_argument("--seed", type=int, default=0)
    given.add_argument("--first", type=int, default=0)
    given.add_argument("--only", nargs="*")
    given.add_argument("--part", default="0/1")
    given.add_argument("--skip", nargs="*", default=[])
    options = given.parse_args()
    os.environ.setdefault("MXNET_ENGINE_TYPE", "NaiveEngine")
    from trainer.model.operators import known, why_refused
    from trainer.mxnet import mx

    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    if not os.environ.get("NO_LIMIT"):
        resource.setrlimit(resource.RLIMIT_AS, (used + LIMIT, used + LIMIT))
    which, of = map(int, options.part.split("/"))
    names = options.only or [name for name in sorted(known()) if not why_refused(name)][which::of]
    path = options.log.with_suffix(".json")
    counts = {}
    with options.log.open("a") as log:

        def say(what):
            log.write(json.dumps(what) + "\n")
            log.flush()

        trials = list(itertools.product(range(options.rounds), names))
        for number, (each, name) in enumerate(trials):
            if number < options.first or name in options.skip:
                continue
            draw = random.Random(f"{options.seed} {name} {each}")
            attributes, inputs = trial(mx, name, draw)
            say({"trial": number, "op": name, "attrs": attributes, "inputs": inputs})
            shapes = fitting(mx, name, attributes, inputs, draw)
            say({"shapes": shapes})
            began = time.monotonic()
            how, why = attempt(mx, path, name, attributes, shapes, draw, say)
            counts[how] = counts.get(how, 0) + 1
            say({"how": how, "why": why[:200]})
            if time.monotonic() - began > ENOUGH_SECONDS:
                say({"slow": time.monotonic() - began, "op": name})
    print(counts)


if __name__ == "__main__":
    main()
