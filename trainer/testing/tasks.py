"""The promises of a task, each looked at in short real runs of it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.config.settings import kebab
from trainer.launch.launch import Launch
from trainer.launch.prepare import Request, prepare
from trainer.runs.state import differences
from trainer.task import Task
from trainer.testing.checks import (
    BrokenPromiseError,
    Check,
    check_declaration,
    check_import,
    check_options,
    class_of,
    demand,
    make_checks,
)
from trainer.testing.trials import KillAt, Trial, newest, quiet, train

STEPS = 12
BATCHES_LOOKED_AT = 50
TOLERANCE = 1e-4
"""Of differences, relative to the largest value: sums in another order round otherwise."""
PER_LABEL = ("SigmoidBinaryCrossEntropyLoss", "LogisticLoss", "HingeLoss", "SquaredHingeLoss")
"""Gluon's losses that compare one output with one label of two classes."""
REGRESSIONS = ("L1Loss", "L2Loss", "HuberLoss")


@dataclass(frozen=True)
class Subject:
    """A task under test, and settings that its runs are to have."""

    make: Callable[[], Task]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def launch(self, **values: Any) -> Launch:
        """A run of a few steps with the task's own settings and none of its plugins."""
        task = self.make()
        given = {
            "steps": STEPS,
            "epochs": 1000,
            **self.settings,
            **{kebab(name): each for name, each in values.items()},
        }
        return prepare(Request(task, options=given, without=list(task.defaults.plugins), runs_dir=None))

    def train(self, *, run_folder: Path | None = None, compiled: bool = True, **values: Any) -> Trial:
        """Trains a few steps. Raises BrokenPromiseError where that fails."""
        launch = self.launch(**values)
        trial = train(launch.task, launch.settings, [], run_folder=run_folder, compiled=compiled)
        return trial.borne(f"in a run with {_told(values)}" if values else "in a run")


def _told(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in values.items())


def task_checks(make: Callable[[], Task], **settings: Any) -> list[Check]:
    """The promises of a task as checks, each of which can be a test of its own.

    `make` gives a new task at each call: its class, or a function where it needs options. `settings` are those of
    `trainer.fit`, such as `batch_size`; the runs have 12 steps unless `steps` says otherwise.
    """
    return make_checks(PROMISES, Subject(make, {kebab(name): value for name, value in settings.items()}))


def check_task(make: Callable[[], Task], **settings: Any) -> dict[str, str]:
    """Holds a task to all of its promises, and returns the remarks by check.

    Takes what `task_checks` takes. Raises BrokenPromiseError, naming every promise that is broken.
    """
    return demand(task_checks(make, **settings))


# ---- the promises ----------------------------------------------------------------------------------------------------


def it_is_declared_as_the_engine_wants_it(subject: Subject) -> None:
    """It has a docstring, and options with help texts that hide no common one."""
    cls = class_of(subject.make)
    if not issubclass(cls, Task):
        raise BrokenPromiseError(f"{cls.__name__} does not derive from trainer.Task")
    check_declaration(cls)


def importing_it_does_not_import_mxnet(subject: Subject) -> str:
    """Its module can be imported without MXNet, so that help and mistakes in options answer at once."""
    return check_import(class_of(subject.make))


def options_go_through_toml_and_flags(subject: Subject) -> None:
    """Its options come back from a TOML file and from the texts of flags as they were."""
    check_options(subject.make)


def the_net_has_the_outputs_that_the_loss_wants(subject: Subject) -> str | None:
    """One output neuron where the loss wants one, and one a class where it wants those."""
    kind, outputs, labels = _outputs_and_labels(subject)
    if kind is None:
        return "the net has several outputs, or the loss is none of Gluon's: this was not looked at"
    each, wanted = int(np.prod(outputs.shape[1:])), int(np.prod(labels.shape[1:]))
    if kind in (*PER_LABEL, *REGRESSIONS) and each != wanted:
        raise BrokenPromiseError(
            f"{kind} compares each output with one label: the net gives {each} a row, and a row has {wanted} of "
            "those. End it with Dense(1) for one label"
        )
    if kind == "SoftmaxCrossEntropyLoss" and each < 2:
        raise BrokenPromiseError(
            "SoftmaxCrossEntropyLoss over one output is 0 whatever the net says: give it one output a class, or use "
            "SigmoidBinaryCrossEntropyLoss for two classes and one output"
        )
    return None


def labels_are_what_the_loss_wants(subject: Subject) -> str | None:
    """Labels in {0, 1} for a loss of two classes, in {0, …, classes − 1} for one of several."""
    kind, outputs, labels = _outputs_and_labels(subject)
    found = np.unique(labels)
    if kind in PER_LABEL:
        signed = _is_signed(subject)
        wanted = {-1.0, 1.0} if signed else {0.0, 1.0}
        if not set(found.tolist()) <= wanted:
            raise BrokenPromiseError(
                f"{kind} wants labels in {_values(sorted(wanted))}, and the data have {_values(found)}. Encode them "
                "in splits()"
            )
    elif kind == "SoftmaxCrossEntropyLoss" and labels.shape[1:] != outputs.shape[1:]:
        classes = outputs.shape[-1]
        if found.min() < 0 or found.max() >= classes or not np.equal(found, np.floor(found)).all():
            raise BrokenPromiseError(
                f"{kind} wants labels in 0 to {classes - 1}, since the net has {classes} outputs, and the data have "
                f"{_values(found)}. Encode them in splits()"
            )
    elif kind == "SoftmaxCrossEntropyLoss":
        sums = labels.sum(axis=-1)
        if found.min() < 0 or not np.allclose(sums, 1, atol=1e-4):
            raise BrokenPromiseError(
                f"{kind} wants labels that are probabilities, one a class, and the data have rows that add up to "
                f"{_values(np.unique(sums))}. Encode them in splits()"
            )
    else:
        return "the loss says nothing about the labels' values, so only that they are finite was looked at" + _finite(
            labels
        )
    return None


def two_runs_are_alike(subject: Subject) -> None:
    """The same seed gives the same rows, weights and figures."""
    with tempfile.TemporaryDirectory() as place:
        first, second = (subject.train(run_folder=Path(place) / "run" / str(number)) for number in range(2))
    found = differences(first.state, second.state)
    if found:
        raise BrokenPromiseError(
            f"the same run gave something else the second time: {', '.join(found[:5])}. Draw random numbers from a "
            "generator that is seeded with run.settings.seed"
        )


def compiled_and_recorded_steps_agree(subject: Subject) -> str | None:
    """The step that is bound as one symbol gives what autograd gives, up to rounding."""
    bound, recorded = subject.train(), subject.train(compiled=False)
    step = bound.run.engine_step
    assert step is not None  # noqa: S101
    if step.kind != "compiled":
        return f"the net cannot be bound ({step.why}), so there is one way to compute it"
    if step.draws_random_numbers:
        return "the net draws random numbers, which the two ways draw apart: this was not looked at"
    ways = "with the compiled step", "with the recorded one"
    try:
        _compare(bound, recorded, *ways)
    except BrokenPromiseError as error:
        # Deep nets that normalise make ten times as much of a rounding error with every step of their first ones.
        _compare(subject.train(steps=1), subject.train(steps=1, compiled=False), *ways)
        return f"they agree after one step; {error}, or what is rounding there has grown"
    return None


def metrics_do_not_depend_on_the_batch_size(subject: Subject) -> str | None:
    """The same weights get the same figures, however many rows an evaluation takes at a time."""
    whole = _evaluated(subject, None)
    rows = next((batches.rows for batches in (whole.run.validation, whole.run.test) if batches is not None), None)
    if rows is None:
        return "there is no split to evaluate of which it is known how many rows it has"
    sizes = {rows, ceil(rows / 3), *([7] if rows <= 7000 else [])}
    for size in sorted(sizes):
        other = _evaluated(subject, size)
        for name, value in whole.run.metrics.items():
            found = other.run.metrics.get(name, float("nan"))
            if not name.startswith("train/") and not _close(value, found):
                raise BrokenPromiseError(
                    f"{name} is {value:.6g}, and {found:.6g} in batches of {size}: count over all rows, as "
                    "trainer.metrics do, instead of averaging over batches as mx.metric.F1 does"
                )
    return None


def any_batch_size_trains(subject: Subject) -> None:
    """Batches of one row, of all rows, and a last one of a single row are trained."""
    train_split = subject.train(steps=1).run.train
    rows = train_split.rows if train_split is not None else None
    subject.train(batch_size=1, steps=3)
    if rows is not None and 2 < rows <= 5000:
        subject.train(batch_size=rows - 1, steps=2)
        subject.train(batch_size=rows + 1, steps=1)


def predictions_have_a_row_for_each_row(subject: Subject) -> str | None:
    """What metrics and predictions see is finite and has one entry a row."""
    run = subject.train(steps=1).run
    evaluation = run.evaluation
    if evaluation is None or not run.task.collect:
        return "nothing is evaluated, or predictions are not collected: this was not looked at"
    predictions, labels = evaluation.predictions, evaluation.labels
    if len(predictions) != len(labels):
        raise BrokenPromiseError(f"predictions() gave {len(predictions)} rows for {len(labels)} rows of labels")
    if not np.isfinite(predictions).all():
        raise BrokenPromiseError("predictions() gave what is not finite after one step")
    return None


def a_resumed_run_equals_one_that_never_stopped(subject: Subject) -> None:
    """Killed in the middle and resumed, it has the same weights and figures, bit for bit."""
    with tempfile.TemporaryDirectory() as place:
        whole, cut = Path(place) / "run" / "whole", Path(place) / "run" / "cut"
        straight = subject.train(run_folder=whole)
        middle = max(1, straight.run.step // 2)
        launch = subject.launch()
        train(launch.task, launch.settings, [], others=[KillAt(middle, at_epoch_end=False)], run_folder=cut)
        if newest(cut) is None:
            raise BrokenPromiseError(f"no checkpoint could be written at step {middle}")
        launch = subject.launch()
        again = train(launch.task, launch.settings, [], run_folder=cut, resume=True).borne("in a resumed run")
    found = differences(straight.state, again.state)
    if found:
        raise BrokenPromiseError(
            f"a run that was killed at step {middle} and resumed has something else in the end than one that never "
            f"stopped: {', '.join(found[:5])}. Whatever splits() and the net draw has to come from run.settings.seed"
        )


def several_devices_equal_one(subject: Subject) -> str | None:
    """Two contexts give the gradients, weights and figures of one, up to rounding."""
    from trainer.proofs.devices import compare

    with quiet():
        found = compare(subject.launch(devices="cpu:0,1"), steps=STEPS)
    for difference in found.differences:
        if not difference.is_small and not found.notes:
            raise BrokenPromiseError(
                f"on two contexts the {difference.kind} are others than on one: {difference.where} by "
                f"{difference.size:.2g}. The loss has to give one value a row"
            )
    return "; ".join(found.notes)


PROMISES: tuple[Callable[[Subject], str | None], ...] = (
    it_is_declared_as_the_engine_wants_it,
    importing_it_does_not_import_mxnet,
    options_go_through_toml_and_flags,
    the_net_has_the_outputs_that_the_loss_wants,
    labels_are_what_the_loss_wants,
    two_runs_are_alike,
    compiled_and_recorded_steps_agree,
    metrics_do_not_depend_on_the_batch_size,
    any_batch_size_trains,
    predictions_have_a_row_for_each_row,
    a_resumed_run_equals_one_that_never_stopped,
    several_devices_equal_one,
)
"""Every promise of a task, in the order in which they are looked at."""


# ---- how they look ---------------------------------------------------------------------------------------------------


def _outputs_and_labels(subject: Subject) -> tuple[str | None, NDArray[Any], NDArray[Any]]:
    """The name of Gluon's loss, the outputs for one row, and the training labels; no name where that says nothing.

    Nothing is trained: a net that does not fit its loss would not come so far.
    """
    from trainer.engine import Engine

    launch = subject.launch()
    with quiet():
        run = Engine(launch.task, launch.settings).run
        assert run.train is not None  # noqa: S101
        labels = [
            shard.label.asnumpy()
            for batch in islice(run.train.epoch(1), BATCHES_LOOKED_AT)
            for shard in batch.shards
            if shard.rows
        ]
        outputs = run.net(*run.train.sample())
        kind = type(run.task.loss()).__name__
    if isinstance(outputs, (list, tuple)) or kind not in (*PER_LABEL, *REGRESSIONS, "SoftmaxCrossEntropyLoss"):
        return None, np.empty(0), np.concatenate(labels)
    return kind, outputs.asnumpy(), np.concatenate(labels)


def _is_signed(subject: Subject) -> bool:
    loss: Any = subject.make().loss()
    return "Hinge" in type(loss).__name__ or getattr(loss, "_label_format", "") == "signed"


def _evaluated(subject: Subject, size: int | None) -> Trial:
    """One step, and the evaluation behind it, so many rows at a time."""
    launch = subject.launch(steps=1)
    if size is not None:
        launch.task.evaluation_batch_size = size  # type: ignore[misc]
    return train(launch.task, launch.settings, []).borne("in a run")


def _compare(first: Trial, second: Trial, one: str, other: str) -> None:
    for name, value in first.run.copy_weights().items():
        theirs = second.run.copy_weights()[name]
        apart = float(np.abs(value - theirs).max(initial=0.0)) / max(1.0, float(np.abs(theirs).max(initial=0.0)))
        if not apart <= TOLERANCE:
            raise BrokenPromiseError(
                f"after {first.run.step} steps {one} the weights {name} differ by {apart:.2g} from those {other}: "
                "hybrid_forward has to do the same with symbols as with arrays"
            )
    for name, figure in first.run.metrics.items():
        found = second.run.metrics.get(name, float("nan"))
        if not _close(figure, found):
            raise BrokenPromiseError(f"{name} is {figure:.6g} {one}, and {found:.6g} {other}")


def _close(first: float, second: float) -> bool:
    return bool(np.isclose(first, second, rtol=TOLERANCE, atol=1e-6, equal_nan=True))


def _finite(labels: NDArray[Any]) -> str:
    if not np.isfinite(labels).all():
        raise BrokenPromiseError("the labels are not all finite")
    return ""


def _values(found: Sequence[float] | NDArray[Any]) -> str:
    shown = [f"{value:g}" for value in found[:6]]
    return "{" + ", ".join(shown) + (", …" if len(found) > 6 else "") + "}"


__all__ = ["PROMISES", "check_task", "task_checks"]
