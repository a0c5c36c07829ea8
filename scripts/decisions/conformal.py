"""Measures how often sets and intervals hold the truth: over draws of rows, and through whole trainings.

    PYTHONPATH=scripts python -m decisions.conformal [--draws 1000] [--trainings 20]

Prints the tables of docs/conformal.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.decisions import Bounds, ClassSets, Intervals, class_scores, number_scores

ROWS = 1000
"""Calibration rows of a draw, and new rows."""
COVERAGE = 0.9
SHARES = (0.6, 0.3, 0.1)
"""The groups' shares of the rows."""

Held = NDArray[np.bool_]


def classes(generator: np.random.Generator, method: Any) -> tuple[Held, NDArray[Any], Any]:
    """Whether the sets of new rows hold their classes, by a model of four classes that is far too sure of itself."""
    groups = generator.choice(len(SHARES), 2 * ROWS, p=SHARES)
    true = generator.dirichlet(np.ones(4), 2 * ROWS)
    labels = (generator.random(2 * ROWS)[:, None] > np.cumsum(true, axis=1)).sum(axis=1).clip(0, 3)
    power = np.array([1.0, 2.0, 4.0])[groups][:, None]
    found = (true**power / (true**power).sum(axis=1, keepdims=True)).astype(np.float32)
    scores = class_scores(found, method)[np.arange(2 * ROWS), labels]
    return (
        scores,
        groups,
        lambda bounds: ClassSets(COVERAGE, method, tuple("abcd"), bounds).members(
            found[ROWS:], of_groups(bounds, groups[ROWS:])
        )[np.arange(ROWS), labels[ROWS:]],
    )


def numbers(generator: np.random.Generator, method: Any) -> tuple[Held, NDArray[Any], Any]:
    """Whether the intervals of new rows hold their numbers, whose spread differs between rows and groups."""
    groups = generator.choice(len(SHARES), 2 * ROWS, p=SHARES)
    x = generator.normal(size=2 * ROWS)
    spread = np.exp(x / 2) * np.array([1.0, 2.0, 4.0])[groups]
    labels = x + spread * generator.standard_t(4, size=2 * ROWS)
    found = x[:, None] if method == "absolute" else np.stack([x - np.exp(x / 2), x + np.exp(x / 2)], axis=1)

    def held(bounds: Bounds) -> Held:
        rule = Intervals(COVERAGE, method, bounds)
        low, high = rule.ends(found[ROWS:], of_groups(bounds, groups[ROWS:]))
        return (low <= labels[ROWS:]) & (labels[ROWS:] <= high)

    return number_scores(found, labels), groups, held


def of_groups(bounds: Bounds, groups: NDArray[Any]) -> NDArray[np.float64]:
    """The bound of each row."""
    if bounds.group is None:
        return bounds.of_rows(len(groups), {})
    places = {name: place for place, name in enumerate(bounds.by_group)}
    return bounds.of_codes(np.array([places.get(str(number), -1) for number in range(len(SHARES))])[groups])


def over_draws(draws: int) -> Iterator[str]:
    """The mean coverage of each method, with that of the groups if each has its own bound."""
    yield "| method | coverage | deviation | groups, one bound | groups, own bounds |"
    yield "|---|---|---|---|---|"
    names = [str(number) for number in range(len(SHARES))]
    for make, method in ((classes, "lac"), (classes, "aps"), (numbers, "absolute"), (numbers, "cqr")):
        generator = np.random.default_rng(0)
        whole: list[float] = []
        plain, own = np.zeros((2, len(SHARES))), np.zeros((2, len(SHARES)))
        for _ in range(draws):
            scores, groups, held = make(generator, method)
            for group, sums in ((None, plain), ("group", own)):
                codes = None if group is None else groups[:ROWS]
                bounds = Bounds.chosen(scores[:ROWS], COVERAGE, group=group, groups=names, codes=codes)
                found = held(bounds)
                if group is None:
                    whole.append(float(found.mean()))
                sums += [
                    np.bincount(groups[ROWS:], found, len(SHARES)),
                    np.bincount(groups[ROWS:], minlength=len(SHARES)),
                ]
        shares = [", ".join(f"{100 * share:.1f}" for share in hits / rows) for hits, rows in (plain, own)]
        yield (
            f"| `{method}` | {100 * np.mean(whole):.2f} % | {100 * np.std(whole):.2f} % | {shares[0]} % | "
            f"{shares[1]} % |"
        )


def through_trainings(trainings: int) -> Iterator[str]:
    """The mean coverage on test rows of whole trainings with early stopping, restored weights and calibration."""
    import pyarrow as pa

    from trainer import fit
    from trainer_plugins.calibration import Calibration
    from trainer_plugins.conformal import Conformal
    from trainer_plugins.early_stopping import EarlyStopping

    yield "| task | trainings | coverage | deviation |"
    yield "|---|---|---|---|"
    for task, method in (("logreg", "lac"), ("logreg", "aps"), ("linreg", "absolute"), ("linreg", "cqr")):
        found = []
        for seed in range(trainings):
            generator = np.random.default_rng(seed)
            x = generator.normal(size=(4000, 4))
            y: Any = x[:, 0] + np.exp(x[:, 1] / 2) * generator.normal(size=len(x))
            if task == "logreg":
                y = np.where(y > 1, "high", np.where(y < -1, "low", "middle"))
            plugins = [EarlyStopping(patience=2, restore_best=True), Conformal(coverage=COVERAGE, method=method)]
            run = fit(
                task,
                data=pa.table({**{f"x{place}": column for place, column in enumerate(x.T)}, "y": y}),
                label="y", validation_split=0.2, calibration_split=0.25, test_split=0.25, epochs=6, seed=seed,
                plugins=[*plugins, *([Calibration()] if task == "logreg" else [])],
                without=("progress", "tensorboard", "report", "checkpoint", "metrics-log"),
                **({"objective": "quantile"} if method == "cqr" else {}),
            )  # fmt: skip
            found.append(run.metrics["test/coverage"])
        yield f"| {task}, `{method}` | {trainings} | {100 * np.mean(found):.2f} % | {100 * np.std(found):.2f} % |"


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--trainings", type=int, default=20)
    given = parser.parse_args()
    for line in chain(over_draws(given.draws), [""], through_trainings(given.trainings)):
        print(line, flush=True)


if __name__ == "__main__":
    main()
