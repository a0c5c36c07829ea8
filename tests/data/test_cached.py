"""Splits of a table from a cache on the disk: equal to those in memory, found again, and made again if need be."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from trainer import Plugin, UsageError, fit, resume
from trainer.data import TableOptions, describe, load_splits
from trainer.data.cache import CorruptRows, stored_in, tables_folder
from trainer.data.tables import cached, splits
from trainer.runs import split_rows
from trainer_plugins.linreg import LinearRegression
from trainer_plugins.logreg import LogisticRegression

ROWS = 700


def table(rows=ROWS, seed=0):
    generator = np.random.default_rng(seed)
    numbers = generator.normal(50, 20, rows)
    days = np.datetime64("2024-01-01T00:00") + generator.integers(0, 400 * 24 * 60, rows)
    return pa.table({
        "size": pa.array(numbers, mask=generator.random(rows) < 0.05),
        "colour": pa.array(generator.choice(["red", "green", "blue"], rows), mask=generator.random(rows) < 0.05),
        "shop": np.char.add("shop ", generator.integers(0, 60, rows).astype(str)),
        "sold": pa.array(days.astype("datetime64[us]")),
        "open": generator.random(rows) < 0.5,
        "w": generator.uniform(0.5, 2, rows),
        "y": np.where(numbers + generator.normal(0, 10, rows) > 50, "yes", "no"),
    })  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TRAINER_CACHE_DIR", str(tmp_path / "cache"))
    pq.write_table(table(), tmp_path / "t.parquet")
    # A file that was just written may change again within the same tick of its clock.
    os.utime(tmp_path / "t.parquet", (time.time() - 100,) * 2)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def options(**more):
    return LogisticRegression(**{"data": "t.parquet", "label": "y", "one_hot_limit": 10, "sample_weight": "w", **more})


def arrays(found):
    return [
        array
        for rows in (found.train, found.validation, found.calibration, found.test)
        if rows is not None
        for array in (rows.features, rows.ids, rows.labels, rows.weights)
        if array is not None
    ]


def assert_equal(one, two):
    assert (one.schema, one.notes, one.files, one.split_version) == (
        two.schema,
        two.notes,
        two.files,
        two.split_version,
    )
    assert describe(one) == describe(two)
    assert one.fingerprint == two.fingerprint
    assert len(arrays(one)) == len(arrays(two))
    for mine, other in zip(arrays(one), arrays(two), strict=True):
        assert mine.dtype == other.dtype or mine.dtype == np.float16
        np.testing.assert_array_equal(mine, other)


def kept():
    return stored_in(tables_folder())


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"hidden": ()},
        {"hash_bits": 6, "one_hot_limit": 1000},
        {"validation_data": "v.csv", "test_split": 0},
        {"calibration_split": 0.1},
    ],
)
def test_rows_from_the_cache_are_those_in_memory(folder, more):
    pa.csv.write_csv(table(90, seed=1), folder / "v.csv")
    memory = load_splits(options(cache="off", **more), seed=3)
    first, again = (load_splits(options(cache="on", **more), seed=3) for _ in range(2))
    assert_equal(memory, first)
    assert_equal(memory, again)
    assert memory.train.prefetch is None and again.train.prefetch is not None  # noqa: PT018
    assert len(kept()) == 1


def test_auto_keeps_what_is_too_large_for_memory_and_takes_what_is_there():
    assert load_splits(options(), seed=0).train.prefetch is None
    assert not kept()
    assert load_splits(options(), seed=0, memory=10_000).train.prefetch is not None
    # Now it is faster than reading the table.
    assert load_splits(options(), seed=0).train.prefetch is not None


def test_a_table_is_not_opened_if_its_rows_are_kept(monkeypatch):
    load_splits(options(cache="on"), seed=0)
    monkeypatch.setattr(splits, "planned", lambda *_, **__: pytest.fail("the table was read"))
    load_splits(options(cache="on"), seed=0)


@pytest.mark.parametrize(
    "more",
    [{"seed": 1}, {"validation_split": 0.3}, {"calibration_split": 0.1},
     {"standardize": False}, {"min_count": 3}, {"ignore": ("shop",)},
     {"positive_class": "no"}, {"hidden": ()}, {"feature_type": "float16"}],
)  # fmt: skip
def test_whatever_changes_the_rows_has_a_cache_of_its_own(more):
    load_splits(options(cache="on"), seed=0)
    seed = more.pop("seed", 0)
    assert_equal(
        load_splits(options(cache="on", **more), seed=seed), load_splits(options(cache="off", **more), seed=seed)
    )
    assert len(kept()) == 2


@pytest.mark.parametrize("more", [{"threshold": 0.3}, {"class_weight": "balanced"}, {"activation": "tanh"}])
def test_what_does_not_change_the_rows_shares_a_cache(more):
    load_splits(options(cache="on"), seed=0)
    load_splits(options(cache="on", **more), seed=0)
    assert len(kept()) == 1


def test_a_task_that_learns_numbers_has_rows_of_its_own():
    given = {"data": "t.parquet", "label": "w", "cache": "on"}
    one = load_splits(LinearRegression(**given), seed=0)
    other = load_splits(LinearRegression(**given, objective="poisson"), seed=0)
    assert one.schema.target != other.schema.target
    assert len(kept()) == 2


def test_changed_files_are_read_again(folder):
    before = load_splits(options(cache="on"), seed=0)
    pq.write_table(table(seed=1), folder / "t.parquet")
    now = load_splits(options(cache="on"), seed=0)
    assert_equal(load_splits(options(cache="off"), seed=0), now)
    assert now.fingerprint != before.fingerprint


def test_a_copy_with_the_same_content_needs_no_new_cache(folder, caplog):
    load_splits(options(cache="on"), seed=0)
    shutil.copy(folder / "t.parquet", folder / "copy.parquet")
    os.utime(folder / "copy.parquet", (time.time() - 50,) * 2)
    found = load_splits(options(cache="on", data="copy.parquet"), seed=0)
    assert found.train.prefetch is not None
    assert len(kept()) == 1
    assert "comparing the content" in caplog.text


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[8192] ^= 1
    path.write_bytes(bytes(content))


def test_a_corrupt_block_is_named_and_made_again_on_request(folder):
    load_splits(options(cache="on"), seed=0)
    flip(next((folder / "cache").rglob("train.arrow")))
    with pytest.raises(CorruptRows, match=r"block 0 of the training rows .* is corrupt.*rebuild"):
        load_splits(options(cache="verify"), seed=0)
    assert_equal(*(load_splits(options(cache=cache), seed=0) for cache in ("off", "rebuild")))
    load_splits(options(cache="verify"), seed=0)


def test_rows_that_are_not_in_files_are_not_kept():
    given = TableOptions({"a": np.arange(40.0), "y": ["no", "yes"] * 20}, "y", cache="on")
    with pytest.raises(UsageError, match="--cache on: only the rows of files are kept"):
        load_splits(given, seed=0)
    load_splits(replace(given, cache="auto"), seed=0)


def test_half_floats_are_the_same_numbers_in_memory_and_from_the_cache():
    memory, mapped = (load_splits(options(cache=cache, feature_type="float16"), seed=0) for cache in ("off", "on"))
    whole = load_splits(options(cache="off"), seed=0)
    np.testing.assert_array_equal(memory.train.features, mapped.train.features.astype(np.float32))
    assert mapped.train.features.dtype == np.float16
    assert 0 < np.abs(memory.train.features - whole.train.features).max() < 0.01


@pytest.mark.parametrize("cache", ["on", "off"])
def test_a_number_too_large_for_half_floats_is_refused(folder, cache):
    large = table().set_column(0, "size", pa.array(np.linspace(0, 1e6, ROWS)))
    pq.write_table(large, folder / "t.parquet")
    with pytest.raises(UsageError, match=r"'size' is .*float16 holds at most 65504.*--feature-type"):
        load_splits(options(cache=cache, feature_type="float16", standardize=False), seed=0)
    assert not kept()


def test_an_error_while_rows_are_encoded_leaves_nothing(folder):
    broken = table().set_column(0, "size", pa.array([1.0] * 600 + [np.inf] * 100))
    pq.write_table(broken, folder / "t.parquet")
    with pytest.raises(UsageError, match="column 'size' is infinite"):
        load_splits(options(cache="on"), seed=0)
    assert not kept()
    assert not [path for path in (folder / "cache").rglob("*") if path.is_file()]


def test_what_a_cache_says_about_its_rows_is_the_whole_of_it():
    found = load_splits(options(cache="on"), seed=0)
    (entry,) = kept()
    assert sum(entry.rows.values()) == ROWS
    assert cached.VERSION == 1, "the key has this number: raise it if rows are encoded in another way"
    assert found.train_rows is None


# ---- runs ------------------------------------------------------------------------------------------------------------

SETTINGS = {"data": "t.parquet", "label": "y", "hidden": (), "batch_size": 16, "epochs": 2, "without": ["tensorboard"]}


class Nothing(Plugin):
    """Takes the place of the plugin that has killed a run."""

    name = "killer"


def weights(run):
    return [parameter.data().asnumpy() for parameter in run.net.collect_params().values()]


@pytest.mark.parametrize("order", [{}, {"order": "windows", "block_rows": 16, "window_blocks": 4}])
def test_a_run_on_the_cache_equals_one_in_memory(order):
    runs = [fit("logreg", **SETTINGS, **order, cache=cache, name=cache) for cache in ("off", "on")]
    for mine, other in zip(*map(weights, runs), strict=True):
        np.testing.assert_array_equal(mine, other)
    recorded = [split_rows(run.folder) for run in runs]
    for split, rows in recorded[0].items():
        np.testing.assert_array_equal(rows.numbers, recorded[1][split].numbers)


WINDOWS = {"order": "windows", "block_rows": 16, "window_blocks": 4, "cache": "on"}
KILLED = f"""
import os, signal
from trainer import Plugin, fit

class Killer(Plugin):
    name = "killer"

    def on_batch_end(self, run):
        if run.step == 13:
            run.save("soon")
        if run.step == 14:
            os.kill(os.getpid(), signal.SIGKILL)

fit("logreg", **{SETTINGS}, **{WINDOWS}, plugins=[Killer()], name="killed")
"""


def test_a_run_resumes_in_mid_epoch_after_a_kill_although_the_cache_is_gone(folder):
    killed = subprocess.run([sys.executable, "-c", KILLED], check=False, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    whole = fit("logreg", **SETTINGS, **WINDOWS, name="whole")
    shutil.rmtree(folder / "cache")
    parts = resume(folder / "runs" / "logreg" / "killed", plugins=[Nothing()])
    assert (parts.step, parts.epoch) == (whole.step, whole.epoch)
    for mine, other in zip(weights(whole), weights(parts), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_the_order_is_decided_once(folder):
    run = fit("logreg", **SETTINGS, memory="12KB", steps=5, name="small")
    text = (run.folder / "config.toml").read_text(encoding="utf-8")
    assert 'order = "windows"' in text
    resumed = resume(run.folder, steps=9, memory="4GB")
    assert resumed.settings.order == "windows"
    assert resumed.settings.block_rows == run.settings.block_rows
