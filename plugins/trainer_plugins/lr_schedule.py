"""Changes the learning rate during a run."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from trainer import Phase, Plugin, Run, UsageError
from trainer.errors import did_you_mean, listed
from trainer_plugins.overruled import Rate

Mode = Literal["auto", "min", "max"]

log = logging.getLogger("trainer")

OF_GLUONCV = ("gluoncv-constant", "gluoncv-step", "gluoncv-linear", "gluoncv-poly", "gluoncv-cosine")
"""`gluoncv.utils.LRScheduler` in each of its modes."""
SHAPES = ("constant", "step", "multi-step", "polynomial", "cosine", "one-cycle", "plateau", *OF_GLUONCV)

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass
class LearningRateSchedule(Plugin):
    """Sets the learning rate of every step: one shape, or several in sequence, after an optional linear warm-up.

    Lengths are in epochs or steps, rates are fractions of the run's learning rate. `schedule=cosine` spans the rest of
    the run after the warm-up; `schedule=constant:2,cosine:8` is two epochs of one, then eight of the other. The shapes
    use MXNet's schedulers if it has them; names with `gluoncv-` are GluonCV's, and need the extra `vision`. The newest
    rate is logged as `learning-rate` each epoch.
    """

    schedule: Annotated[
        tuple[str, ...],
        Field(min_length=1, description=f"Shapes in sequence, each NAME or NAME:LENGTH: {', '.join(SHAPES)}."),
    ] = ("cosine",)
    unit: Annotated[
        Literal["epochs", "steps"], Field(description="The unit of lengths, warmup, every and milestones.")
    ] = "epochs"
    warmup: Annotated[float, Field(ge=0, description="The length of a linear warm-up at the start.")] = 0.0
    warmup_from: Annotated[Share, Field(description="Where the warm-up starts, as a fraction of the rate.")] = 0.0
    final: Annotated[Share, Field(description="Where falling shapes end, as a fraction of the rate.")] = 0.0
    factor: Annotated[
        float, Field(gt=0, lt=1, description="What step, multi-step, gluoncv-step and plateau multiply the rate by.")
    ] = 0.1
    every: Annotated[Positive, Field(description="For step: the length between two changes.")] = 10.0
    milestones: Annotated[
        tuple[Positive, ...], Field(description="For multi-step and gluoncv-step: when the rate changes.")
    ] = ()
    power: Annotated[Positive, Field(description="For polynomial and gluoncv-poly: the power.")] = 2.0
    rise: Annotated[float, Field(gt=0, lt=1, description="For one-cycle: the fraction of it that rises.")] = 0.3
    start: Annotated[Share, Field(description="For one-cycle: where it starts, as a fraction of the rate.")] = 0.04
    monitor: Annotated[str, Field(description="For plateau: the metric to watch, by its logged name.")] = (
        "validation/loss"
    )
    mode: Annotated[Mode, Field(description="For plateau: whether lower or higher is better.")] = "auto"
    patience: Annotated[int, Field(ge=1, description="For plateau: epochs without an improvement.")] = 3
    min_delta: Annotated[float, Field(ge=0, description="For plateau: by how much a value has to improve.")] = 0.0

    phase = Phase.TRANSFORM
    alters = ("steps",)
    logs = ("learning-rate",)

    def __post_init__(self) -> None:
        """Parses the sequence, so that a mistake in it is reported at once."""
        self._parts = [_part(entry) for entry in self.schedule]
        for name, length in self._parts[:-1]:
            if length is None:
                raise ValueError(f"{name!r} is followed by another shape, so it needs a length, as in {name}:5")
        stepped = [name for name, _ in self._parts if name in ("multi-step", "gluoncv-step")]
        if stepped and not self.milestones:
            raise ValueError(f"{stepped[0]} needs milestones, as in --set lr-schedule.milestones=10,15")
        self._base: float | None = None
        self._rate = Rate()
        self._scale = 1.0
        self._best: float | None = None
        self._waited = 0

    def watches(self) -> Mapping[str, Mode]:
        return {self.monitor: self.mode} if any(name == "plateau" for name, _ in self._parts) else {}

    def on_setup(self, run: Run) -> None:
        """Lays the shapes out over the steps of the run."""
        per_unit = 1 if self.unit == "steps" else run.steps_per_epoch
        if per_unit is None:
            raise UsageError(
                "the data does not say how many batches an epoch has",
                where=f"plugin {self.name!r}",
                fix=f"Count in steps: --set {self.name}.unit=steps.",
            )
        self._warmup_steps = round(self.warmup * per_unit)
        self._warmup: Callable[[int], float] = self._rise
        if self._warmup_steps and self._parts[0][0] in OF_GLUONCV:
            self._warmup = self._of_gluoncv("linear", self._warmup_steps, per_unit, self.warmup_from, 1.0)
        lengths = [run.settings.steps, run.epochs * run.steps_per_epoch if run.steps_per_epoch else None]
        total = min((length for length in lengths if length), default=1)
        begin = self._warmup_steps
        self._segments: list[tuple[int, Callable[[int], float]]] = []
        for name, length in self._parts:
            steps = max(1, total - begin) if length is None else max(1, round(length * per_unit))
            self._segments.append((begin, self._shape(name, steps, per_unit)))
            begin += steps
        if self._warmup_steps >= total or self._segments[-1][0] >= total:
            log.warning("%s: the run has %d steps, too few to reach every part of the schedule.", self.name, total)

    def on_batch_begin(self, run: Run) -> None:
        """Sets the rate of this step: a function of its number and, for plateau, of the metric so far.

        The run's learning rate is that before the first step, so `on_fit_begin` of another plugin may choose it.
        """
        if self._base is None:
            self._base = run.learning_rate
        self._rate.put(run, self._rate_at(run.step))

    def on_epoch_end(self, run: Run) -> None:
        """Logs the rate, and checks for a plateau."""
        run.log({"learning-rate": run.learning_rate})
        if self._part_at(run.step - 1) == "plateau":
            self._watch(run)

    def state_dict(self) -> Mapping[str, Any]:
        return {"base": self._base, "scale": self._scale, "best": self._best, "waited": self._waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._base, self._scale = state["base"], state["scale"]
        self._best, self._waited = state["best"], state["waited"]

    def _rate_at(self, step: int) -> float:
        assert self._base is not None  # noqa: S101  on_setup made sure
        done = step - 1
        if done < self._warmup_steps:
            return self._base * self._warmup(done)
        begin, shape = next(segment for segment in reversed(self._segments) if segment[0] <= done)
        return self._base * shape(done - begin) * self._scale

    def _rise(self, done: int) -> float:
        return self.warmup_from + (1 - self.warmup_from) * done / self._warmup_steps

    def _part_at(self, done: int) -> str:
        """The name of the current shape after `done` steps; empty during the warm-up."""
        if done < self._warmup_steps:
            return ""
        number = max(number for number, (begin, _) in enumerate(self._segments) if begin <= done)
        return self._parts[number][0]

    def _shape(self, name: str, steps: int, per_unit: int) -> Callable[[int], float]:
        """The rate as a fraction of the run's own, as a function of the steps done out of `steps`."""
        from trainer.mxnet import mx

        if name == "step":
            size = max(1, round(self.every * per_unit))
            # MXNet's FactorScheduler changes one step late and only counts up; the rule is one line.
            return lambda done: float(self.factor ** (done // size))
        if name == "multi-step":
            marks = [round(mark * per_unit) for mark in self.milestones]
            return lambda done: float(self.factor ** sum(done >= mark for mark in marks))
        if name == "polynomial":
            scheduler = mx.lr_scheduler.PolyScheduler(steps, base_lr=1.0, pwr=self.power, final_lr=self.final)
            return lambda done: float(scheduler(min(done, steps)))
        if name == "cosine":
            scheduler = mx.lr_scheduler.CosineScheduler(steps, base_lr=1.0, final_lr=self.final)
            return lambda done: float(scheduler(min(done, steps)))
        if name == "one-cycle":
            return lambda done: self._one_cycle(done, steps)
        if name in OF_GLUONCV:
            return self._of_gluoncv(name.removeprefix("gluoncv-"), steps, per_unit, 1.0, self.final)
        return lambda _: 1.0

    def _of_gluoncv(self, mode: str, steps: int, per_unit: int, begin: float, end: float) -> Callable[[int], float]:
        """GluonCV's scheduler, which ends with the last of its steps. Raises UsageError without GluonCV."""
        import trainer.mxnet  # noqa: F401  GluonCV needs what it restores of numpy

        try:
            from gluoncv.utils import LRScheduler
        except ImportError as error:
            raise UsageError(
                "GluonCV's schedules need GluonCV, which "
                + ("is not installed" if error.name == "gluoncv" else f"cannot be imported: {error}"),
                where=f"plugin {self.name!r}",
                fix='Install the extra: pip install "gluon-trainer[vision]"; or use one of '
                f"{listed([shape for shape in SHAPES if shape not in OF_GLUONCV], 9)}.",
            ) from error
        if steps == 1:
            return lambda _: begin  # GluonCV would divide by zero
        marks = [round(mark * per_unit) for mark in self.milestones]
        scheduler = LRScheduler(
            mode,
            base_lr=begin,
            target_lr=end,
            niters=steps,
            power=self.power,
            step_iter=marks,
            step_factor=self.factor,
        )
        return lambda done: float(scheduler(done))

    def _one_cycle(self, done: int, steps: int) -> float:
        """Up from `start` and down to `final`, both along half a cosine (Smith 2018, with cosine flanks).

        The last of the steps, `steps` - 1, has the final rate.
        """
        peak, last = self.rise * steps, steps - 1
        if done < peak and (done < last or not last):
            low, part = self.start, done / peak
        else:
            low, part = self.final, (last - done) / (last - peak) if last > peak else 0.0
        return low + (1 - low) * (1 - math.cos(math.pi * max(0.0, min(1.0, part)))) / 2

    def _watch(self, run: Run) -> None:
        value = run.monitored(self.monitor) * run.sign(self.monitor, self.mode)
        if self.monitor not in run.epoch_metrics:
            return  # the value of an earlier epoch, which was checked then
        if not math.isfinite(value):
            value = -math.inf
        if self._best is None or value > self._best + self.min_delta:
            self._best, self._waited = value, 0
            return
        self._waited += 1
        if self._waited >= self.patience:
            self._scale *= self.factor
            self._waited = 0


def _part(entry: str) -> tuple[str, float | None]:
    """`cosine:8` → (`cosine`, 8.0); raises ValueError for anything that is not a shape."""
    match = re.fullmatch(r"([a-z-]+)(?::(\d+(?:\.\d+)?))?", entry)
    if match is None or match[1] not in SHAPES:
        name = entry.partition(":")[0]
        raise ValueError(
            f"{entry!r} is not a shape. {did_you_mean(name, SHAPES)} They are: {listed(SHAPES)}".replace("  ", " ")
        )
    if match[2] is not None and float(match[2]) == 0:
        raise ValueError(f"{entry!r} has no length")
    return match[1], None if match[2] is None else float(match[2])
