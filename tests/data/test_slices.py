"""Slices: which evaluated row is in which group, however the rows are read and split, and what is refused."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import Tiny, engine, rows

from trainer import Splits, UsageError, fit, on
from trainer.data import Slices
from trainer.data.row_numbers import from_parquet
from trainer.data.split_names import JUDGED
from trainer.data.tables.options import TableOptions
from trainer.data.tables.overview import look
from trainer.data.tables.splits import load_splits

ROWS = 160
WAYS = [{}, {"group": "region"}, {"time": "day"}, {"split": "part"}, {"validation_data": "own", "calibration_split": 0}]


def table(count=ROWS, seed=0, **more):
    generator = np.random.default_rng(seed)
    days = np.datetime64("2024-01-01") + generator.permutation(count)
    return pa.table(
        {
            "region": generator.choice([f"r{n}" for n in range(12)], count),
            "size": generator.choice([2, 10, 9], count),
            "kind": [None if n % 7 == 3 else "ab"[n % 2] for n in range(count)],
            "day": days.astype(str).tolist(),
            "x": generator.normal(size=count).round(3),
            "part": generator.choice(["train", "train", "val", "cal", "test"], count),
            "y": [None if n % 11 == 5 else int(n % 2) for n in range(count)],
            **more,
        }
    )


def written(path, made):
    write = pyarrow.csv.write_csv if path.suffix == ".csv" else pyarrow.parquet.write_table
    write(made, path)
    return path


def words(made, column):
    """What the slices of all rows are called."""
    return np.array(["missing" if value is None else str(value) for value in made[column].to_pylist()])


@settings(deadline=None, max_examples=25)
@given(
    way=st.sampled_from(WAYS),
    ending=st.sampled_from([".csv", ".parquet", "a table"]),
    memory=st.sampled_from([None, 1000]),
    cache=st.sampled_from(["off", "on"]),
    seed=st.integers(0, 99),
)
def test_the_slice_of_every_evaluated_row_is_its_value(tmp_path_factory, way, ending, memory, cache, seed):
    folder = tmp_path_factory.mktemp("slices")
    made, other = table(seed=seed), table(50, seed=seed + 1)

    def source(name, each):
        return each if ending == "a table" else written(folder / f"{name}{ending}", each)

    given = {"calibration_split": 0.0 if "split" in way else 0.2, **way}
    if "validation_data" in way:
        given["validation_data"] = source("own", other)
    options = TableOptions(source("data", made), "y", ignore=("kind",), slice=("kind", "size", "region", "kind"),
                           cache="off" if ending == "a table" else cache, cache_dir=None if cache == "off" or ending ==
                           "a table" else folder / "cache", drop_unlabelled=True, **given)  # fmt: skip
    splits = load_splits(options, seed=seed, memory=memory)
    numbers = {split: getattr(splits, f"{split}_rows") for split in ("validation", "calibration", "test")}
    if cache == "on" and ending != "a table":
        stored = from_parquet(splits.fingerprint.stored())
        numbers = {split: found.numbers for split, found in stored.items() if split != "train"}
        again = load_splits(options, seed=seed)
        assert [each.tolist() for each in codes(splits)] == [each.tolist() for each in codes(again)]
    assert list(splits.slices) == [split for split in JUDGED if getattr(splits, split) is not None]
    assert "kind" not in splits.schema.feature_names
    for split, columns in splits.slices.items():
        assert list(columns) == ["kind", "size", "region"]
        assert columns["size"].names == ["2", "9", "10"]
        assert columns["kind"].names == ["a", "b", "missing"]
        of, kept = made, numbers.get(split)
        if split == "validation" and "validation_data" in way:
            of, kept = other, np.array([n for n, label in enumerate(other["y"].to_pylist()) if label is not None])
        for name, found in columns.items():
            assert found.codes.dtype == np.int32
            assert np.array(found.names)[found.codes].tolist() == words(of, name)[kept].tolist()
            assert found.counts.sum() == len(getattr(splits, split).labels)


def codes(splits):
    return [each.codes for columns in splits.slices.values() for each in columns.values()]


def test_a_run_has_the_slices_in_the_order_of_its_evaluations(tmp_path):
    options = {"data": written(tmp_path / "t.csv", table(y=np.arange(ROWS) % 3 % 2)), "label": "y", "slice": "y,size"}
    seen = []

    def look_at(run):
        found = run.slices(run.split)
        seen.append(run.split)
        assert found["y"].codes.tolist() == run.evaluation.labels.astype(int).tolist()
        assert set(found["size"].names) == {"2", "9", "10"}

    watching = [getattr(on, f"{event}_end")(look_at, name=event) for event in ("evaluate", "calibration", "test")]
    run = fit("logreg", **options, calibration_split=0.1, epochs=1, batch_size=7, runs_dir=None, plugins=watching,
              without=["progress", "tensorboard", "report"])  # fmt: skip
    assert seen == ["validation", "calibration", "test"]
    assert run.slices("train") == {}


def test_a_task_may_give_slices_and_wrong_ones_are_refused():
    def task(**slices):
        class Sliced(Tiny):
            def splits(self, run):
                return Splits(rows(4), rows(3, seed=1), slices=slices)

        return Sliced()

    one = Slices(np.array([0, 1, 0], np.int32), ["a", "b"])
    assert engine(task(validation={"g": one})).run.slices("validation")["g"].counts.tolist() == [2, 1]
    for slices, said in (
        ({"test": {"g": one}}, "slices of 'g' in 'test': the run does not evaluate such a split"),
        ({"train": {"g": one}}, "does not evaluate such a split"),
        ({"validation": {"g": Slices(one.codes[:2], one.names)}}, r"their codes are (2,) and the split has 3 rows"),
        ({"validation": {"g": Slices(one.codes, ["a"])}}, "a code is not a number of one of the 1 names"),
    ):
        with pytest.raises(UsageError, match=re.escape(said)):
            engine(task(**slices))


REFUSED = {
    "many numbers": ({"g": np.arange(ROWS)}, {}, "column 'g' has 160 different values, and --slice takes 100 numbers"),
    "numbers as text": ({"g": [f"{n}.5" for n in range(ROWS)]}, {}, "Add a column with the bins of these numbers"),
    "many categories": ({"g": [f"a{n % 1001}" for n in range(2002)]}, {},
        "column 'g' has 1,001 different values, and --slice takes 1,000 values at most. Add a column with the bins"),
    "no such column": ({}, {}, "there is no column 'g' for --slice"),
    "lists": ({"g": [[1]] * ROWS}, {}, "column 'g' holds list<"),
}  # fmt: skip


@pytest.mark.parametrize(("columns", "given", "message"), REFUSED.values(), ids=REFUSED)
def test_a_column_that_cannot_be_slices_is_refused(tmp_path, columns, given, message):
    count = len(columns.get("g", range(ROWS)))
    path = tmp_path / ("t.parquet" if "list" in message else "t.csv")
    options = TableOptions(written(path, table(count, y=np.arange(count) % 2, **columns)), "y", ignore=("g",)
                           if columns else (), slice=("g",), **given)  # fmt: skip
    with pytest.raises(UsageError, match=re.escape(message)):
        load_splits(options, seed=0)


def test_codes_that_are_categories_may_be_a_thousand_and_the_table_shows_what_is_refused(tmp_path):
    path = written(tmp_path / "t.csv", table(y=np.arange(ROWS) % 2, g=np.arange(ROWS)))
    options = TableOptions(path, "y", slice=("g", "kind"), categorical=("g",), ignore=("kind",))
    assert len(load_splits(options, seed=0).slices["test"]["g"].names) == 64
    columns = {column.name: column for column in look(options, seed=0).columns}
    assert (columns["kind"].kind, columns["kind"].error, columns["g"].error) == ("slice", None, None)
    refused = look(TableOptions(path, "y", slice=("g",)), seed=0).columns
    assert "has 160 different values" in next(column.error for column in refused if column.name == "g")


def test_a_file_of_its_own_needs_the_column(tmp_path):
    data = written(tmp_path / "t.csv", table(y=np.arange(ROWS) % 2))
    other = written(tmp_path / "v.csv", table(40, y=np.arange(40) % 2).drop_columns(["kind"]))
    with pytest.raises(UsageError, match=r"v\.csv: there is no column 'kind' for --slice"):
        load_splits(TableOptions(data, "y", ignore=("kind",), slice=("kind",), test_data=other), seed=0)
