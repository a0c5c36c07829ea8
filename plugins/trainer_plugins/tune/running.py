"""Runs a study: trains its trials, prints their results and handles failures."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from trainer import TrainerError, UsageError
from trainer.atomic import shown
from trainer_plugins.tune.options import StudyOptions
from trainer_plugins.tune.study import Study

SHOWN = 5
"""How many of the best trials are shown at the end."""

Echo = Callable[[str], None]


class StudyError(TrainerError):
    """No trial was completed."""


def tune(options: StudyOptions, echo: Echo) -> None:
    """Runs trials until the study has enough, and prints the result.

    Raises UsageError for what the user can fix, StudyError if no trial was completed, and KeyboardInterrupt after
    Ctrl-C, once the current trial has shut down cleanly and was given back to the study.
    """
    study = Study(options)
    echo(
        f"study {options.name}: {options.monitor}, {'higher' if study.direction == 'max' else 'lower'} is better; "
        f"{study.trials} trials in {shown(study.folder)}"
    )
    deadline = math.inf if options.minutes is None else time.monotonic() + 60 * options.minutes
    failures = 0
    while time.monotonic() < deadline:
        trial = study.next()
        if trial is None:
            break
        failures += _one(study, trial, echo, first=failures == 0)
    _conclude(study, echo)


def _one(study: Study, trial: Any, echo: Echo, *, first: bool) -> int:
    """Runs one trial. Returns 1 if it failed, otherwise 0."""
    try:
        run, pruning = study.train(trial)
        value = run.monitored(study.options.monitor)
    except KeyboardInterrupt as interrupt:
        study.give_back(trial)
        echo("the current trial was given back; the same command continues the study")
        # The run need not be resumed: the study tries its values again.
        again = KeyboardInterrupt()
        again.signal = getattr(interrupt, "signal", 2)  # type: ignore[attr-defined]
        raise again from None
    except Exception as error:  # one bad combination must not end a study
        message = f"{type(error).__name__}: {error}" if not isinstance(error, UsageError) else str(error)
        study.finish(trial, None, error=message)
        if first and isinstance(error, UsageError) and not study.best():
            # Probably not the fault of the trial's values: a missing table, for example.
            study.discard_if_new()
            raise
        echo(f"trial {trial.number}  failed: {message}  {_params(trial)}")
        return 1
    study.finish(trial, value, pruned=pruning.pruned)
    study.write_best()
    verdict = f"pruned after epoch {run.epoch}, at {value:.5g}" if pruning.pruned else f"{value:.5g}"
    best = study.best()[:1]
    so_far = f"  best {best[0].value:.5g} (trial {best[0].number})" if best else ""
    echo(f"trial {trial.number}  {study.options.monitor} {verdict}{so_far}  {_params(trial)}")
    return 0


def _conclude(study: Study, echo: Echo) -> None:
    best = study.best()
    if not best:
        failed = [each for each in study.counted() if each.user_attrs.get("error")]
        why = f" The last error: {failed[-1].user_attrs['error']}" if failed else ""
        raise StudyError(f"no trial of the study {study.options.name!r} was completed.{why}")
    path = study.write_best()
    assert path is not None  # noqa: S101
    states = [each.state.name.lower() for each in study.counted()]
    counts = ", ".join(
        f"{states.count(state)} {word}"
        for state, word in (("complete", "complete"), ("pruned", "pruned"), ("fail", "failed"), ("running", "running"))
        if states.count(state)
    )
    echo(f"{counts}; the best:")
    for trial in best[:SHOWN]:
        echo(f"  trial {trial.number}  {study.options.monitor} {trial.value:.5g}  {_params(trial)}")
    importance = study.importance()
    if importance:
        echo("what mattered: " + ", ".join(f"{name} {share:.0%}" for name, share in importance.items()))
    echo(f"to repeat the best: trainer run {study.task} --config {shown(path)}")


def _params(trial: Any) -> str:
    return " ".join(
        f"{name}={value:.5g}" if isinstance(value, float) else f"{name}={value}" for name, value in trial.params.items()
    )
