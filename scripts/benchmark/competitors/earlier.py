"""gluon-trainer at an earlier commit, whose packages come first on the path.

The public interface has changed since then, so the functions of that commit's own benchmark are called. A commit from
before whole trainings were measured is given the rows to validate on here.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmark.worker import Clock, Job


def default_plugins(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """Trains like the command line of that commit."""
    return _predictor(_its_own().default_plugins(job, clock))


def step_loop(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """That commit's batches and step, with nothing between them."""
    return _predictor(_its_own().step_loop(job, clock))


def whole(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """With validation; the clock stops when everything is written and closed."""
    ours = _its_own()
    if hasattr(ours, "whole"):
        return _predictor(ours.whole(job, clock))
    assert job.validation is not None
    timer = ours.Timer(clock)
    timer.on_fit_end = lambda _run: None
    launch = ours._launch(job, plugins=[timer], runs_dir=job.folder)  # noqa: SLF001  the same function as ours has
    launch.task.validation = ours.Arrays(*job.validation)
    run = launch.train()
    clock.end()
    return _predictor(ours._predictor(run))  # noqa: SLF001


def _predictor(function: Any) -> Callable[[Any], Any]:
    predict: Callable[[Any], Any] = function
    return predict


def _its_own() -> ModuleType:
    """The earlier commit's `benchmark.competitors.ours`, under a name of its own."""
    import trainer

    root = Path(trainer.__file__).parent.parent
    if root == Path(__file__).parents[3]:
        raise SystemExit("the earlier commit is not first on the path")
    path = root / "scripts" / "benchmark" / "competitors" / "ours.py"
    if not path.is_file():
        raise SystemExit("that commit has no benchmark yet")
    spec = importlib.util.spec_from_file_location("earlier_ours", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
