"""The settings that every run has, whatever its task; checked by pydantic, written to and read from TOML."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import ErrorDetails

from trainer.config.given import Given
from trainer.config.sizes import bytes_of
from trainer.devices import FORMS, parse
from trainer.errors import UsageError, choose_from, did_you_mean, first_line
from trainer.reading import free_memory, is_deep, read_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FLAGS = {
    "optimizer": ("optimizer", "name"),
    "learning-rate": ("optimizer", "learning-rate"),
    "weight-decay": ("optimizer", "weight-decay"),
}
"""Common options that belong to a table of the configuration."""


def full_name(option: str) -> str:
    """The full name of an option, as `--set` takes it: `learning-rate` → `optimizer.learning-rate`."""
    return ".".join(FLAGS.get(option, (option,)))


OPTIMIZER = "optimizer"
"""The solver that is none: an optimizer takes a step per batch."""
PENALTIES = ("weight-decay", "decay-bias")
"""The optimizer's settings that any solver obeys."""
ORDER = ("order", "block-rows", "window-blocks")
"""The settings of the order of training rows."""
SHORTEST_TIMEOUT_SECONDS = 5.0
"""The least `rank-timeout`: on a busy machine a living process may be silent for seconds."""
NO_KVSTORE = "No kvstore is used: --devices names the devices, mpirun -n the processes, and the engine sums over both."
"""For people who know MXNet's own way to train on several devices."""


def kebab(name: str) -> str:
    """`batch_size` → `batch-size`: the form of options, TOML keys and plugin names."""
    return name.replace("_", "-")


class OptimizerSettings(BaseModel):
    """Any optimizer that MXNet registers; further keys, such as `momentum` or `beta1`, are passed on to it."""

    model_config = ConfigDict(extra="allow", alias_generator=kebab, populate_by_name=True, frozen=True)

    name: str = "sgd"
    learning_rate: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    decay_bias: bool = True
    """Whether biases decay too, as with `gluon.Trainer`; without, they are a second group of parameters, which costs a
    second update per step."""

    def build(self, places: Mapping[str, str] | None = None) -> Any:
        """The MXNet optimizer.

        `places` says where each setting was given, by its kebab-case name; it is `[optimizer]` for the others. Raises
        UsageError, naming the place, for a name or an argument that MXNet does not have.
        """
        from trainer.mxnet import mx

        places = places or {}
        where = places.get("name", "[optimizer]")
        registry = {name: cls for name, cls in mx.optimizer.Optimizer.opt_registry.items() if name != "test"}
        cls = registry.get(self.name.lower())
        if cls is None:
            raise UsageError(
                f"MXNet has no optimizer {self.name!r}",
                where=where,
                fix=choose_from(self.name, sorted(registry), limit=99),
            )
        ours = {"wd", "learning_rate", "lr_scheduler", "param_dict", "param_idx2name", "rescale_grad"}
        known = {kebab(name): default for name, default in _arguments(cls).items() if name not in ours}
        arguments = {}
        for field, value in (self.model_extra or {}).items():
            name = kebab(field)
            _check_argument(self.name, name, value, known, where=places.get(name, "[optimizer]"))
            arguments[name.replace("-", "_")] = value
        if self.learning_rate is not None:
            arguments["learning_rate"] = self.learning_rate
        try:
            return cls(wd=self.weight_decay, **arguments)
        except (TypeError, ValueError, AssertionError, mx.MXNetError) as error:
            raise UsageError(f"{self.name} cannot be made: {first_line(error)}", where=where) from error


def _arguments(cls: type) -> dict[str, Any]:
    """The arguments of the constructors of a class and its bases, with their defaults."""
    return {
        name: parameter.default
        for base in reversed(cls.__mro__[:-1])
        if "__init__" in vars(base)
        for name, parameter in inspect.signature(base.__init__).parameters.items()  # type: ignore[misc]
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) and name != "self"
    }


def _check_argument(optimizer: str, name: str, value: Any, known: Mapping[str, Any], where: str) -> None:
    """Raises UsageError for an argument that the optimizer does not have, and for a value of another kind.

    `known` are its arguments with their defaults. MXNet would notice a wrong kind at the first update, or never: any
    text counts as true.
    """
    if name not in known and "kvstore" in name:
        raise UsageError(f"there is no option {name!r}", where=where, fix=NO_KVSTORE)
    if name not in known:
        fix = choose_from(name, sorted(known), limit=99)
        raise UsageError(f"{optimizer} has no argument {name!r}", where=where, fix=fix)
    default = known[name]
    if isinstance(default, bool):
        fits, kind = isinstance(value, bool), "true or false"
    elif isinstance(default, (int, float)):
        fits, kind = isinstance(value, (int, float)) and not isinstance(value, bool), "a number"
    else:
        fits, kind = isinstance(default, str) or not isinstance(value, str), "a number"
    if not fits:
        raise UsageError(f"{value!r} does not fit {name!r}: it should be {kind}", where=where)


def scalar(value: Any) -> Any:
    """The number or boolean that a text from the command line spells, otherwise the value as it is."""
    if not isinstance(value, str):
        return value
    words = {"true": True, "false": False, "none": None}
    if value.lower() in words:
        return words[value.lower()]
    for convert in (int, float):
        try:
            return convert(value)
        except ValueError:
            continue
    return value


class Settings(BaseModel):
    """The settings of every run. Their names in kebab-case are the flags, the TOML keys and the keys of `--set`."""

    model_config = ConfigDict(extra="forbid", alias_generator=kebab, populate_by_name=True, frozen=True)

    epochs: Annotated[int, Field(ge=1, description="Passes over the training rows.")]
    batch_size: Annotated[int, Field(ge=1, description="Rows per step, over all devices and processes together.")]
    solver: Annotated[
        Literal["optimizer", "lbfgs"],
        Field(
            description="What finds the weights: steps of the optimizer over batches, or, for rows in memory, L-BFGS "
            "over all of them, with an iteration per epoch."
        ),
    ] = "optimizer"
    devices: Annotated[str, Field(description=f"Where to compute: {FORMS}.")] = "cpu"
    micro_batches: Annotated[
        Annotated[int, Field(ge=1)] | None,
        Field(description="Parts in which each batch is computed: gives the same results on any number of devices."),
    ] = None
    seed: Annotated[int, Field(ge=0, lt=2**31, description="The seed of all random numbers.")]
    steps: Annotated[
        Annotated[int, Field(ge=1)] | None,
        Field(description="Stop after this many batches, in as many epochs as that takes unless epochs are given too."),
    ] = None
    onednn: Annotated[
        Literal["auto", "on", "off"],
        Field(description="Whether the CPU computes with oneDNN; auto: not if a step is small."),
    ] = "auto"
    threads: Annotated[
        int | str,
        Field(description="Threads that the CPU computes with; auto: more than one if a step is large."),
    ] = "auto"
    rank_timeout: Annotated[
        float,
        Field(
            ge=SHORTEST_TIMEOUT_SECONDS,
            allow_inf_nan=False,
            description="With several processes: seconds without a sign of life after which one is lost, while others "
            f"wait for it; at least {SHORTEST_TIMEOUT_SECONDS:g}.",
        ),
    ] = 600.0
    memory: Annotated[
        str,
        Field(
            description="How much memory the rows of tables, and the scores of an evaluation, may take on this "
            "machine: a size such as 4GB; auto: half of what is free. It decides the order of a new run if that is "
            "auto, and nothing else about results."
        ),
    ] = "auto"
    order: Annotated[
        Literal["auto", "rows", "windows"],
        Field(
            description="The order of training rows: one permutation of all rows, or windows: blocks of rows permuted, "
            "and the rows within some blocks at a time. auto: rows if they fit into --memory and no size of blocks is "
            "given. Decided when a run starts, and kept."
        ),
    ] = "auto"
    block_rows: Annotated[
        Annotated[int, Field(ge=1)] | None,
        Field(description="Rows of a block, for the order windows; about 512 KiB of rows if it is not given."),
    ] = None
    window_blocks: Annotated[
        Annotated[int, Field(ge=1)] | None,
        Field(description="Blocks of a window, for the order windows; about 256 MiB of rows if it is not given."),
    ] = None
    optimizer: OptimizerSettings = OptimizerSettings()

    @field_validator("devices")
    @classmethod
    def _devices(cls, value: str) -> str:
        parse(value)
        return value

    @field_validator("threads")
    @classmethod
    def _threads(cls, value: int | str) -> int | str:
        if value == "auto":
            return value
        if not str(value).isdecimal() or int(value) < 1:
            raise UsageError(f"{value!r} is not a thread count", where="--threads", fix="Use an integer ≥ 1 or auto.")
        return int(value)

    @field_validator("memory")
    @classmethod
    def _memory(cls, value: str) -> str:
        if value != "auto":
            bytes_of(value, where="--memory", also=", or auto")
        return value

    def memory_bytes(self, processes: int = 1) -> int:
        """The bytes that `memory` allows each of so many processes on this machine, now."""
        whole = free_memory() // 2 if self.memory == "auto" else bytes_of(self.memory, where="--memory")
        return whole // processes

    @classmethod
    def checked(cls, values: Mapping[str, Any]) -> Settings:
        """The settings from plain values. Raises UsageError for the first that does not fit."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise usage_error(error, known=known_keys()) from error

    @classmethod
    def of(cls, given: Mapping[str, Given], optimizer: Mapping[str, Given]) -> Settings:
        """The settings and the optimizer's from given values, by their kebab-case names.

        Raises UsageError for the first that does not fit, naming the place where it was given.
        """
        values: dict[str, Any] = {name: each.value for name, each in given.items()}
        values["optimizer"] = {name: each.value for name, each in optimizer.items()}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            key, *deeper = map(str, first["loc"])
            wrong = optimizer.get(deeper[0]) if key == "optimizer" and deeper else given.get(key)
            if wrong is None:
                raise usage_error(error, known=known_keys()) from error
            raise UsageError(_misfit(first), where=wrong.where) from error
        except UsageError as error:
            # A setting that has a syntax of its own, such as --devices, complains as its flag.
            wrong = given.get(error.where.removeprefix("--"))
            raise UsageError(error.what, where=wrong.where if wrong else error.where, fix=error.fix) from error

    def to_toml(self) -> dict[str, Any]:
        """Plain values for a TOML file; None is left out, since TOML has no null, and what means nothing."""
        values = self.model_dump(by_alias=True, exclude_none=True, mode="json")
        if self.order == "auto":
            # Decided when a run starts, for rows that the engine orders.
            del values["order"]
        if self.solver != OPTIMIZER:
            for name in ("batch-size", *ORDER):
                values.pop(name, None)
            values["optimizer"] = {name: values["optimizer"][name] for name in PENALTIES}
        return values

    def order_to_toml(self) -> dict[str, Any]:
        """What `to_toml` has of the order of the rows: nothing until it is decided, and for rows in their own order."""
        return {name: value for name, value in self.to_toml().items() if name in ORDER}


def known_keys() -> list[str]:
    """The names of the common settings, `optimizer.learning-rate` included."""
    optimizer = [f"optimizer.{kebab(name)}" for name in OptimizerSettings.model_fields]
    return [kebab(name) for name in Settings.model_fields if name != "optimizer"] + optimizer


def usage_error(error: ValidationError, *, known: list[str], where: str = "") -> UsageError:
    """Pydantic's first complaint as a UsageError: which key, what is wrong with its value, what was probably meant."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if isinstance(part, str) and "[" not in part)
    if first["type"] == "extra_forbidden":
        fix = NO_KVSTORE if "kvstore" in key else choose_from(key, known, label="Known", limit=99)
        return UsageError(f"there is no option {key!r}", where=where, fix=fix)
    if first["type"] == "missing":
        return UsageError(f"{key!r} is missing" if key else f"{first['input']!r} has too few values", where=where)
    return UsageError(_misfit(first), where=f"{where}: {key}" if where and key else where or key)


def _misfit(complaint: ErrorDetails) -> str:
    message = complaint["msg"].replace("Input should be", "it should be").removeprefix("Value error, ")
    return f"{complaint['input']!r} does not fit: {message}"


def read_config(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises UsageError for a file that is missing, that is not TOML, or that has a value in place of a table.
    """
    try:
        config: dict[str, Any] = tomllib.loads(read_text(path))
    except FileNotFoundError:
        siblings = [other.name for other in path.parent.glob("*.toml")] if path.parent.is_dir() else []
        fix = did_you_mean(path.name, siblings) or "Check the path."
        raise UsageError("there is no such file", where=str(path), fix=fix) from None
    except (ValueError, RecursionError) as error:
        # Also for numbers of thousands of digits, and tables within tables within tables.
        reason = (
            "it is nested too deep" if isinstance(error, RecursionError) else f"it is not TOML: {first_line(error)}"
        )
        raise UsageError(reason, where=str(path)) from error
    if is_deep(config):
        raise UsageError("it is nested too deep", where=str(path))
    tables = {name: config.get(name, {}) for name in ("task", "optimizer", "plugins")}
    if isinstance(tables["plugins"], dict):
        tables |= {f"plugins.{name}": given for name, given in tables["plugins"].items()}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise UsageError(f"{name!r} is not a table", where=str(path), fix=f"Write it as [{name}].")
    return config
