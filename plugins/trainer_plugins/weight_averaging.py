"""Averages the weights during training, and evaluates and keeps the average."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import is_
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from trainer import Phase, Plugin, Run


@dataclass
class WeightAveraging(Plugin):
    """Keeps an average of the weights: exponential over steps, or the plain mean over epochs (stochastic averaging).

    Evaluations and the final net use the average unless the options say otherwise; training continues with the weights
    themselves. BatchNorm's running statistics are averaged too. Costs a few additions over all weights and a second
    copy of them; it never waits for the device.
    """

    kind: Annotated[
        Literal["exponential", "stochastic"],
        Field(description="The kind of average: recent weights count more, or all count the same."),
    ] = "exponential"
    decay: Annotated[
        float, Field(gt=0, lt=1, description="For exponential: the share of the average that each update keeps.")
    ] = 0.999
    every: Annotated[
        int, Field(ge=0, description="Updates between two additions; 0: every update, or every epoch for stochastic.")
    ] = 0
    start_from_epoch: Annotated[int, Field(ge=1, description="The first epoch whose weights count.")] = 1
    evaluate: Annotated[bool, Field(description="Whether evaluations use the average.")] = True
    keep: Annotated[bool, Field(description="Whether the run ends with the average.")] = True

    phase = Phase.TRANSFORM
    alters = ("steps",)
    logs = ()

    def __post_init__(self) -> None:
        self._average: list[Any] = []
        self._count = 0
        self._updates = self._epoch = 0
        self._saved: list[Any] = []
        self._weights: Sequence[Any] = ()
        self._additions: list[Any] = []
        self._memory: list[Any] = []
        self._groups = 0

    def on_setup(self, run: Run) -> None:
        from trainer.mxnet import mx

        for value, weight in zip(self._saved, run.moving_weights, strict=False):
            self._average.append(mx.nd.array(value, ctx=weight.context, dtype=value.dtype))
        self._offer(run)

    def on_batch_end(self, run: Run) -> None:
        """Adds the weights after an update, if it is their turn."""
        if self.kind == "stochastic" and not self.every:
            if run.last_batch:
                self._add_epoch(run)
        elif run.updates != self._updates and run.epoch >= self.start_from_epoch:
            self._updates = run.updates
            if run.updates % (self.every or 1) == 0:
                self._add(run)

    def on_epoch_end(self, run: Run) -> None:
        """Adds an epoch's weights, if its last batch was not known to be the last."""
        self._add_epoch(run)

    def on_fit_end(self, run: Run) -> None:
        """Makes the average the net's weights; evaluating the test split then needs no exchange."""
        if self.keep and self._average and run.status in ("finished", "stopped"):
            run.exchange_weights(self._average)
            run.evaluation_weights = None

    def state_dict(self) -> Mapping[str, Any]:
        return {"average": self._average, "count": self._count, "updates": self._updates, "epoch": self._epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._saved, self._count = state["average"], state["count"]
        self._updates, self._epoch = state["updates"], state["epoch"]

    def _add_epoch(self, run: Run) -> None:
        """Adds an epoch's last weights, once."""
        by_epochs = self.kind == "stochastic" and not self.every
        if by_epochs and self._epoch != run.epoch and run.epoch >= self.start_from_epoch:
            self._epoch = run.epoch
            self._add(run)

    def _add(self, run: Run) -> None:
        is_prepared = self._memory and run.gradients.on_host and len(run.gradients.arrays) == self._groups
        # Asking for the weights takes as long as adding them. There are new ones if a parameter is trained at last.
        weights = self._weights if is_prepared else run.moving_weights
        self._groups = len(run.gradients.arrays)
        if not self._average:
            self._average = [weight.copy() for weight in weights]
            self._count = 1
            self._offer(run)
            return
        self._count += 1
        share = self._share()
        # A parameter that is trained only from now on comes last.
        self._average += [weight.copy() for weight in weights[len(self._average) :]]
        if len(weights) != len(self._weights) or not all(map(is_, weights, self._weights)):
            self._prepare(weights)
        if run.gradients.on_host:
            self._add_on_host(share)
            return
        for addition in self._additions:
            addition.having(share, 1.0, -1.0)

    def _add_on_host(self, share: float) -> None:
        """The same, computed by numpy: the step of a small net takes no other time."""
        from trainer.calls import memory_of, wait_for_all

        wait_for_all()
        if not self._memory:
            pairs = zip(self._average, self._weights, strict=True)
            self._memory = [(memory_of(average), memory_of(weight)) for average, weight in pairs]
            self._memory = [(*pair, np.empty_like(pair[0])) for pair in self._memory]
        for average, weight, difference in self._memory:
            np.subtract(weight, average, difference)
            np.multiply(difference, np.float32(share), difference)
            np.add(average, difference, average)

    def _prepare(self, weights: Sequence[Any]) -> None:
        """Prepares the calls that add weights: average - share · (average - weight), in one operation."""
        from trainer.calls import Call

        self._weights, self._memory = weights, []
        self._additions = [
            Call("sgd_update", [average, weight], average, lr=0.0, wd=1.0, rescale_grad=-1.0)
            for average, weight in zip(self._average, weights, strict=True)
        ]

    def _share(self) -> float:
        """The share of the newest weights.

        Exponential: 1 - min(decay, (1 + n) / (10 + n)) at the n-th addition, as TensorFlow's ExponentialMovingAverage
        does, so that the first steps are soon forgotten. Stochastic: 1 / n (Izmailov et al. 2018).
        """
        if self.kind == "stochastic":
            return 1 / self._count
        return 1 - min(self.decay, (1 + self._count) / (10 + self._count))

    def _offer(self, run: Run) -> None:
        if self.evaluate and self._average:
            run.evaluation_weights = self._average
