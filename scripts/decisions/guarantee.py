"""How often a promised requirement is broken on new rows, and how often intervals of cross-fitted metrics hold.

    PYTHONPATH=scripts python -m decisions.guarantee            # both studies, about 10 minutes
    PYTHONPATH=scripts python -m decisions.guarantee trainings  # 100 whole trainings

Prints the tables of docs/decisions-study.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.decisions import CrossFitting, Demand, Partitions, cross_fitted, promised
from trainer.decisions.cross_fitting import rates
from trainer.metrics import Ranked

Vector = NDArray[np.float64]
REQUIREMENTS = {
    "min_precision": 0.8,
    "min_recall": 0.8,
    "max_fpr": 0.1,
    "false_positive_cost": 1.0,
    "false_negative_cost": 3.0,
}
MAX_COST = 0.42
DEMANDS: Mapping[str, tuple[Demand, str, str]] = {
    "precision ≥ 0.8": (Demand("precision", 0.8, 0.95), "evidence-of-precision", "recall-at-precision"),
    "recall ≥ 0.8": (Demand("recall", 0.8, 0.95), "precision-at-recall", "precision-at-recall"),
    "false positive rate ≤ 0.1": (Demand("false-positive-rate", 0.1, 0.95), "recall-at-fpr", "recall-at-fpr"),
    "cost ≤ 0.42": (Demand("cost", MAX_COST, 0.95, 1.0, 3.0), "cost", "cost"),
}
"""The demand, what the validation rows maximise for it, and what they would maximise without a guarantee."""


class Population:
    """Rows whose probabilities are right: log odds are normal, and a label is 1 with the row's probability."""

    def __init__(self, seed: int, rows: int = 1_000_000) -> None:
        self._generator = np.random.default_rng(seed)
        scores, labels = self.draw(rows)
        order = np.argsort(scores)
        self._scores = scores[order]
        self._below = np.concatenate(([0], np.cumsum(labels[order])))
        self._rows, self._positives = rows, int(labels.sum())

    def draw(self, rows: int) -> tuple[Vector, NDArray[np.bool_]]:
        """New rows."""
        odds = self._generator.normal(-1.2, 1.8, rows)
        scores = 1 / (1 + np.exp(-odds))
        return scores, self._generator.random(rows) < scores

    def cells(self, threshold: float) -> Vector:
        """[true −, false +, false −, true +] at a threshold."""
        below = int(np.searchsorted(self._scores, threshold, "right"))
        missed = int(self._below[below])
        true = self._positives - missed
        return np.array([below - missed, self._rows - below - true, missed, true], np.float64)


def breaks(cells: Vector, demand: Demand) -> bool:
    """Whether a threshold with these cells on new rows does not meet the demand."""
    tn, fp, fn, tp = cells
    value = {
        "precision": tp / max(tp + fp, 1),
        "recall": tp / (tp + fn),
        "false-positive-rate": fp / (fp + tn),
        "cost": (demand.false_positive_cost * fp + demand.false_negative_cost * fn) / cells.sum(),
    }[demand.kind]
    return bool(value < demand.limit if demand.kind in ("precision", "recall") else value > demand.limit)


@dataclass
class Tally:
    """Of the draws of one demand: how many are promised, broken, and broken without a guarantee; and the recalls."""

    draws: int = 0
    promised: int = 0
    broken: int = 0
    broken_without: int = 0
    recall: float = 0.0
    recall_without: float = 0.0


def broken(rows: int, draws: int, *, seed: int = 0) -> dict[str, Tally]:
    """Draws validation and calibration rows, chooses thresholds, and judges them on new rows."""
    population = Population(seed)
    tallies = {name: Tally() for name in DEMANDS}
    for _ in range(draws):
        validation, calibration = Ranked(*population.draw(rows)), Ranked(*population.draw(rows))
        for name, (demand, searched, plain) in DEMANDS.items():
            tally = tallies[name]
            tally.draws += 1
            choice = Partitions(validation).best(plain, REQUIREMENTS)
            if choice is not None:
                cells = population.cells(choice.threshold)
                tally.broken_without += breaks(cells, demand)
                tally.recall_without += float(rates(cells)["recall"])
            start = Partitions(validation).best(searched, REQUIREMENTS)
            found = promised(calibration, demand, 0.5 if start is None else start.threshold)
            if found is not None:
                cells = population.cells(found.threshold)
                tally.promised += 1
                tally.broken += breaks(cells, demand)
                tally.recall += float(rates(cells)["recall"])
    return tallies


def coverage(rows: int, draws: int, *, resamples: int = 200, objective: str = "f1", seed: int = 0) -> dict[str, float]:
    """How often the 95 % interval of a cross-fitted metric holds its value on new rows at the tuned threshold."""
    population = Population(seed)
    held: dict[str, int] = {}
    for draw in range(draws):
        scores, labels = population.draw(rows)
        fitting = CrossFitting(scores, labels, None, objective, REQUIREMENTS, given=0.5, seed=draw)
        ranking = Ranked(scores, labels)
        found = cross_fitted(ranking, objective, REQUIREMENTS, given=0.5, seed=draw)
        choice = Partitions(ranking).best(objective, REQUIREMENTS)
        true = rates(population.cells(0.5 if choice is None else choice.threshold))
        ends = fitting.intervals(resamples, 0.95, np.random.default_rng(draw), found)[1]
        for name, (low, high) in ends.items():
            held[name] = held.get(name, 0) + bool(low <= float(true[name]) <= high)
    return {name: count / draws for name, count in held.items()}


def trainings(count: int, rows: int = 4000, *, seed: int = 0) -> tuple[int, int]:
    """Whole trainings with early stopping and calibration: how many promise a precision of 0.8, how many break it."""
    import tempfile
    from pathlib import Path

    from trainer import fit, load_model
    from trainer_plugins.early_stopping import EarlyStopping
    from trainer_plugins.threshold_tuner import ThresholdTuner

    kept = break_ = 0
    for number in range(count):
        generator = np.random.default_rng((seed, number))
        with tempfile.TemporaryDirectory() as folder:
            table = Path(folder) / "table.csv"
            new_x, new_y = _table(generator, 50_000)
            _write(table, *_table(generator, rows))
            run = fit(
                "logreg",
                data=[str(table)],
                label="y",
                epochs=5,
                batch_size=64,
                seed=number,
                calibration_split=0.2,
                plugins=[
                    "calibration",
                    EarlyStopping(patience=2, restore_best=True),
                    ThresholdTuner(objective="recall-at-precision", min_precision=0.8, guarantee=0.95),
                ],
                without=["progress", "metrics-log", "checkpoint", "tensorboard", "report", "threshold-tuner"],
                runs_dir=folder,
                name="run",
            )
            if not run.metrics["calibration/guaranteed"]:
                continue
            kept += 1
            scores = load_model(Path(folder) / "logreg" / "run").predict(new_x)["probability"].to_numpy()
            above = scores > run.threshold
            break_ += bool(above.any() and new_y[above].mean() < 0.8)
    return kept, break_


def _table(generator: np.random.Generator, rows: int) -> tuple[dict[str, Any], NDArray[np.bool_]]:
    features = generator.normal(size=(rows, 6))
    odds = 2 * features[:, 0] + 1.5 * features[:, 1] * (features[:, 2] > 0) - 1
    labels = generator.random(rows) < 1 / (1 + np.exp(-odds))
    return {f"x{column}": features[:, column] for column in range(6)}, labels


def _write(path: Any, columns: Mapping[str, Any], labels: NDArray[np.bool_]) -> None:
    import pyarrow as pa
    from pyarrow import csv

    csv.write_csv(pa.table({**columns, "y": labels.astype(int)}), path)


def peer(rows: int, draws: int, *, seed: int = 0) -> tuple[float, float]:
    """F1 on new rows at the threshold of scikit-learn's TunedThresholdClassifierCV, and at the tuner's."""
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.model_selection import TunedThresholdClassifierCV

    class Given(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
        """Passes its one feature on as the probability."""

        def fit(self, X: Any, y: Any) -> Given:  # noqa: N803
            self.classes_ = np.array([0, 1])
            return self

        def predict_proba(self, X: Any) -> Any:  # noqa: N803
            return np.column_stack([1 - X[:, 0], X[:, 0]])

    population = Population(seed)
    theirs = ours = 0.0
    for _ in range(draws):
        scores, labels = population.draw(rows)
        tuned = TunedThresholdClassifierCV(Given().fit(None, None), scoring="f1", cv=5)
        tuned.fit(scores[:, None], labels.astype(int))
        theirs += float(rates(population.cells(float(tuned.best_threshold_)))["f1"])
        choice = Partitions(Ranked(scores, labels)).best("f1", {})
        assert choice is not None
        ours += float(rates(population.cells(choice.threshold))["f1"])
    return theirs / draws, ours / draws


def main(argv: list[str]) -> None:
    say: Callable[[str], None] = print
    if argv == ["trainings"]:
        kept, break_ = trainings(100)
        say(f"of 100 trainings {kept} promise a precision of 0.8, and {break_} of them break it")
        return
    say("| rows | requirement | promised | broken | broken without | recall | recall without |\n" + "|---" * 7 + "|")
    for rows in (200, 800, 5000):
        for name, tally in broken(rows, 1000).items():
            recall = tally.recall / max(tally.promised, 1)
            promised_, broken_, without = (
                f"{count / tally.draws:.1%}" for count in (tally.promised, tally.broken, tally.broken_without)
            )
            recalls = f"{recall:.3f} | {tally.recall_without / tally.draws:.3f}"
            say(f"| {rows:,} | {name} | {promised_} | {broken_} | {without} | {recalls} |")
    say("")
    say("| objective | " + " | ".join(rates(np.ones(4))) + " |\n" + "|---" * 6 + "|")
    for objective in ("f1", "accuracy", "recall-at-precision"):
        found = coverage(800, 1000, objective=objective)
        say(f"| {objective} | " + " | ".join(f"{value:.1%}" for value in found.values()) + " |")
    say("")
    theirs, ours = peer(800, 200)
    say(f"F1 on new rows, 800 rows: TunedThresholdClassifierCV {theirs:.4f}, the tuner {ours:.4f}")


if __name__ == "__main__":
    main(sys.argv[1:])
