"""The order of the training rows: decided when a run first starts, written into its configuration, and kept."""

import numpy as np
import pytest
from nets import Given
from tiny import Tiny, engine, plugin, rows, settings, weights

from trainer import Processes, Splits, UsageError, fit, resume
from trainer.config.settings import ORDER, read_config
from trainer.data.mapped import MappedArrays
from trainer.mxnet import gluon
from trainer.order_choice import with_order
from trainer.runs import checkpoint


class Large(Tiny):
    """Rows of 16 bytes."""

    def splits(self, run):
        return Splits(rows(400), rows(8, seed=1))


class Loaded(Tiny):
    def splits(self, run):
        data = rows(12)
        return Splits(gluon.data.DataLoader(gluon.data.ArrayDataset(data.features, data.labels), batch_size=4))


def order_in(run):
    config = read_config(run.folder / "config.toml")
    return {name: config[name] for name in ORDER if name in config}


def of(source, **values):
    found = with_order(settings(**values), source, Processes())
    return found.order, found.block_rows, found.window_blocks


def mapped(count, columns=3):
    return MappedArrays(np.broadcast_to(np.float32(0), (count, columns)), np.broadcast_to(np.float32(0), (count,)))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {"order": "rows"}),
        ({"order": "rows", "memory": "1KB"}, {"order": "rows"}),
        ({"memory": "1MB"}, {"order": "rows"}),
        ({"memory": "1KB", "block_rows": 10}, {"order": "windows", "block-rows": 10, "window-blocks": 1}),
        ({"order": "windows", "memory": "1GB"}, {"order": "windows", "block-rows": 32768, "window-blocks": 476}),
        ({"window_blocks": 4}, {"order": "windows", "block-rows": 32768, "window-blocks": 4}),
    ],
)
def test_the_order_is_written_with_its_sizes(values, expected, tmp_path):
    run = fit(Large, epochs=1, runs_dir=tmp_path, **values)
    assert order_in(run) == expected
    assert run.settings.order_to_toml() == expected


@pytest.mark.parametrize(
    ("source", "values", "expected"),
    [
        # Rows that are in memory fit into it, unless a limit is given.
        (mapped(10**11), {}, "windows"),
        (mapped(10**6), {"memory": "16MB"}, "rows"),
        (mapped(10**6 + 1), {"memory": "16MB"}, "windows"),
        (rows(1000), {"memory": "15KB"}, "windows"),
        (rows(1000), {}, "rows"),
    ],
)
def test_rows_that_do_not_fit_have_windows(source, values, expected):
    assert of(source, **values)[0] == expected


@pytest.mark.parametrize(
    ("columns", "block_rows"), [(28, 4096), (1, 65536), (1000, 128), (200_000, 1)], ids=["usual", "narrow", "wide", "1"]
)
def test_a_block_has_about_512_kib_and_a_window_256_mib(columns, block_rows):
    order, rows_of_block, blocks = of(mapped(10**9, columns), order="windows", memory="4GB")
    assert (order, rows_of_block) == ("windows", block_rows)
    window = blocks * block_rows * (columns + 1) * 4
    assert 200 << 20 < window <= 256 << 20
    # Of little memory, two windows leave half.
    small = of(mapped(10**9, columns), order="windows", memory="64MB")[2]
    assert small * block_rows * (columns + 1) * 4 <= 16_000_000


def test_all_processes_take_the_first_ones_decision():
    class Second(Processes):
        rank, size = 1, 2

        def gather(self, value):
            assert value == ["rows", None, None]
            return [["windows", 64, 7], value]

    found = with_order(settings(), rows(100), Second())
    assert (found.order, found.block_rows, found.window_blocks) == ("windows", 64, 7)


def test_a_resumed_run_keeps_its_order_whatever_memory_there_is(tmp_path):
    values = {"epochs": 1, "memory": "2KB", "runs_dir": tmp_path, "plugins": ["checkpoint"]}
    first = fit(Large, name="first", block_rows=16, **values)
    again = resume(first.folder, epochs=3, memory="8GB", task=Large())
    assert order_in(again) == order_in(first) == {"order": "windows", "block-rows": 16, "window-blocks": 1}
    whole = fit(Large, name="whole", **{**values, "epochs": 3}, config=first.folder / "config.toml")
    for mine, other in zip(weights(again), weights(whole), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_a_run_of_a_version_without_orders_is_resumed_with_one_permutation(tmp_path):
    save = plugin("save", batch_end=lambda run: run.save("now") if run.step == 3 else None)
    first = engine(Large(), save, folder=tmp_path / "run", epochs=1).fit()
    assert first.settings.order == "rows"
    config = tmp_path / "run" / "config.toml"
    config.write_text(config.read_text().replace('order = "rows"\n', ""))
    saved = checkpoint.complete_checkpoints(tmp_path / "run")[0]
    again = engine(Large(), folder=tmp_path / "run", epochs=1, memory="1KB", resume_from=saved).fit()
    assert again.settings.order == "rows"
    for mine, other in zip(weights(again), weights(first), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_one_permutation_after_windows_in_a_file(tmp_path):
    first = fit(Large, epochs=1, runs_dir=tmp_path, name="one", block_rows=16)
    for order in ("rows", "auto"):
        run = fit(Large, runs_dir=tmp_path, name=order, config=first.folder / "config.toml", order=order)
        assert order_in(run) == {"order": "rows"}


@pytest.mark.parametrize("option", ["block_rows", "window_blocks"])
def test_sizes_of_blocks_mean_nothing_for_one_permutation(option):
    with pytest.raises(UsageError, match="one permutation of all rows has no blocks") as caught:
        fit(Large, order="rows", **{option: 7}, runs_dir=None)
    assert caught.value.where == option.replace("_", "-")


def test_a_loader_has_an_order_of_its_own(tmp_path):
    assert order_in(fit(Loaded, runs_dir=tmp_path)) == {}
    for values, where in (({"order": "rows"}, "--order"), ({"block_rows": 4}, "--block-rows")):
        with pytest.raises(UsageError, match="a DataLoader, which has an order of its own") as caught:
            fit(Loaded, runs_dir=None, **values)
        assert caught.value.where == where


def test_a_solver_has_no_order(tmp_path):
    train, net = rows(40), gluon.nn.Dense(1)
    run = fit(net, train=(train.features, train.labels), loss="l2", solver="lbfgs", epochs=3, runs_dir=tmp_path)
    assert order_in(run) == {}
    with pytest.raises(UsageError, match="means nothing with --solver lbfgs: every iteration takes all training rows"):
        fit(net, train=(train.features, train.labels), loss="l2", solver="lbfgs", order="windows")


def test_a_solver_takes_mapped_rows_that_fit():
    data = rows(200)
    for kind in (np.float32, np.float16):
        split = MappedArrays(data.features.astype(kind), data.labels)
        run = engine(Given(split), solver="lbfgs", epochs=3, memory="1MB").fit()
        plain = type(data)(data.features.astype(kind), data.labels)
        other = engine(Given(plain), solver="lbfgs", epochs=3).fit()
        for mine, theirs in zip(weights(run), weights(other), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    with pytest.raises(UsageError, match=r"all training rows in memory, and they take 0\.0 GB. Allow"):
        engine(Given(split), solver="lbfgs", epochs=3, memory="1KB")
    with pytest.raises(UsageError, match="MXNet's have at most 2147483647 numbers"):
        engine(Given(mapped(2**30)), solver="lbfgs", epochs=3, memory="1TB")


def test_the_command_line_has_the_options(command, tmp_path):
    data = rows(64)
    table = "\n".join(
        ["a,b,c,y", *(f"{a},{b},{c},{y:g}" for (a, b, c), y in zip(data.features, data.labels, strict=True))]
    )
    (tmp_path / "t.csv").write_text(table)
    common = ("run", "logreg", "--data", "t.csv", "--label", "y", "--epochs", 1)
    code, _, said = command(*common, "--name", "one", "--order", "windows", "--block-rows", 8, "--window-blocks", 2)
    assert code == 0, said
    assert command("run", "logreg", "--config", "runs/logreg/one/config.toml", "--name", "two")[0] == 0
    first, second = (read_config(tmp_path / "runs" / "logreg" / name / "config.toml") for name in ("one", "two"))
    assert first == second
    assert (first["order"], first["block-rows"], first["window-blocks"]) == ("windows", 8, 2)
    code, _, said = command(*common, "--order", "rows", "--block-rows", 8)
    assert (code, "--block-rows: one permutation of all rows has no blocks" in said) == (2, True)
