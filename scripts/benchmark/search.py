"""`scripts/bench --search`: a learning rate for each competitor of the workloads with many categories.

All are searched in the same way. From a start the rate is doubled while the loss falls, or halved. The loss is that of
the validation rows after one pass. So the chosen rate lies between two worse ones.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from math import isnan
from pathlib import Path
from typing import Any

from benchmark.categorical_data import HELD_OUT, RATES, rates
from benchmark.categorical_rounds import job, save
from benchmark.competitors import Competitor
from benchmark.processes import Failed, Surroundings, answer_of

STARTS: dict[str, dict[str, float]] = {
    "ours-step-sgd": {"": 1.0},
    "ours-step-ftrl": {"": 0.125},
    "vw-sgd": {"--power_t 0": 0.0625, "--power_t 0.5": 8.0},
    "vw-ftrl": {"": 0.125},
    "torch-sparse": {"": 1.0},
    "keras-embedding": {"": 1.0},
    "sklearn-hashed": {"": 0.0625},
    "sklearn-lbfgs": {"": 0.125},
}
"""The settings of each competitor, and the rate that the search of each begins with."""
MOST = 16
"""Tries per setting."""


def walk(loss_of: Callable[[float], float], start: float) -> list[tuple[float, float]]:
    """All tries as (rate, loss): up by factors of two while the loss falls, else down."""
    tried = {start: loss_of(start)}
    for factor in (2.0, 0.5):
        best = start
        while len(tried) < MOST:
            rate = best * factor
            tried[rate] = loss_of(rate)
            if not tried[rate] < tried[best]:
                break
            best = rate
        if best != start:
            break
    return sorted(tried.items())


def run(
    competitors: Sequence[Competitor],
    surroundings: Surroundings,
    rows: int,
    say: Callable[[str], None],
    path: Path = RATES,
) -> None:
    """Searches, and replaces these competitors' entries in the file."""
    found = rates(path) if path.exists() else {}
    with tempfile.TemporaryDirectory(prefix="bench-data-") as folder:
        data = save(competitors, rows, Path(folder))
        for one in competitors:

            def loss_of(rate: float, setting: str, one: Competitor = one) -> float:
                try:
                    given = job(one, data, rate, setting, passes=1, judged="validation")
                    answer = answer_of("categorical", given, surroundings, environment=one.environment)
                except Failed as error:
                    raise SystemExit(f"error: {one.name} with the rate {rate:g}: {error}") from error
                say(f"  {one.name} {setting} {rate:g}: {answer['loss']:.5f}")
                return float(f"{answer['loss']:.6g}")

            tried = {
                setting: walk(lambda rate, setting=setting: loss_of(rate, setting), start)  # type: ignore[misc]
                for setting, start in STARTS[one.name].items()
            }
            tries = [(loss, setting, rate) for setting, each in tried.items() for rate, loss in each if not isnan(loss)]
            _, setting, rate = min(tries)
            found[one.name] = {"rate": rate, "setting": setting, "rows": rows, "tried": tried}
            write(path, found)


def write(path: Path, found: dict[str, dict[str, Any]]) -> None:
    """Writes the file, whole or not at all."""
    content = {"schema": 1, "validation_rows": HELD_OUT, "chosen": dict(sorted(found.items()))}
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)
