"""What plugins change on the net and the optimizer while a run trains and the step cannot obey, such as a new layer.

Looking costs about 1 µs per step on a small net.
"""

from __future__ import annotations

import inspect
from operator import itemgetter
from typing import Any

from trainer.errors import ChangeError
from trainer.numbers import finite


class Layers:
    """The layers and parameters of net and loss, which cannot change once the step is built."""

    def __init__(self, *blocks: Any) -> None:
        self._registered: list[dict[str, Any]] = []
        for block in blocks:
            if hasattr(block, "collect_params"):
                block.apply(lambda each: self._registered.extend((each._children, each._reg_params)))  # noqa: SLF001
        self._counts = list(map(len, self._registered))
        self._seen = [dict(each) for each in self._registered]

    def check_counts(self) -> None:
        """Raises ChangeError if a layer was added or removed."""
        if list(map(len, self._registered)) != self._counts:
            self.check()

    def check(self) -> None:
        """Raises ChangeError if a layer or a parameter was added, removed or replaced."""
        for now, before in zip(self._registered, self._seen, strict=True):
            for name in now.keys() | before.keys():
                if now.get(name) is not before.get(name):
                    what = (
                        "has a new" if name not in before else "no longer has its" if name not in now else "has another"
                    )
                    kind = type(now.get(name, before.get(name))).__name__
                    raise ChangeError(
                        f"it {what} {kind} {name!r}, and what is trained is fixed once the step is built",
                        where="the net",
                        fix="Build all layers before training and freeze those that come later "
                        '(parameter.grad_req = "null"), or start another run with the changed net.',
                    )


class Numbers:
    """The numbers of an optimizer that plugins may set: its constructor's, such as `wd` and `momentum`."""

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer
        self._attributes = vars(optimizer)
        given = {
            name
            for cls in type(optimizer).__mro__
            if "__init__" in vars(cls)
            for name in inspect.signature(vars(cls)["__init__"]).parameters
        }
        self._names = [
            name
            for name, value in self._attributes.items()
            if name in (given | {"lr", "clip_gradient"}) - {"rescale_grad", "begin_num_update"}
            and (isinstance(value, (int, float)) or name == "clip_gradient")
            and not isinstance(value, bool)
        ]
        self._without = [name for name in self._names if name == "momentum" and not self._attributes[name]]
        self._get = itemgetter(*self._names, "lr", "wd")  # two more, so that there are always several
        self.remember()

    def remember(self) -> None:
        """Takes the present as seen."""
        self._seen = self._get(self._attributes)
        self.scale = self._optimizer.rescale_grad

    def check(self) -> None:
        """Raises ChangeError for a value that cannot be obeyed."""
        optimizer = self._optimizer
        if optimizer.rescale_grad is not self.scale:
            raise ChangeError(
                f"rescale_grad was set to {optimizer.rescale_grad!r}, but each update sets it anew",
                where="run.optimizer",
                fix="Set run.gradients.factor in on_backward_end, in every batch.",
            )
        if optimizer.lr_mult or optimizer.wd_mult:
            raise ChangeError(
                "multipliers of the optimizer (set_lr_mult, set_wd_mult) have no effect: those of the parameters count",
                where="run.optimizer",
                fix="Set lr_mult or wd_mult of the net's parameters: net.collect_params().setattr(…).",
            )
        if self._get(self._attributes) != self._seen:
            for name in self._names:
                self._check(name, self._attributes[name])
            self.remember()

    def _check(self, name: str, value: Any) -> None:
        if finite(value) is None and not (name == "clip_gradient" and value is None):
            shown = "learning_rate" if name == "lr" else name
            raise ChangeError(f"{shown} is {value!r}, not a finite number", where="run.optimizer", fix="Set a number.")
        if name in self._without and value:
            raise ChangeError(
                f"{name} is {value!r}, but the run began without, so the optimizer has no state for it",
                where="run.optimizer",
                fix=f"Start the run with optimizer.{name}={value!r}, and set run.optimizer.{name} = 0 in on_fit_begin "
                "until you need it.",
            )


def check_settings(name: str, parameter: Any) -> None:
    """Raises ChangeError for a setting of a parameter that cannot be obeyed."""
    where = f"the parameter {name}"
    if parameter.grad_req == "add":
        raise ChangeError(
            'its grad_req is "add", but the gradients of each batch are computed anew',
            where=where,
            fix='Leave it at "write". To add up the gradients of several batches, use a plugin that does, or keep the '
            "sum of run.gradients.arrays in one and call run.skip_update (trainer plugins list shows what is there).",
        )
    for setting in ("lr_mult", "wd_mult"):
        value = getattr(parameter, setting)
        if finite(value) is None:
            raise ChangeError(
                f"its {setting} is {value!r}, not a finite number", where=where, fix="Set a number, such as 0.5."
            )
