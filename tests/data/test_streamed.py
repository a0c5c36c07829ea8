"""A user's own source of rows: the same training as arrays, checks of each block, resuming, and its errors."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from nets import dense
from tiny import Tiny, engine, plugin, rows, weights

from trainer import PluginError, Splits, Streamed, TrainerError, UsageError, fit, on
from trainer.cli.app import _failed
from trainer.config.settings import read_config
from trainer.errors import SourceError
from trainer.mxnet import gluon
from trainer.runs import checkpoint
from trainer_plugins.checkpoint import Checkpoint

LOSS = "sigmoid-binary-cross-entropy"


def streamed(arrays, block_rows=8, **more):
    def read(start, stop):
        given = [None if each is None else each[start:stop] for each in (arrays.labels, arrays.weights)]
        features = tuple(each[start:stop] for each in arrays.inputs)
        return (
            features if isinstance(arrays.features, tuple) else features[0],
            *filter(lambda e: e is not None, given),
        )

    return Streamed(read, rows=len(arrays), block_rows=block_rows, **more)


def net():
    made = gluon.nn.Dense(1, in_units=3)
    made.initialize()
    for parameter in made.collect_params().values():
        parameter.set_data(np.full(parameter.shape, 0.25, np.float32))
    return made


@pytest.mark.parametrize("weighted", [False, True])
def test_streamed_rows_train_as_arrays_do_in_the_same_windows(weighted, tmp_path):
    train, validation = rows(50, weighted=weighted), rows(20, seed=1, weighted=weighted)
    common = {"loss": LOSS, "epochs": 2, "batch_size": 4, "seed": 3, "window_blocks": 3}
    ours = fit(net(), train=streamed(train), validation=streamed(validation, 7), runs_dir=tmp_path, **common)
    theirs = fit(net(), train=train, validation=validation, order="windows", block_rows=8, **common)
    for mine, other in zip(weights(ours), weights(theirs), strict=True):
        np.testing.assert_array_equal(mine, other)
    assert ours.metrics == theirs.metrics
    config = read_config(ours.folder / "config.toml")
    assert (config["order"], config["block-rows"], config["window-blocks"]) == ("windows", 8, 3)
    assert theirs.settings.to_toml()["window-blocks"] == 3


def test_a_task_may_return_streamed_splits():
    class Streaming(Tiny):
        def splits(self, run):
            return Splits(streamed(rows(30), 4), rows(8, seed=1), streamed(rows(9, seed=2), 4))

    run = engine(Streaming()).fit()
    assert {"train/loss", "validation/loss", "test/loss"} <= run.metrics.keys()
    assert sorted(run.fingerprint.tables) == ["test", "train", "validation"]
    assert run.settings.order == "windows"


# ---- blocks that are wrong ------------------------------------------------------------------------------------------

GOOD = rows(20)


def broken(change, at=3):
    """A source of blocks of 4 rows, of which block `at` is changed."""

    def read(start, stop):
        block = [GOOD.features[start:stop].copy(), GOOD.labels[start:stop].copy(), np.ones(stop - start)]
        return change(*block) if start == at * 4 else tuple(block)

    return Streamed(read, rows=20, block_rows=4, name="orders.db")


def with_nan(features, labels, ones):
    features[1, 2] = np.nan
    return features, labels, ones


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_nan, "X holds nan in row 1 of the block. Fill or drop such rows."),
        (lambda x, y, w: (x, y + np.inf, w), "y holds inf in row 0 of the block and in 3 more"),
        (lambda x, y, w: (x[:3], y[:3], w[:3]), "X has 3 rows, not 4. read"),
        (lambda x, y, w: (x, y, w[0]), "weights has no rows, not 4"),
        (lambda x, y, w: (x[:, :2], y, w), r"its rows are float32\[2\] with labels float32 and weights, and those of"),
        (lambda x, y, w: (x.astype(int), y, w), r"its rows are int64\[3\] with .*block 0 float32\[3\]"),
        (lambda x, y, w: (x, y), "its rows are .*, and those of block 0 .* and weights"),
        (lambda x, y, w: (x, y, -w), "its weights are negative"),
        (lambda x, y, w: (x, y.astype(str), w), "y holds str.*, not numbers. Convert it"),
        (lambda x, y, w: x, "read gives a ndarray. It has to return"),
        (lambda x, y, w: None, "read gives a NoneType"),
        (lambda x, y, w: ([[1.0], [1.0, 2.0]], y, w), "X is not an array of numbers"),
    ],
)
def test_a_block_that_is_wrong_is_named(change, message):
    with pytest.raises(UsageError, match=message) as caught:
        fit(net(), train=broken(change), loss=LOSS, epochs=1, batch_size=4)
    assert caught.value.where == "orders.db, block 3 (rows 12 to 15)"


def test_types_that_become_the_same_may_differ():
    fit(net(), train=broken(lambda x, y, w: (x.astype(float), y.astype(int), w > 0)), loss=LOSS, epochs=1)


@pytest.mark.parametrize("at", [0, 3])
def test_an_error_of_the_source_ends_the_run_with_its_traceback(at, capfd):
    def lost_connection(*_block):
        raise ConnectionError("the server has gone\nfor good")

    with pytest.raises(
        SourceError, match=r"orders.db, block . .*failed: ConnectionError: the server has gone$"
    ) as caught:
        fit(net(), train=broken(lost_connection, at), loss=LOSS, epochs=1, batch_size=4)
    assert isinstance(caught.value, TrainerError)
    assert isinstance(caught.value.__cause__, ConnectionError)
    assert _failed(caught.value, "run") == 1
    said = capfd.readouterr().err
    assert "in lost_connection" in said
    assert f"error: the run failed: orders.db, block {at} (rows {at * 4} to {at * 4 + 3})" in said


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"rows": 0}, "rows is 0, not a number of rows"),
        ({"rows": 2.5}, "rows is 2.5, not"),
        ({"block_rows": True}, "block_rows is True, not"),
        ({"read": "SELECT 1"}, "read is a str, not a function"),
    ],
)
def test_a_source_needs_a_function_and_sizes(more, message):
    given = {"read": lambda start, stop: None, "rows": 10, "block_rows": 5, **more}
    with pytest.raises(UsageError, match=message) as caught:
        Streamed(given.pop("read"), name="orders", **given)
    assert caught.value.where == "Streamed, orders"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"order": "rows"}, "order: the training rows are streamed by blocks"),
        ({"block_rows": 9}, "block-rows: .* by blocks of 8 rows, not of 9. Leave it out, or write Streamed"),
        ({"validation": 0.2}, "can be taken from arrays only"),
        ({"solver": "lbfgs"}, "needs all training rows in memory, and the task gives a Streamed"),
    ],
)
def test_what_streamed_rows_cannot_do_is_refused(values, message):
    with pytest.raises(UsageError, match=message):
        fit(net(), train=streamed(rows(30)), loss=LOSS, **values)


def test_validation_rows_need_the_same_columns():
    with pytest.raises(UsageError, match="rows of X have shape"):
        fit(net(), train=streamed(rows(30)), validation=streamed(rows(9, columns=4)), loss=LOSS)


# ---- resuming -------------------------------------------------------------------------------------------------------


class Killed(Exception):
    pass


def end(run):
    raise Killed


def save_at(step):
    return plugin("kill", batch_end=lambda run: run.save("now") if run.step == step else None, checkpoint=end)


class Streaming(Tiny):
    """A net with dropout, so that random numbers count too; `change` is made to the source."""

    change = {}  # noqa: RUF012

    def splits(self, run):
        return Splits(replace(streamed(rows(61), 4), **self.change), rows(8, seed=1))

    def net(self):
        return dense(5, dropout=0.3)


class InMemory(Streaming):
    def splits(self, run):
        return Splits(rows(61), rows(8, seed=1))


@pytest.mark.parametrize("task", [Streaming, InMemory])
@pytest.mark.parametrize("at", [3, 17, 30])
def test_windows_are_resumed_in_mid_epoch_with_other_devices(tmp_path, task, at):
    values = {"batch_size": 4, "epochs": 3, "micro_batches": 4, "order": "windows", "block_rows": 4, "window_blocks": 3}
    whole = engine(task(), **values).fit()
    with pytest.raises(PluginError):
        engine(task(), save_at(at), folder=tmp_path / "run", **values).fit()
    again = engine(
        task(),
        **{**values, "devices": "cpu:0,1"},
        folder=tmp_path / "run",
        resume_from=checkpoint.complete_checkpoints(tmp_path / "run")[0],
    )
    assert again.run.step == at
    again.fit()
    for mine, other in zip(weights(again.run), weights(whole), strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "train: the values differ in the column version"),
        ({"rows": 60}, "train: it has 60 rows, and had 61"),
        ({"read": streamed(rows(61, seed=9)).read}, "train: the values differ in the columns X in block 0"),
    ],
)
def test_a_source_of_other_rows_is_not_resumed(tmp_path, monkeypatch, change, message):
    with pytest.raises(PluginError):
        engine(Streaming(), save_at(3), folder=tmp_path / "run").fit()
    monkeypatch.setattr(Streaming, "change", change)
    with pytest.raises(UsageError, match=message):
        engine(Streaming(), folder=tmp_path / "run", resume_from=checkpoint.complete_checkpoints(tmp_path / "run")[0])


def end_at_20(run):
    if run.step == 20 and os.environ.get("ENDS_AT_20"):
        os.kill(os.getpid(), signal.SIGKILL)


def trained(**more):
    """15 batches per epoch, of 4 windows and one block; saved at steps 7 and 14."""
    plugins = [Checkpoint(every_steps=7), on.batch_end(end_at_20)]
    common = {"train": streamed(rows(61), 4), "loss": LOSS, "epochs": 3, "batch_size": 4, "window_blocks": 3}
    return fit(net(), plugins=plugins, **common, **more)


def test_a_killed_process_is_resumed_to_the_same_bits(tmp_path):
    script = f"from test_streamed import trained; trained(runs_dir={str(tmp_path)!r}, name='killed')"
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = {**os.environ, "PYTHONPATH": paths, "ENDS_AT_20": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    again = trained(resume=next(tmp_path.glob("*/killed")))
    assert again.resumed
    for mine, other in zip(weights(again), weights(trained()), strict=True):
        np.testing.assert_array_equal(mine, other)
