"""Nets of GluonCV's model zoo: by name, with weights from a file or a download, wholly or partly frozen."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trainer.errors import UsageError, did_you_mean, first_line, listed
from trainer.model import read_parameters

log = logging.getLogger("trainer")

OTHER_TASKS = re.compile(
    r"^(ssd|faster_rcnn|doublehead|mask_rcnn|custom|yolo3|fcn|psp|deeplab|icnet|fastscnn|danet|simple_pose|alpha_pose|"
    r"mobile_pose|center_net|siamrpn|monodepth2|i3d|c3d|p3d|r2plus1d|slowfast)_"
    r"|_(kinetics\d+|ucf101|hmdb51|sthsthv2|custom)(_int8)?$|_int8$|^hrnet_.*_s$"
)
"""Names of nets that detect, segment, track or classify videos, and of quantized nets, which cannot be trained."""
NOT_BY_ONEDNN = ("nasnet_4_1056",)
"""Its 44 channels are not a multiple of 8, and oneDNN fails on slices of them: "could not construct a sub-memory"."""
PRUNED = re.compile(r"resnet\d+_v1[bd]_0\.\d+$")
SIZES = {"cifar_": 32, "inceptionv3": 299, "xception": 299, "nasnet_": 331}
"""The input size of nets by the prefix of their names; 224 for all others."""


def import_zoo() -> Any:
    """`gluoncv.model_zoo`. Raises UsageError if it cannot be imported."""
    import trainer.mxnet  # noqa: F401  GluonCV needs its numpy fixes

    try:
        from gluoncv import model_zoo
    except ImportError as error:
        missing = error.name == "gluoncv"
        raise UsageError(
            "GluonCV is not installed" if missing else f"GluonCV cannot be imported: {error}",
            where="image-classification",
            fix='Install the extra: pip install "gluon-trainer[vision]".',
        ) from error
    return model_zoo


def size_of(model: str) -> int:
    """The usual height and width of a net's images."""
    return next((size for beginning, size in SIZES.items() if _plain(model).startswith(_plain(beginning))), 224)


def find_name(model: str) -> str:
    """The zoo's spelling of `model`, which may differ in capitals, hyphens and underscores.

    Raises UsageError if the zoo does not have the net, or if it does not classify images.
    """
    names = import_zoo().get_model_list()
    known = [name for name in names if not OTHER_TASKS.search(name)]
    for name in known:
        if _plain(name) == _plain(model):
            return str(name)
    if model in names:
        raise UsageError(
            f"{model!r} is not a net for image classification",
            where="--model",
            fix=f"Nets for it: {listed(sorted(known), 8)}.",
        )
    fix = did_you_mean(model, known)
    closest = sorted(known, key=lambda name: _distance(name, model))[:6]
    raise UsageError(
        f"GluonCV's model zoo has no {model!r}", where="--model", fix=f"{fix} Close: {listed(closest)}.".strip()
    )


def _plain(name: str) -> str:
    """The name without hyphens and underscores: MobileNet_v3-small and mobilenetv3_small are the same net."""
    return re.sub(r"[-_]", "", name.lower())


def _distance(name: str, model: str) -> float:
    from difflib import SequenceMatcher

    return -SequenceMatcher(None, name, model).ratio()


def build(model: str, classes: int, *, weights: Path | None, freeze: str) -> tuple[Any, list[str]]:
    """The net with the matching parameters of `weights`, and lines about them. Raises UsageError."""
    net = _construct(model, classes)
    lines = [] if weights is None else _load(net, model, weights)
    if freeze:
        lines.append(_freeze(net, freeze))
    return net, lines


def _construct(model: str, classes: int) -> Any:
    """The net with one output per class; the zoo's functions differ in their arguments."""
    get_model = import_zoo().get_model
    if model.startswith("hrnet_"):
        return get_model(model, num_classes=classes)
    if model.startswith("nasnet_"):
        # Its auxiliary output is for a loss of its training on ImageNet that no other net has.
        return get_model(model, classes=classes, use_aux=False)
    if model.endswith("_gn"):
        from trainer_plugins.image_classification.group_norm import SymbolicGroupNorm

        return get_model(model.removesuffix("_gn"), classes=classes, norm_layer=SymbolicGroupNorm)
    # Some of the functions require `pretrained`.
    net = get_model(model, classes=classes, pretrained=False)
    if PRUNED.match(model):
        for parameter in net.fc.collect_params().values():
            # It is 1000 for any `classes`, and the property does not accept another number.
            parameter._shape = (classes, *parameter.shape[1:])  # noqa: SLF001
    return net


def pretrained_file(model: str) -> Path:
    """GluonCV's weights, downloaded if they are not in ~/.mxnet/models yet. Raises UsageError."""
    import_zoo()
    from gluoncv.model_zoo import model_store

    try:
        return Path(model_store.get_model_file(model))
    except Exception as error:
        known = _has_weights(model_store, model)
        # Messages of connection errors list every attempt.
        reason = type(error).__name__ if isinstance(error, OSError) else first_line(error)
        raise UsageError(
            f"the weights of {model} cannot be downloaded ({reason})"
            if known
            else f"GluonCV has no weights for {model}",
            where="--pretrained",
            fix="Give a file of parameters with --init-params FILE"
            + (", or put the file into ~/.mxnet/models." if known else ", or choose another net."),
        ) from error


def _has_weights(store: Any, model: str) -> bool:
    try:
        store.short_hash(model)
    except ValueError:
        return False
    return True


def _load(net: Any, model: str, path: Path) -> list[str]:
    """Sets the parameters that the file has in the right shape; the initializer sets the rest."""
    from trainer.mxnet import mx

    values = _named(net, read_parameters(path))
    own = net._collect_params_with_prefix()  # noqa: SLF001  the names that save_parameters writes
    fitting = {name: array for name, array in values.items() if name in own and _fits(own[name].shape, array.shape)}
    if not fitting:
        raise UsageError(
            f"none of its {len(values)} arrays belongs to {model}",
            where=str(path),
            fix="Use parameters of the same net, saved by save_parameters, export or a run's model.",
        )
    for name, array in fitting.items():
        own[name].shape = array.shape
        own[name].initialize(init=mx.init.Constant(array), ctx=mx.cpu(), force_reinit=True)
        own[name].set_data(array)
    left = sorted(set(own) - set(fitting))
    lines = [f"{path.name}: it sets {len(fitting)} of the net's {len(own)} parameters"]
    if left:
        lines.append(f"newly initialized: {listed(left, 6)}")
    return lines


def _fits(own: Any, given: tuple[int, ...]) -> bool:
    """Whether shapes agree; 0 stands for an unknown size."""
    return own is None or (len(own) == len(given) and all(a in (0, b) for a, b in zip(own, given, strict=True)))


def _named(net: Any, found: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arrays by structural names, for either kind of Gluon's names in the file."""
    own = net._collect_params_with_prefix()  # noqa: SLF001
    if set(own) & set(found):
        return found
    short = {parameter.name.removeprefix(net.prefix): name for name, parameter in own.items()}
    named = {}
    for name, array in found.items():
        # The net that wrote the file had a prefix with another number.
        matched = next((short[end] for end in _ends(name) if end in short), None)
        if matched is not None:
            named[matched] = array
    return named or found


def _ends(name: str) -> Iterator[str]:
    yield name
    while "_" in name:
        name = name.partition("_")[2]
        yield name


def _freeze(net: Any, freeze: str) -> str:
    """Freezes the parameters whose names start with a match of the expression."""
    try:
        pattern = re.compile(freeze)
    except re.error as error:
        raise UsageError(f"{freeze!r} is not a regular expression: {error}", where="--freeze") from error
    own = net._collect_params_with_prefix()  # noqa: SLF001
    frozen = [name for name in own if pattern.match(name)]
    beginnings = sorted({name.partition(".")[0] for name in own})
    if not frozen:
        raise UsageError(
            f"no parameter's name starts with {freeze!r}",
            where="--freeze",
            fix=f"Names start with {listed(beginnings)}; for example {listed(own, 3)}.",
        )
    trained = [name for name in own if name not in frozen and own[name].grad_req != "null"]
    if not trained:
        raise UsageError(
            f"{freeze!r} leaves nothing to train", where="--freeze", fix=f"Names start with {listed(beginnings)}."
        )
    for name in frozen:
        own[name].grad_req = "null"
    for path, block in _blocks(net, ""):
        # A frozen normalisation also keeps and uses its running statistics: its weights were trained with them.
        if type(block).__name__.startswith("BatchNorm") and pattern.match(f"{path}gamma"):
            block._kwargs["use_global_stats"] = True  # noqa: SLF001  Gluon has no public way to set it later
    return f"frozen: {len(frozen)} of {len(own)} parameters"


def _blocks(block: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, block
    for name, child in block._children.items():  # noqa: SLF001  the names that parameters' paths are made of
        yield from _blocks(child, f"{path}{name}.")
