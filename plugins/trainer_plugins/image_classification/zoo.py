"""Nets of GluonCV's model zoo: by name, with weights from a file or a download, wholly or partly frozen."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trainer.errors import UsageError, did_you_mean, first_line, listed

log = logging.getLogger("trainer")

OTHER_TASKS = re.compile(
    r"^(ssd|faster_rcnn|doublehead|mask_rcnn|custom|yolo3|fcn|psp|deeplab|icnet|fastscnn|danet|simple_pose|alpha_pose|"
    r"mobile_pose|center_net|siamrpn|monodepth2|i3d|c3d|p3d|r2plus1d|slowfast)_"
    r"|_(kinetics\d+|ucf101|hmdb51|sthsthv2|custom)(_int8)?$|_int8$|^hrnet_.*_s$"
)
"""Names of nets of the zoo that detect, segment, track or look at films, and of quantized ones, which do not train."""
NOT_BY_ONEDNN = ("nasnet_4_1056",)
"""Its 44 channels are no multiple of 8, and oneDNN fails on slices of them: "could not construct a sub-memory"."""
PRUNED = re.compile(r"resnet\d+_v1[bd]_0\.\d+$")
SIZES = {"cifar_": 32, "inceptionv3": 299, "xception": 299, "nasnet_": 331}
"""What a net was made for, by how its name begins; 224 for all others."""


def import_zoo() -> Any:
    """`gluoncv.model_zoo`. Raises UsageError where it cannot be had."""
    import trainer.mxnet  # noqa: F401  GluonCV needs what it mends of numpy

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
    """The height and width of the images that a net was made for."""
    return next((size for beginning, size in SIZES.items() if _plain(model).startswith(_plain(beginning))), 224)


def find_name(model: str) -> str:
    """The name as the zoo has it, which `model` may write with other capitals, hyphens and underscores.

    Raises UsageError for one that the zoo does not have, or that classifies no images.
    """
    names = import_zoo().get_model_list()
    known = [name for name in names if not OTHER_TASKS.search(name)]
    for name in known:
        if _plain(name) == _plain(model):
            return str(name)
    if model in names:
        raise UsageError(
            f"{model!r} is not for training a classification of images",
            where="--model",
            fix=f"Nets that are: {listed(sorted(known), 8)}.",
        )
    fix = did_you_mean(model, known)
    closest = sorted(known, key=lambda name: _distance(name, model))[:6]
    raise UsageError(
        f"GluonCV's model zoo has no {model!r}", where="--model", fix=f"{fix} Close: {listed(closest)}.".strip()
    )


def _plain(name: str) -> str:
    """MobileNet_v3-small and mobilenetv3_small are the same: users remember words, not where zoos put underscores."""
    return re.sub(r"[-_]", "", name.lower())


def _distance(name: str, model: str) -> float:
    from difflib import SequenceMatcher

    return -SequenceMatcher(None, name, model).ratio()


def build(model: str, classes: int, *, weights: Path | None, freeze: str) -> tuple[Any, list[str]]:
    """The net, with what `weights` has of it, and lines about that. Raises UsageError."""
    net = _construct(model, classes)
    # Names without a counter of the process: a checkpoint's and a model's must be the same in every process.
    lines = [] if weights is None else _load(net, model, weights)
    if freeze:
        lines.append(_freeze(net, freeze))
    return net, lines


def _construct(model: str, classes: int) -> Any:
    """The net with as many outputs as classes, and nothing else; the zoo's functions differ in how they are told."""
    get_model = import_zoo().get_model
    if model.startswith("hrnet_"):
        return get_model(model, num_classes=classes)
    if model.startswith("nasnet_"):
        # The second output, of its training on ImageNet, is for a loss that no other net has.
        return get_model(model, classes=classes, use_aux=False)
    if model.endswith("_gn"):
        from trainer_plugins.image_classification.group_norm import SymbolicGroupNorm

        return get_model(model.removesuffix("_gn"), classes=classes, norm_layer=SymbolicGroupNorm)
    # Some need to be told that, and look for it themselves.
    net = get_model(model, classes=classes, pretrained=False)
    if PRUNED.match(model):
        for parameter in net.fc.collect_params().values():
            # 1000, whatever the function was asked for; the property takes no other figure.
            parameter._shape = (classes, *parameter.shape[1:])  # noqa: SLF001
    return net


def pretrained_file(model: str) -> Path:
    """GluonCV's own weights, downloaded where they are not in ~/.mxnet/models yet. Raises UsageError."""
    import_zoo()
    from gluoncv.model_zoo import model_store

    try:
        return Path(model_store.get_model_file(model))
    except Exception as error:
        known = _has_weights(model_store, model)
        # Errors of a connection tell everything that was tried.
        reason = type(error).__name__ if isinstance(error, OSError) else first_line(error)
        raise UsageError(
            f"the weights of {model} cannot be downloaded ({reason})"
            if known
            else f"GluonCV has no weights of {model}",
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
    """Sets the parameters that the file has in the right shape; the rest is for the initializer."""
    from trainer.mxnet import mx

    try:
        found = mx.nd.load(str(path))
    except (mx.MXNetError, OSError) as error:
        raise UsageError("it is no file of MXNet's parameters", where=str(path)) from error
    if not isinstance(found, dict) or not found:
        raise UsageError("it holds no named parameters", where=str(path))
    values = _named(net, {re.sub(r"^(arg|aux):", "", name): array for name, array in found.items()})
    own = net._collect_params_with_prefix()  # noqa: SLF001  the names that save_parameters writes
    fitting = {name: array for name, array in values.items() if name in own and _fits(own[name].shape, array.shape)}
    if not fitting:
        raise UsageError(
            f"none of its {len(values)} arrays is one of {model}'s",
            where=str(path),
            fix="They have to be of the same net, saved by save_parameters, export or a run's model.",
        )
    for name, array in fitting.items():
        own[name].shape = array.shape
        own[name].initialize(init=mx.init.Constant(array), ctx=mx.cpu(), force_reinit=True)
        own[name].set_data(array)
    left = sorted(set(own) - set(fitting))
    lines = [f"{path.name}: {len(fitting)} of the net's {len(own)} parameters are from it"]
    if left:
        lines.append(f"begun anew: {listed(left, 6)}")
    return lines


def _fits(own: Any, given: tuple[int, ...]) -> bool:
    """Whether shapes agree; 0 stands for what is not known yet."""
    return own is None or (len(own) == len(given) and all(a in (0, b) for a, b in zip(own, given, strict=True)))


def _named(net: Any, found: Mapping[str, Any]) -> Mapping[str, Any]:
    """By structural names, whatever of Gluon's two kinds of names the file has."""
    own = net._collect_params_with_prefix()  # noqa: SLF001
    if set(own) & set(found):
        return found
    short = {parameter.name.removeprefix(net.prefix): name for name, parameter in own.items()}
    named = {}
    for name, array in found.items():
        # The net of the process that wrote it had a prefix with another number.
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
    """Leaves out of training whatever parameter's name begins as the expression says."""
    try:
        pattern = re.compile(freeze)
    except re.error as error:
        raise UsageError(f"{freeze!r} is no regular expression: {error}", where="--freeze") from error
    own = net._collect_params_with_prefix()  # noqa: SLF001
    frozen = [name for name in own if pattern.match(name)]
    beginnings = sorted({name.partition(".")[0] for name in own})
    if not frozen:
        raise UsageError(
            f"no parameter's name begins like {freeze!r}",
            where="--freeze",
            fix=f"They begin with {listed(beginnings)}; all are like {listed(own, 3)}.",
        )
    trained = [name for name in own if name not in frozen and own[name].grad_req != "null"]
    if not trained:
        raise UsageError(
            f"{freeze!r} leaves nothing to train", where="--freeze", fix=f"Names begin with {listed(beginnings)}."
        )
    for name in frozen:
        own[name].grad_req = "null"
    for path, block in _blocks(net, ""):
        # A frozen normalisation keeps its running statistics, too, and uses them: its weights were trained for them.
        if type(block).__name__.startswith("BatchNorm") and pattern.match(f"{path}gamma"):
            block._kwargs["use_global_stats"] = True  # noqa: SLF001  Gluon has no public way to set it later
    return f"frozen: {len(frozen)} of {len(own)} parameters"


def _blocks(block: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, block
    for name, child in block._children.items():  # noqa: SLF001  the names that parameters' paths are made of
        yield from _blocks(child, f"{path}{name}.")
