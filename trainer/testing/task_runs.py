"""Checks that a task's runs give the same result if they are repeated, resumed or computed in another way."""

from __future__ import annotations

import tempfile
from math import ceil
from pathlib import Path

import numpy as np

from trainer.errors import UsageError, listed
from trainer.runs.state import differences
from trainer.testing.checks import BrokenPromiseError
from trainer.testing.task_subject import STEPS, Subject
from trainer.testing.trials import KillAt, Trial, newest, quiet, train

TOLERANCE = 1e-4
"""Allowed difference relative to the largest value: the order of a sum changes its rounding."""


def two_runs_are_the_same(subject: Subject) -> None:
    """The same seed gives the same rows, weights and metrics."""
    with tempfile.TemporaryDirectory() as place:
        first, second = (subject.train(run_folder=Path(place) / "run" / str(number)) for number in range(2))
    found = differences(first.state, second.state)
    if found:
        raise BrokenPromiseError(
            f"the same run gave a different result the second time: {listed(found, 5)}. Draw random numbers from a "
            "generator that is seeded with run.settings.seed"
        )


def compiled_and_recorded_steps_agree(subject: Subject) -> str | None:
    """The compiled step, bound as one symbol, gives the same result as autograd, up to rounding."""
    bound, recorded = subject.train(), subject.train(compiled=False)
    step = bound.step
    if step.kind != "compiled":
        return f"the net cannot be bound ({step.why}), so it can only be recorded: not checked"
    if step.draws_random_numbers:
        return "the net draws random numbers, and the two steps draw different ones: not checked"
    ways = "with the compiled step", "with the recorded one"
    try:
        _compare(bound, recorded, *ways)
    except BrokenPromiseError as error:
        # In a deep net with normalisation, rounding errors grow tenfold in each of the first steps.
        _compare(subject.train(steps=1), subject.train(steps=1, compiled=False), *ways)
        return f"they agree after one step; {error}, or the rounding error has grown"
    return None


def metrics_do_not_depend_on_the_batch_size(subject: Subject) -> str | None:
    """The same weights give the same metrics, whatever the batch size of the evaluation."""
    whole = _evaluated(subject, None)
    rows = next((batches.rows for batches in (whole.run.validation, whole.run.test) if batches is not None), None)
    if rows is None:
        return "no evaluated split has a known number of rows"
    sizes = {rows, ceil(rows / 3), *([7] if rows <= 7000 else [])}
    for size in sorted(sizes):
        other = _evaluated(subject, size)
        for name, value in whole.run.metrics.items():
            found = other.run.metrics.get(name, float("nan"))
            if not name.startswith("train/") and not _close(value, found):
                raise BrokenPromiseError(
                    f"{name} is {value:.6g}, but {found:.6g} in batches of {size}: count over all rows, as "
                    "trainer.metrics do, instead of averaging over batches as mx.metric.F1 does"
                )
    return None


def any_batch_size_trains(subject: Subject) -> None:
    """Batches of one row, of all rows, and a last batch of a single row can be trained."""
    train_split = subject.train(steps=1).run.train
    rows = train_split.rows if train_split is not None else None
    subject.train(batch_size=1, steps=3)
    if rows is not None and 2 < rows <= 5000:
        subject.train(batch_size=rows - 1, steps=2)
        subject.train(batch_size=rows + 1, steps=1)


def predictions_have_a_row_for_each_row(subject: Subject) -> str | None:
    """Predictions are finite and have one entry per row."""
    run = subject.train(steps=1).run
    evaluation = run.evaluation
    if evaluation is None or not run.task.collect:
        return "nothing is evaluated, or predictions are not collected: not checked"
    predictions, labels = evaluation.predictions, evaluation.labels
    if len(predictions) != len(labels):
        raise BrokenPromiseError(f"predictions() returned {len(predictions)} rows for {len(labels)} rows of labels")
    if not np.isfinite(predictions).all():
        raise BrokenPromiseError("predictions() returned values that are not finite after one step")
    return None


def a_resumed_run_equals_an_uninterrupted_one(subject: Subject) -> None:
    """Killed in the middle and resumed, the run ends with the same weights and metrics, bit for bit."""
    with tempfile.TemporaryDirectory() as place:
        whole, cut = Path(place) / "run" / "whole", Path(place) / "run" / "cut"
        straight = subject.train(run_folder=whole)
        middle = max(1, straight.run.step // 2)
        launch = subject.launch()
        train(launch.task, launch.settings, [], others=[KillAt(middle, at_epoch_end=False)], run_folder=cut)
        if newest(cut) is None:
            raise BrokenPromiseError(f"no checkpoint could be written at step {middle}")
        launch = subject.launch()
        try:
            again = train(launch.task, launch.settings, [], run_folder=cut, resume=True).survived("in a resumed run")
        except UsageError as error:
            # Such as other rows than before.
            raise BrokenPromiseError(f"a run killed at step {middle} and resumed is refused: {error}") from error
    found = differences(straight.state, again.state)
    if found:
        raise BrokenPromiseError(
            f"a run killed at step {middle} and resumed ends in a different state from one that never stopped: "
            f"{listed(found, 5)}. All random numbers of splits() and the net have to come from run.settings.seed"
        )


def several_devices_equal_one(subject: Subject) -> str | None:
    """Two contexts give the gradients, weights and metrics of one, up to rounding."""
    from trainer.proofs.devices import compare

    with quiet():
        found = compare(subject.launch(devices="cpu:0,1"), steps=STEPS)
    for difference in found.differences:
        if not difference.is_small and not found.notes:
            raise BrokenPromiseError(
                f"on two contexts the {difference.kind} differ from those on one: {difference.where} by "
                f"{difference.size:.2g}. The loss has to return one value per row"
            )
    return "; ".join(found.notes)


def _evaluated(subject: Subject, size: int | None) -> Trial:
    """Trains one step, and evaluates in batches of `size` rows."""
    launch = subject.launch(steps=1)
    if size is not None:
        launch.task.evaluation_batch_size = size  # type: ignore[misc]
    return train(launch.task, launch.settings, []).survived("in a run")


def _compare(first: Trial, second: Trial, one: str, other: str) -> None:
    for name, value in first.run.copy_weights().items():
        theirs = second.run.copy_weights()[name]
        apart = float(np.abs(value - theirs).max(initial=0.0)) / max(1.0, float(np.abs(theirs).max(initial=0.0)))
        if not apart <= TOLERANCE:
            raise BrokenPromiseError(
                f"after {first.run.step} steps {one} the weights {name} differ by {apart:.2g} from those {other}: "
                "hybrid_forward has to compute the same with symbols as with arrays"
            )
    for name, metric in first.run.metrics.items():
        found = second.run.metrics.get(name, float("nan"))
        if not _close(metric, found):
            raise BrokenPromiseError(f"{name} is {metric:.6g} {one}, but {found:.6g} {other}")


def _close(first: float, second: float) -> bool:
    return bool(np.isclose(first, second, rtol=TOLERANCE, atol=1e-6, equal_nan=True))
