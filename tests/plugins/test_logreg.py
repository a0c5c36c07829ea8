"""The logistic-regression task: the tutorial's result, real tables, and what its options do."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packages import trainer
from tiny import weights

from trainer import UsageError, fit
from trainer.bookkeeping import Bookkeeping
from trainer.config.settings import Settings
from trainer.data import Rows
from trainer.decisions import without_class_weights
from trainer.mxnet import autograd, gluon, mx
from trainer.seeds import derive, permutation
from trainer_plugins.logreg import LogisticRegression


@pytest.fixture(scope="module")
def table():
    """scikit-learn's breast-cancer table with its labels as text, as a pyarrow table."""
    import pyarrow as pa
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    columns = {name: bunch.data[:, number] for number, name in enumerate(bunch.feature_names)}
    diagnosis = np.array(bunch.target_names)[bunch.target]
    return pa.table({**columns, "diagnosis": diagnosis})


def write(table, path):
    import pyarrow.csv
    import pyarrow.parquet

    if path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    else:
        pyarrow.parquet.write_table(table, path)
    return path


def plain_loop(epochs=10, seed=12345, batch_size=10, threshold=0.5):
    """The tutorial's training, written from its description: autograd, gluon.Trainer, sums over batches.

    Validation metrics are over all rows at once; the tutorial's F1 averages over batches and is never reset.
    """
    mx.random.seed(seed)
    data = []
    for rows in (1000, 100):
        features = mx.nd.random.normal(0, 1, shape=(rows, 10))
        data.append((features, features.sum(axis=1) > 3))
    (train_x, train_y), (validation_x, validation_y) = data
    net = gluon.nn.HybridSequential()
    for _ in range(3):
        net.add(gluon.nn.Dense(10, activation="relu"))
    net.add(gluon.nn.Dense(1))
    mx.random.seed(derive(seed, "weights"))
    net.initialize(mx.init.Xavier())
    net(train_x[:1])
    loss = gluon.loss.SigmoidBinaryCrossEntropyLoss()
    optimizer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
    history = []
    for epoch in range(1, epochs + 1):
        order = permutation(1000, seed, epoch)
        train_loss = 0.0
        for start in range(0, 1000, batch_size):
            index = mx.nd.array(order[start : start + batch_size])
            with autograd.record():
                losses = loss(net(train_x.take(index)), train_y.take(index))
            losses.backward()
            optimizer.step(batch_size)
            train_loss += float(losses.asnumpy().sum(dtype=np.float64))
        outputs = net(validation_x)
        predicted = outputs.sigmoid().asnumpy().ravel() > threshold
        actual = validation_y.asnumpy() > 0.5
        hits = float((predicted & actual).sum())
        history.append(
            {
                "train/loss": train_loss / 1000,
                "validation/loss": float(loss(outputs, validation_y).asnumpy().mean(dtype=np.float64)),
                "validation/accuracy": float((predicted == actual).mean()),
                "validation/f1": 2 * hits / max(1.0, float(predicted.sum() + actual.sum())),
            }
        )
    return history, [parameter.data().asnumpy() for parameter in net.collect_params().values()]


@pytest.mark.parametrize("compiled", [True, False])
def test_the_default_run_equals_the_tutorials_loop(compiled):
    expected, expected_weights = plain_loop()
    run = fit("logreg", runs_dir=None, compiled=compiled)
    assert run.step_kind == ("compiled" if compiled else "recorded")
    assert len(run.history) == 10
    for ours, theirs in zip(run.history, expected, strict=True):
        assert {name: ours[name] for name in theirs} == pytest.approx(theirs, abs=1e-5)
    for ours, theirs in zip(weights(run), expected_weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert run.metrics["validation/accuracy"] >= 0.95


def test_the_generated_data_are_the_tutorials():
    mx.random.seed(12345)
    expected = mx.nd.random.normal(0, 1, shape=(1000, 10)).asnumpy()
    run = fit("logreg", epochs=1, runs_dir=None)
    seen = {}
    for batch in run.train.epoch(1):
        for row, features, label in zip(batch.indices, batch.data.asnumpy(), batch.label.asnumpy(), strict=True):
            seen[int(row)] = (features, label)
    np.testing.assert_array_equal(np.stack([seen[row][0] for row in range(1000)]), expected)
    assert all(seen[row][1] == (expected[row].sum() > 3) for row in range(1000) if abs(expected[row].sum() - 3) > 1e-4)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_plain_logistic_regression_is_as_good_as_scikit_learns_on_the_same_split(table, tmp_path, suffix):
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.preprocessing import StandardScaler

    from trainer.data import TableOptions, load_splits

    path = write(table, tmp_path / f"table{suffix}")
    run = fit("logreg", data=path, label="diagnosis", hidden="", epochs=20, runs_dir=None)
    splits = load_splits(TableOptions(path, "diagnosis", standardize=False), seed=12345)
    scaler = StandardScaler().fit(splits.train.features)
    peer = LogisticRegression(max_iter=1000).fit(scaler.transform(splits.train.features), splits.train.labels)
    scores = peer.predict_proba(scaler.transform(splits.test.features))[:, 1]
    assert run.metrics["test/roc-auc"] == pytest.approx(roc_auc_score(splits.test.labels, scores), abs=0.005)


def test_csv_and_parquet_give_the_same_run(table, tmp_path):
    runs = [
        fit("logreg", data=write(table, tmp_path / name), label="diagnosis", epochs=2, runs_dir=None)
        for name in ("a.csv", "a.parquet")
    ]
    assert runs[0].history == runs[1].history
    for csv, parquet in zip(*map(weights, runs), strict=True):
        np.testing.assert_array_equal(csv, parquet)


@pytest.mark.parametrize("pair", [(-1, 1), (1, 2), ("yes", "no"), (True, False), ("ham", "spam")])
def test_labels_of_any_encoding_train_to_the_same_metrics(tmp_path, pair):
    import pyarrow as pa

    generator = np.random.default_rng(0)
    features = generator.normal(size=(200, 2))
    positive = features.sum(axis=1) > 0
    plain = pa.table({"a": features[:, 0], "b": features[:, 1], "y": positive.astype(int)})
    encoded = plain.set_column(2, "y", pa.array([pair[int(flag)] for flag in positive]))
    reference = fit("logreg", data=write(plain, tmp_path / "plain.csv"), label="y", epochs=2, runs_dir=None)
    run = fit(
        "logreg", data=write(encoded, tmp_path / "encoded.csv"), label="y", positive_class=str(pair[1]), epochs=2,
        runs_dir=None,
    )  # fmt: skip
    assert run.metrics["test/accuracy"] == reference.metrics["test/accuracy"]
    assert run.history == reference.history


def test_balanced_class_weights_move_the_decision_towards_the_rare_class(tmp_path):
    import pyarrow as pa

    generator = np.random.default_rng(1)
    features = generator.normal(size=(2000, 2))
    rare = features[:, 0] + generator.normal(size=2000) > 2.2
    path = write(pa.table({"a": features[:, 0], "b": features[:, 1], "y": rare.astype(int)}), tmp_path / "rare.csv")
    plain, balanced = (
        fit("logreg", data=path, label="y", hidden="", epochs=5, class_weight=weight, runs_dir=None)
        for weight in ("none", "balanced")
    )
    assert balanced.metrics["validation/recall"] > plain.metrics["validation/recall"] + 0.2


def test_a_weight_column_counts_rows_as_if_they_were_repeated(tmp_path):
    import pyarrow as pa

    generator = np.random.default_rng(2)
    features = generator.normal(size=(120, 2)).astype(np.float32)
    labels = (features[:, 0] > 0).astype(int)
    counts = generator.integers(1, 4, size=120)
    columns = {"a": features[:, 0], "b": features[:, 1], "y": labels}
    weighted = write(pa.table({**columns, "w": counts}), tmp_path / "weighted.csv")
    repeated = write(pa.table({k: np.repeat(v, counts) for k, v in columns.items()}), tmp_path / "repeated.csv")
    common = {
        "label": "y", "hidden": "", "validation_split": 0, "test_split": 0, "epochs": 30, "batch_size": 10_000,
        "standardize": False, "runs_dir": None,
    }  # fmt: skip
    one = fit("logreg", data=weighted, sample_weight="w", **common)
    other = fit("logreg", data=repeated, **common)
    # One batch holds all rows, so the mean gradients are equal; the order of the sums is not.
    for ours, theirs in zip(weights(one), weights(other), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert one.metrics["train/loss"] == pytest.approx(other.metrics["train/loss"], abs=1e-5)


NOTED = "the delimiter is ';'"


def semicolons(folder):
    (folder / "t.csv").write_text("a;y\n" + "1;no\n2;yes\n" * 30)
    (folder / "v.csv").write_text("a|y\n1|no\n2|yes\n")
    return {"data": folder / "t.csv", "validation_data": folder / "v.csv", "label": "y"}


@pytest.mark.parametrize("left_out", [(), ("progress",)], ids=["with progress", "without"])
def test_a_run_says_once_how_the_table_was_read_whatever_plugins_it_has(tmp_path, caplog, capsys, left_out):
    others = ["tensorboard", "report", "checkpoint", "threshold-tuner", "metrics-log"]
    fit("logreg", **semicolons(tmp_path), epochs=1, runs_dir=None, without=[*others, *left_out])
    noted = [record for record in caplog.records if getattr(record, "note", False)]
    assert [record.getMessage() for record in noted] == [NOTED, "v.csv: the delimiter is '|'"]
    assert {(record.name, record.levelname) for record in noted} == {("trainer", "WARNING")}
    out, err = capsys.readouterr()
    assert "delimiter" not in out + err
    assert ("rows: " in out) == (not left_out)


def test_only_the_first_of_several_processes_says_it(tmp_path, caplog):
    task = LogisticRegression(**semicolons(tmp_path))
    for first in (False, True):
        processes = SimpleNamespace(is_first=first, size=1, local_rank=0, local_size=1)
        settings = Settings.checked({"epochs": 1, "batch-size": 10, "seed": 0})
        run = SimpleNamespace(settings=settings, task=task, processes=processes)
        task.splits(run)
        Bookkeeping(run, SimpleNamespace(log=None)).tell_notes()
        assert (NOTED in caplog.text) == first


def test_the_command_line_prints_notes_on_standard_error(tmp_path):
    semicolons(tmp_path)
    options = ["--data", "t.csv", "--label", "y", "--no-plugin", "progress", "--no-plugin", "tensorboard"]
    done = trainer("run", "logreg", *options, "--epochs", 1, cwd=tmp_path)
    assert (done.returncode, done.stderr.count(f"note: {NOTED}\n"), done.stderr.count("delimiter")) == (0, 1, 1)
    assert "delimiter" not in done.stdout


def test_hidden_activation_and_dropout_shape_the_net():
    run = fit("logreg", hidden="4,3", activation="tanh", dropout=0.5, epochs=1, runs_dir=None)
    assert [w.shape for w in weights(run)] == [(4, 10), (4,), (3, 4), (3,), (1, 3), (1,)]
    assert [type(block).__name__ for block in run.net] == ["Dense", "Dropout", "Dense", "Dropout", "Dense"]
    plain = fit("logreg", hidden="", epochs=1, runs_dir=None)
    assert [w.shape for w in weights(plain)] == [(1, 10), (1,)]


def test_the_threshold_decides_accuracy_and_f1():
    half, high = (
        fit("logreg", epochs=2, threshold=value, without=["threshold-tuner"], runs_dir=None) for value in (0.5, 0.99)
    )
    assert half.metrics["validation/loss"] == high.metrics["validation/loss"]
    assert high.metrics["validation/recall"] < half.metrics["validation/recall"]
    assert (half.threshold, high.threshold) == (0.5, 0.99)


def test_separate_files_serve_as_validation_and_test(table, tmp_path):
    # Every third row, so that both classes are in each file.
    parts = [write(table.take(list(range(n, table.num_rows, 3))), tmp_path / f"{n}.csv") for n in range(3)]
    files = {"data": parts[0], "validation_data": parts[1], "test_data": parts[2]}
    run = fit("logreg", **files, label="diagnosis", epochs=1, runs_dir=None)
    assert [split.rows for split in (run.train, run.validation, run.test)] == [190, 190, 189]


def test_the_run_folder_of_a_table_can_be_run_again_from_anywhere(table, tmp_path, monkeypatch):
    write(table, tmp_path / "table.csv")
    monkeypatch.chdir(tmp_path)
    first = fit("logreg", data="table.csv", label="diagnosis", epochs=2)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = fit("logreg", config=first.folder / "config.toml")
    assert again.history == first.history
    assert first.folder.is_relative_to(tmp_path / "runs" / "logreg")
    lines = [json.loads(line) for line in (first.folder / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["event"] == "end"
    assert lines[-1]["metrics"]["test/roc-auc"] == first.metrics["test/roc-auc"]


@pytest.mark.parametrize("option", ["label", "positive_class", "features", "validation_data", "sample_weight"])
def test_options_of_a_table_without_one_are_an_error(option):
    with pytest.raises(UsageError, match=f"--{option.replace('_', '-')}: it needs a table. Add --data FILE"):
        fit("logreg", **{option: "x"}, runs_dir=None)


def test_class_weights_are_for_the_training_loss_alone(tmp_path):
    """What is said of other rows is what scikit-learn says of them, without weights."""
    from sklearn.metrics import average_precision_score, f1_score, log_loss

    generator = np.random.default_rng(0)
    features = generator.normal(size=(900, 4))
    labels = (features[:, 0] + generator.normal(size=900) > 2).astype(int)
    rows = "\n".join(",".join(map(str, [*row, label])) for row, label in zip(features.tolist(), labels, strict=True))
    (tmp_path / "rare.csv").write_text("a,b,c,d,label\n" + rows)
    run = fit(
        "logreg",
        data=tmp_path / "rare.csv",
        label="label",
        class_weight="balanced",
        hidden="",
        epochs=3,
        test_split=0,
        runs_dir=None,
    )
    evaluation = run.evaluation
    actual, scores = evaluation.labels.ravel(), evaluation.predictions.ravel()
    threshold = run.task.threshold
    assert run.metrics["validation/f1"] == pytest.approx(f1_score(actual, scores > threshold))
    assert run.metrics["validation/average-precision"] == pytest.approx(average_precision_score(actual, scores))
    assert run.metrics["validation/log-loss"] == pytest.approx(log_loss(actual, scores.astype(float)), rel=1e-4)
    assert run.metrics["validation/true-positives"] == ((scores > threshold) & (actual == 1)).sum()
    # The loss is that of the net's outputs, which have the weights of the classes.
    outputs = without_class_weights(scores, 1 / run.task.class_weights())
    assert run.metrics["validation/loss"] == pytest.approx(log_loss(actual, outputs), rel=1e-4)


@given(
    labels=st.lists(st.integers(0, 1), min_size=2, max_size=30).filter(lambda labels: len(set(labels)) == 2),
    weights=st.lists(st.floats(0.1, 9), min_size=30, max_size=30) | st.none(),
)
@settings(max_examples=30)
def test_balanced_classes_have_the_same_sum_of_weights_whatever_their_rows_weigh(labels, weights):
    """0.1126 for 0.5 was the rate predicted of rows of weight 9 and 1 when only the rows were counted."""
    found = np.array(labels, np.float32)
    given_weights = None if weights is None else np.array(weights[: len(labels)], np.float32)
    rows = Rows(np.ones((len(labels), 1), np.float32), found, given_weights, {})
    (arrays,) = LogisticRegression(class_weight="balanced")._weighted(rows)
    sums = np.bincount(labels, weights=arrays.weights.ravel())
    assert sums[0] == pytest.approx(sums[1], rel=1e-5)
    assert arrays.weights.mean() == pytest.approx(1, rel=1e-5)
