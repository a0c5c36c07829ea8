"""A study from its first trial to its last word: what is trained, what is said, and what a failure means."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from trainer import TrainerError, UsageError
from trainer.atomic import shown
from trainer_plugins.tune.asked import Asked
from trainer_plugins.tune.study import Study

SHOWN = 5
"""How many of the best trials are shown at the end."""

Say = Callable[[str], None]


class StudyError(TrainerError):
    """No trial came to its end."""


def tune(asked: Asked, say: Say) -> None:
    """Runs trials until the study has enough, and says what came out.

    Raises UsageError for what the user can put right, StudyError where every trial has failed, and KeyboardInterrupt
    after Ctrl-C, when the trial under way was ended in order and given back.
    """
    study = Study(asked)
    say(
        f"study {asked.name}: {asked.monitor}, {'more' if study.direction == 'max' else 'less'} is better; "
        f"{study.trials} trials in {shown(study.folder)}"
    )
    give_up = math.inf if asked.minutes is None else time.monotonic() + 60 * asked.minutes
    failures = 0
    while time.monotonic() < give_up:
        trial = study.next()
        if trial is None:
            break
        failures += _one(study, trial, say, first=failures == 0)
    _conclude(study, say)


def _one(study: Study, trial: Any, say: Say, *, first: bool) -> int:
    """One trial; 1 where it failed."""
    try:
        run, pruning = study.train(trial)
        value = run.monitored(study.asked.monitor)
    except KeyboardInterrupt as interrupt:
        study.give_back(trial)
        say("the trial under way is given back; the same command goes on with the study")
        # The run need not be resumed: the study tries its values again.
        again = KeyboardInterrupt()
        again.signal = getattr(interrupt, "signal", 2)  # type: ignore[attr-defined]
        raise again from None
    except Exception as error:  # one bad combination must not end a study
        message = f"{type(error).__name__}: {error}" if not isinstance(error, UsageError) else str(error)
        study.finish(trial, None, error=message)
        if first and isinstance(error, UsageError) and not study.best():
            # Hardly the fault of the trial's values: a table that is not there, say.
            study.discard_if_new()
            raise
        say(f"trial {trial.number}  failed: {message}  {_params(trial)}")
        return 1
    study.finish(trial, value, pruned=pruning.pruned)
    study.write_best()
    verdict = f"pruned after epoch {run.epoch}, at {value:.5g}" if pruning.pruned else f"{value:.5g}"
    best = study.best()[:1]
    so_far = f"  best {best[0].value:.5g} (trial {best[0].number})" if best else ""
    say(f"trial {trial.number}  {study.asked.monitor} {verdict}{so_far}  {_params(trial)}")
    return 0


def _conclude(study: Study, say: Say) -> None:
    best = study.best()
    if not best:
        failed = [each for each in study.counted() if each.user_attrs.get("error")]
        why = f" The last one: {failed[-1].user_attrs['error']}" if failed else ""
        raise StudyError(f"no trial of the study {study.asked.name!r} came to its end.{why}")
    path = study.write_best()
    assert path is not None  # noqa: S101
    states = [each.state.name.lower() for each in study.counted()]
    counts = ", ".join(
        f"{states.count(state)} {word}"
        for state, word in (("complete", "complete"), ("pruned", "pruned"), ("fail", "failed"), ("running", "running"))
        if states.count(state)
    )
    say(f"{counts}; the best:")
    for trial in best[:SHOWN]:
        say(f"  trial {trial.number}  {study.asked.monitor} {trial.value:.5g}  {_params(trial)}")
    importance = study.importance()
    if importance:
        say("what mattered: " + ", ".join(f"{name} {share:.0%}" for name, share in importance.items()))
    say(f"the best again: trainer run {study.task} --config {shown(path)}")


def _params(trial: Any) -> str:
    return " ".join(
        f"{name}={value:.5g}" if isinstance(value, float) else f"{name}={value}" for name, value in trial.params.items()
    )
