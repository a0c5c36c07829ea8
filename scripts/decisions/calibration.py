"""Measures what calibration does to the log loss of new rows, through whole trainings, beside scikit-learn.

    PYTHONPATH=scripts python -m decisions.calibration

Each table is divided into rows for training, validation and test. A net is trained with early stopping on the
validation rows, its best weights are restored, and it is calibrated on the validation rows. The log loss of its test
rows before and after is set beside those of scikit-learn's CalibratedClassifierCV, fitted on the same scores of the
validation rows. Writes docs/decisions-study.md.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "decisions-study.md"
BEGIN, END = "<!-- calibration -->", "<!-- end of calibration -->"
SLACK = 0.001
"""How much worse log loss may be, as a share."""
NEW_ROWS = 50_000
"""Test rows of a generated table."""

Rows = tuple[NDArray[np.float32], NDArray[np.int64]]


@dataclass(frozen=True)
class Table:
    """Rows to train and validate on, and others to judge on."""

    name: str
    seen: Callable[[int], tuple[Rows, Rows]]
    """For a seed."""


@dataclass(frozen=True)
class Result:
    """Log losses of the test rows."""

    table: str
    rows: int
    kind: str
    before: float
    after: float
    sigmoid: float
    isotonic: float

    @property
    def change(self) -> float:
        """The relative change of the log loss."""
        return self.after / self.before - 1


def tables() -> Iterator[Table]:
    """Scikit-learn's four classification sets, and generated ones."""
    from sklearn import datasets

    loads = {
        "iris": datasets.load_iris,
        "wine": datasets.load_wine,
        "breast cancer": datasets.load_breast_cancer,
        "digits": datasets.load_digits,
    }
    for name, load in loads.items():
        yield Table(name, lambda seed, load=load: _divided(*load(return_X_y=True), seed))
    for rows, share, noise in (
        (1_000, 0.5, 0.0),
        (1_000, 0.05, 0.0),
        (1_000, 0.5, 0.1),
        (20_000, 0.5, 0.0),
        (20_000, 0.05, 0.0),
        (20_000, 0.05, 0.1),
    ):
        name = f"{rows:,} rows, {share:.0%} of class 1, {noise:.0%} noise"
        yield Table(name, lambda seed, made=(rows, share, noise): _generated(*made, seed))


def _generated(rows: int, share: float, noise: float, seed: int) -> tuple[Rows, Rows]:
    from sklearn.datasets import make_classification

    features, labels = make_classification(
        rows + NEW_ROWS, 20, n_informative=6, weights=[1 - share], flip_y=noise, random_state=seed
    )
    return (features[:rows].astype(np.float32), labels[:rows]), (features[rows:].astype(np.float32), labels[rows:])


def _divided(features: NDArray[Any], labels: NDArray[Any], seed: int) -> tuple[Rows, Rows]:
    from sklearn.model_selection import train_test_split

    seen, new, own, other = train_test_split(features, labels, test_size=0.4, stratify=labels, random_state=seed)
    return (seen.astype(np.float32), own), (new.astype(np.float32), other)


def measured(table: Table, seed: int, *, epochs: int = 60, stops: bool = True) -> Result:
    """One training, and what calibration did. Unless it `stops`, it trains until it is too sure."""
    from sklearn.metrics import log_loss
    from sklearn.model_selection import train_test_split

    from trainer import fit, load_model
    from trainer.catalog.registry import create_plugin

    (features, labels), (new, truth) = table.seen(seed)
    own, held, own_labels, known = train_test_split(features, labels, test_size=0.3, stratify=labels, random_state=seed)
    best = {"monitor": "validation/log-loss", "patience": 10, "restore-best": True}
    with tempfile.TemporaryDirectory() as folder:
        run = fit(
            "logreg",
            data=_columns(own, own_labels),
            validation_data=_columns(held, known),
            label="label",
            hidden=(32, 32),
            epochs=epochs,
            batch_size=32,
            optimizer="adam",
            learning_rate=0.01,
            test_split=0.0,
            seed=seed,
            plugins=["calibration", *([create_plugin("early-stopping", best, where="")] if stops else ())],
            without=["progress", "metrics-log", "checkpoint", "tensorboard", "report", "threshold-tuner"],
            runs_dir=folder,
        )
        model = load_model(run.folder)
    assert list(run.task.class_names()) == [f"c{each}" for each in np.unique(labels)]
    calibrator, model.calibrator = model.calibrator, None
    before, scores = (model.scores(model.encode(each)) for each in (new, held))
    after = before if calibrator is None else calibrator.apply(before)
    theirs = [_theirs(scores, known, before, method) for method in ("sigmoid", "isotonic")]
    losses = [log_loss(truth, _clipped(each), labels=np.unique(labels)) for each in (before, after, *theirs)]
    return Result(table.name, len(known), "none" if calibrator is None else calibrator.kind, *losses)


def _columns(features: NDArray[Any], labels: NDArray[Any]) -> Any:
    import pyarrow as pa

    names = [f"x{number}" for number in range(features.shape[1])]
    return pa.table({**dict(zip(names, features.T, strict=True)), "label": [f"c{each}" for each in labels]})


def _clipped(found: NDArray[Any]) -> NDArray[np.float64]:
    each = np.asarray(found, np.float64)
    each = each if each.ndim == 2 else np.column_stack([1 - each, each])
    # As the metric log-loss clips probabilities of float32.
    kept = each.clip(np.finfo(np.float32).eps, 1 - np.finfo(np.float32).eps)
    return kept / kept.sum(axis=1, keepdims=True)


def _theirs(scores: NDArray[Any], labels: NDArray[Any], new: NDArray[Any], method: str) -> NDArray[Any]:
    """What CalibratedClassifierCV gives for new scores, fitted on those of the validation rows."""
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator

    class Scores(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
        """Its features are logarithms of probabilities, or a logit."""

        def fit(self, rows: Any, labels: Any) -> Any:
            self.classes_ = np.unique(labels)
            return self

        def decision_function(self, rows: Any) -> Any:
            return rows[:, 0] if rows.shape[1] == 1 else rows

        def predict(self, rows: Any) -> Any:
            return (rows[:, 0] > 0).astype(int) if rows.shape[1] == 1 else rows.argmax(axis=1)

        def __sklearn_is_fitted__(self) -> bool:
            return True

    def logs(given: NDArray[Any]) -> NDArray[Any]:
        each = np.log(_clipped(given))
        return each[:, 1:] - each[:, :1] if given.ndim == 1 else each

    peer = CalibratedClassifierCV(FrozenEstimator(Scores().fit(None, labels)), method=method)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer.fit(logs(scores), labels)
    found: NDArray[Any] = peer.predict_proba(logs(new))
    return found


def lines(results: list[Result], seeds: int) -> Iterator[str]:
    """The table of the page: means over the seeds, and the worst change."""
    heads = [
        "table",
        "validation rows",
        "chosen",
        "log loss",
        "calibrated",
        "change",
        "worst seed",
        "sigmoid",
        "isotonic",
    ]
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for name in dict.fromkeys(each.table for each in results):
        own = [each for each in results if each.table == name]
        kinds = ", ".join(f"{kind} {sum(each.kind == kind for each in own)}" for kind in sorted({e.kind for e in own}))
        before, after, sigmoid, isotonic = (
            np.mean([getattr(each, column) for each in own]) for column in ("before", "after", "sigmoid", "isotonic")
        )
        worst = max(each.change for each in own)
        yield (
            f"| {name} | {own[0].rows:,} | {kinds} | {before:.4f} | {after:.4f} | {after / before - 1:+.2%} | "
            f"{worst:+.2%} | {sigmoid:.4f} | {isotonic:.4f} |"
        )
    within = sum(each.change <= SLACK for each in results)
    yield ""
    drawn = "one seed" if seeds == 1 else f"{seeds} seeds"
    yield (
        f"{within} of {len(results)} trainings ({drawn} of each table) have a log loss on new rows that is at most "
        f"{SLACK:.1%} higher after calibration than before."
    )


def write(page: Path, found: list[str]) -> None:
    """Replaces the part of the page between the marks."""
    text = page.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    page.write_text("\n".join([head + BEGIN, "", *found, "", END + tail]), encoding="utf-8")


def main() -> None:
    """Runs the study."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="Trainings of each table.")
    given = parser.parse_args()
    page: list[str] = []
    for stops, title in ((True, "With early stopping and the best weights"), (False, "Trained for 60 epochs")):
        results = []
        for table in tables():
            for seed in range(given.seeds):
                results.append(measured(table, seed, stops=stops))
                print(results[-1], f"{results[-1].change:+.3%}", flush=True)
        page += [f"### {title}", "", *lines(results, given.seeds), ""]
    write(PAGE, page[:-1])


if __name__ == "__main__":
    main()
