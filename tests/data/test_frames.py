"""A table in memory takes the place of a file: data frames, Arrow tables, dicts of columns."""

import datetime as dt
import logging

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer import UsageError, fit, load_model, resume

ROWS = 200


def columns():
    generator = np.random.default_rng(0)
    number, word = generator.normal(size=ROWS), np.array(["x", "y", "z"])[generator.integers(0, 3, ROWS)]
    whole = generator.integers(0, 9, ROWS)
    return {"number": number, "word": word, "whole": whole, "label": np.where(number + (word == "x") > 0, "yes", "no")}


def structured(table):
    made = np.empty(ROWS, [(name, values.dtype) for name, values in table.items()])
    for name, values in table.items():
        made[name] = values
    return made


class Streamed:
    """Whatever exports an Arrow stream."""

    def __init__(self, table):
        self._table = pa.table(table)

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


FORMS = {
    "dict": dict,
    "pandas": pd.DataFrame,
    "pandas-index": lambda table: pd.DataFrame(table, index=np.arange(ROWS)[::-1]),
    "pandas-category": lambda table: pd.DataFrame(table).astype({"word": "category"}),
    "polars": pl.DataFrame,
    "arrow": pa.table,
    "chunks": lambda table: pa.concat_tables([pa.table(table).slice(0, 7), pa.table(table).slice(7)]),
    "batch": pa.RecordBatch.from_pydict,
    "structured": structured,
    "stream": Streamed,
}
SETTINGS = {"label": "label", "epochs": 1, "without": ["progress"], "hidden": ()}


def trained(data, **more):
    return fit("logreg", data=data, **{**SETTINGS, "runs_dir": None, **more})


@pytest.fixture(scope="module")
def of_file(tmp_path_factory):
    """A run on the same table as a Parquet file."""
    path = tmp_path_factory.mktemp("table") / "t.parquet"
    pq.write_table(pa.table(columns()), path)
    return trained(path)


@pytest.mark.parametrize("form", FORMS)
def test_a_table_in_memory_trains_as_its_file_does(form, of_file):
    check_same(trained(FORMS[form](columns())), of_file)


def check_same(one, two):
    """That both have the same rows, metrics and weights, to the bit."""
    assert one.metrics == two.metrics
    assert one.fingerprint.to_json() == two.fingerprint.to_json()
    weights = [[each.data().asnumpy() for each in run.net.collect_params().values()] for run in (one, two)]
    assert all((first == second).all() for first, second in zip(*weights, strict=True))


FIRST = dt.datetime(2024, 1, 1, 12)


@pytest.mark.parametrize("task", ["logreg", "linreg"])
@pytest.mark.parametrize("by", [{"group": "whole"}, {"time": "at", "time_gap": "P2D"}, {"split": "part"}])
def test_columns_of_any_kind_and_ways_to_split_are_those_of_files(task, by, tmp_path):
    table = pd.DataFrame(columns() | {
        "at": [FIRST + dt.timedelta(days=row) for row in range(ROWS)],
        "day": [(FIRST + dt.timedelta(days=7 * row)).date() for row in range(ROWS)],
        "flag": [None if row % 7 == 0 else row % 2 == 0 for row in range(ROWS)],
        "part": [("train", "train", "validation", "test")[row % 4] for row in range(ROWS)],
    })  # fmt: skip
    label = {"label": "label"} if task == "logreg" else {"label": "number", "categorical": ["label"]}
    table.to_parquet(tmp_path / "t.parquet", index=False)
    settings = {**SETTINGS, **by, **label, "runs_dir": None}
    found = [fit(task, data=data, **settings) for data in (table, tmp_path / "t.parquet")]
    check_same(*found)


def test_validation_and_test_rows_may_be_tables_in_memory_too(tmp_path):
    table, held = columns(), pa.table(columns()).slice(0, 90)
    run = trained(table, validation_data=held, test_data=held.to_pandas(), runs_dir=tmp_path, validation_split=0.3)
    pq.write_table(held, tmp_path / "v.parquet")
    paths = {"validation_data": tmp_path / "v.parquet", "test_data": tmp_path / "v.parquet"}
    assert trained(table, **paths).metrics == run.metrics


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (5, "an int is not a table"),
        (np.zeros((4, 3)), "an array has no names of columns"),
        ({"a": [1, 2], "label": [1]}, "different numbers of rows: a has 2, label has 1"),
        ({"1": [1], 1: [2]}, "two columns are named '1'"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns are named 'a'"),
        (pl.LazyFrame({"a": [1]}), r"holds no rows yet: give its collect\(\)"),
        ({"a": [], "label": []}, "no rows"),
        ({"a": [1, 2], "label": ["x", None]}, "the data: the label in column 'label' is missing at row 2"),
    ],
)
def test_what_is_not_a_table_says_why(data, message):
    with pytest.raises(UsageError, match=message):
        trained(data)


def test_messages_name_the_split_of_a_table_in_memory():
    with pytest.raises(UsageError, match=r"^the validation data: columns are missing: whole"):
        trained(columns(), validation_data=pa.table(columns()).drop_columns(["whole"]))


def test_a_run_on_a_table_in_memory_has_a_model_and_is_resumed_with_the_same_table(tmp_path):
    whole = trained(columns(), epochs=3, runs_dir=tmp_path)
    run = trained(columns(), epochs=1, runs_dir=tmp_path)
    assert 'data = "in memory: 200 rows, 4 columns"' in (run.folder / "config.toml").read_text()
    assert load_model(run.folder).predict(columns()).num_rows == ROWS
    with pytest.raises(
        UsageError, match=r"^the run's data: the table was given in Python, .*trainer\.resume\(run, data=table\)"
    ):
        resume(run.folder, epochs=3)
    changed = columns() | {"whole": np.zeros(ROWS, int)}
    with pytest.raises(UsageError, match=r"the data have changed: data: the values differ in the column whole\."):
        resume(run.folder, epochs=3, data=changed)
    with pytest.raises(UsageError, match=r"^test_data: the run was trained without it\. Leave it out"):
        resume(run.folder, epochs=3, data=columns(), test_data=columns())
    pq.write_table(pa.table(columns()), tmp_path / "t.parquet")
    assert resume(run.folder, epochs=2, data=tmp_path / "t.parquet").epoch == 2
    assert resume(run.folder, epochs=3, data=columns()).metrics == whole.metrics
    assert resume(run.folder, epochs=4, data=changed, changed_data="ok").epoch == 4


def test_the_command_line_says_that_a_table_in_memory_has_to_be_given_in_python(command, tmp_path):
    run = trained(columns(), epochs=1, runs_dir=tmp_path)
    code, _, error = command("resume", run.folder, "--epochs", 2)
    assert code == 2
    assert "the table was given in Python" in error
    assert "Traceback" not in error


def test_how_a_table_in_memory_is_read_is_told_like_that_of_a_file(caplog):
    digits = columns() | {"word": np.array([str(number) for number in columns()["whole"]])}
    with caplog.at_level(logging.WARNING, logger="trainer"):
        trained(digits)
    assert "column word is text, so it is a category although it holds numbers" in caplog.text
