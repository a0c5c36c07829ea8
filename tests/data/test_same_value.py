"""One way from a stored value to the net: the format, the type and the command never change what a value is."""

import datetime as dt
import decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import UsageError, fit, load_model
from trainer.data.tables.learn import Wanted, learn_schema
from trainer.data.tables.memory import as_table
from trainer.data.tables.moments import duration_text, moment_key
from trainer.data.tables.options import TableOptions
from trainer.data.tables.reading import open_stream, whole
from trainer.data.tables.splits import load_splits
from trainer.data.tables.values import key_of, number_key, shortest
from trainer.model.evaluate import evaluate_file

words = st.text(st.sampled_from("aBé;,\"' 01.:-"), min_size=1, max_size=5).map(str.strip).filter(bool)
codes = st.from_regex(r"0\d{2,4}|\d{17}|0x[0-9A-F]{2}|\d\d:\d\d|2020-0[1-9]-11( \d\d:\d\d)?|1\.[15]0", fullmatch=True)
moments = st.datetimes(dt.datetime(1990, 1, 1), dt.datetime(2030, 1, 1)).map(
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)
)
FLOATS = [pa.float16(), pa.float32(), pa.float64()]
halves = st.floats(width=16, allow_nan=False, allow_infinity=False)
short = halves.map(lambda value: float(str(np.float16(value))))
KINDS = {
    "number": (st.integers(-800, 800).map(lambda number: number / 8), FLOATS),
    "decimal": (short, FLOATS),
    "binary": (halves, FLOATS),
    "whole": (halves.map(int), [pa.int32(), pa.int64(), *FLOATS, pa.decimal128(12, 3)]),
    "flag": (st.booleans(), [pa.bool_()]),
    "word": (words, [pa.string(), pa.large_string(), pa.string_view(), "dictionary", "large dictionary"]),
    "code": (codes, [pa.string(), pa.large_string(), pa.string_view(), "dictionary"]),
    "date": (st.dates(), [pa.date32(), pa.date64(), pa.timestamp("s"), pa.timestamp("us")]),
    "moment": (moments, [pa.timestamp("ms"), pa.timestamp("us"), pa.timestamp("ns")]),
    "zoned": (moments, [pa.timestamp("us", "UTC"), pa.timestamp("ms", "Europe/Berlin"), pa.timestamp("ns", "+05:30")]),
    "duration": (
        st.timedeltas(dt.timedelta(-9999), dt.timedelta(9999)).map(
            lambda given: given - given % dt.timedelta(milliseconds=1)
        ),
        [pa.duration("ms"), pa.duration("us"), pa.duration("ns")],
    ),
    "cents": (st.decimals(-(10**9), 10**9, places=2), [pa.decimal128(12, 2), pa.decimal128(25, 9), pa.float64()]),
    "time": (moments.map(dt.datetime.time), [pa.time32("ms"), pa.time64("us"), pa.time64("ns")]),
}


def typed(values, kind):
    if kind == "dictionary":
        return pa.array(values, pa.string()).dictionary_encode()
    if kind == "large dictionary":
        return pa.array(values, pa.large_string()).dictionary_encode()
    if pa.types.is_decimal(kind):
        values = [None if value is None else decimal.Decimal(value) for value in values]
    elif any(isinstance(value, decimal.Decimal) for value in values):
        values = [None if value is None else float(value) for value in values]
    if any(type(value) is dt.date for value in values):
        return pa.array(values, pa.date32()).cast(kind)
    if pa.types.is_float16(kind):
        return pa.array([None if value is None else np.float16(value) for value in values], kind)
    return pa.array(values, kind)


def as_csv(column, *, short):
    """A column that can be written as CSV; half and single floats in few digits, or in all of them."""
    if pa.types.is_float16(column.type) or pa.types.is_float32(column.type):
        return shortest(column) if short else pa.array(column.to_numpy().astype(np.float64), from_pandas=True)
    if pa.types.is_duration(column.type):
        # pyarrow would write numbers without a unit.
        us = [None if each is None else each.value for each in column.cast(pa.duration("us")).combine_chunks()]
        return pa.array([None if each is None else duration_text(each) for each in us], pa.string())
    return column.cast(pa.string()) if str(column.type) == "string_view" else column


def written(table, folder, *, short=False):
    """The table, read back from every format."""
    plain = pa.table({name: as_csv(column, short=short)
                      for name, column in zip(table.column_names, table.columns, strict=True)})  # fmt: skip
    pyarrow.csv.write_csv(plain, folder / "t.csv")
    pyarrow.csv.write_csv(plain, folder / "t.tsv", pyarrow.csv.WriteOptions(delimiter="\t"))
    pyarrow.parquet.write_table(table, folder / "t.parquet")
    for name in ("t.csv", "t.tsv", "t.parquet"):
        stream = open_stream(str(folder / name))
        yield name, stream.untyped, whole(stream, table.column_names)
    yield "in memory", False, as_table(table, table.column_names)
    yield "columns", False, as_table({name: table[name] for name in table.column_names}, table.column_names)


@st.composite
def columns(draw):
    kind = draw(st.sampled_from(sorted(KINDS)))
    values, types = KINDS[kind]
    column = draw(
        st.lists(st.one_of(st.none(), values), min_size=2, max_size=12).filter(lambda given: set(given) - {None})
    )
    first, second = draw(st.sampled_from(types)), draw(st.sampled_from(types))
    return kind, column, first, second


@given(columns(), st.booleans())
@settings(deadline=None, max_examples=50)
def test_a_value_is_encoded_the_same_in_every_format_and_type_and_row_by_row(drawn, categorical):
    kind, values, learned, other = drawn
    labels = (["no", "yes"] * len(values))[: len(values)]
    # A column of codes is declared, as a CSV file cannot tell that its digits are not numbers. As a number, 0.1 is
    # another one in each precision.
    short = kind == "decimal"
    # Text such as 9.10 may be a version, which is not 9.100.
    chosen = ["a"] if (categorical and kind != "cents") or kind == "code" or short else []
    with TemporaryDirectory() as place:
        first, again = (pa.table({"a": typed(values, each), "y": labels}) for each in (learned, other))
        read = list(written(first, Path(place), short=short))
        schemas = []
        for name, untyped, table in read:
            try:
                schemas.append((name, learn_schema(table, Wanted("y", categorical=chosen), untyped=untyped).schema))
            except UsageError:
                # A word may be a number with signs, or one among numbers.
                if kind != "word":
                    raise
                return
        tables = [*read, *written(again, Path(place), short=short)]
        for name, schema in schemas:
            expected = schema.encode(read[0][2], where="here")
            # Words that are numbers, such as 1.0, are categories in a file with types.
            if kind == "word" and schema.columns[0].kind != schemas[0][1].columns[0].kind:
                continue
            assert not expected.unseen
            for source, _, table in tables:
                rows = schema.encode(table, where="here")
                np.testing.assert_array_equal(rows.features, expected.features, err_msg=f"{name}, {source}")
                np.testing.assert_array_equal(rows.labels, expected.labels)
                assert rows.unseen == {}
            single = [schema.encode(table.slice(row, 1), where="here").features[0] for row in range(len(values))]
            np.testing.assert_array_equal(single, expected.features)


@pytest.mark.parametrize(
    ("spellings", "others"),
    [
        (["08:00", "08:00:00", "08:00:00.000"], ["09:00", "08:00Z"]),
        (["2020-01-01T08:00", "2020-01-01 08:00:00", "2020-01-01T08:00:00.0"], ["2020-01-01", "2020-01-01T08:00Z"]),
        (
            ["2020-01-01T08:00Z", "2020-01-01 08:00+00:00", "2020-01-01 08:00:00+0000", "2020-01-01T09:30+01:30"],
            ["2020-01-01 08:00+01:00"],
        ),
        (["2020-01-01", "2020-01-01 00:00", "2020-01-01T00:00:00"], ["2020-01-02"]),
        (["1", "1.0", "+1", "01", "1e0", "1."], ["10", "-1", "0x1"]),
        (["12345678901234567", "12345678901234567.0"], ["12345678901234568"]),
        (["0", "-0", "0.0"], ["1"]),
        (["0.5", ".5", "5e-1"], ["0.50000001"]),
        (["TRUE", "true", "True"], ["false", "t"]),
    ],
)
def test_spellings_of_a_value_share_a_key(spellings, others):
    assert len({key_of(text) for text in spellings}) == 1
    assert key_of(spellings[0]) not in {key_of(text) for text in others}


@pytest.mark.parametrize("text", ["", "8:00", "2020-1-1", "20:00:00:00", "2020-01-01T", "T08:00", "12", ".5", "Z"])
def test_other_text_is_not_a_time(text):
    assert moment_key(text) is None


@pytest.mark.parametrize("text", ["", "1,5", "1_000", "0x1A", "1e", "٣", "1 000", "--1", "nan"])
def test_other_text_is_not_a_number(text):
    assert number_key(text) is None


def test_objects_of_several_types_are_the_text_that_a_file_would_have():
    import pandas as pd

    schema = learn_schema(pa.table({"a": ["red", "1"], "y": ["no", "yes"]}), Wanted("y"), untyped=True).schema
    frame = pd.DataFrame({"a": ["red", 1, None]})
    rows = schema.encode(as_table(frame, ["a"]), where="here")
    assert rows.features.tolist() == [[0, 1], [1, 0], [0, 0]]


def test_a_float_in_little_precision_is_ambiguous_only_if_two_categories_are_the_same_in_it():
    table = pa.table({"a": [1.0, 1.0001, 2.0], "y": ["no", "yes", "no"]})
    schema = learn_schema(table, Wanted("y", categorical=["a"]), untyped=False).schema
    half = pa.table({"a": pa.array(np.array([1, 2.0001, 3], np.float16))})
    rows = schema.encode(half, where="here")
    # Equal text is found first, as it is in every type.
    assert rows.features.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert rows.unseen == {"a": 1}


@pytest.mark.parametrize("kind", FLOATS, ids=str)
def test_floats_of_every_type_are_written_as_short_as_they_can_be(kind):
    table = pa.table({"a": typed([0.1, 2.0, 1e-7], kind), "y": ["no", "yes", "no"]})
    schema = learn_schema(table, Wanted("y", categorical=["a"]), untyped=False).schema
    assert schema.feature_names == ["a=0.1", "a=1e-07", "a=2"]
    target = learn_schema(table.slice(0, 2), Wanted("a"), untyped=False).schema.target
    assert target.names == ("0.1", "2")


CASES = {
    "blanks": [" red", " blue"],
    "times": ["08:00", "09:00"],
    "stamps": ["2020-01-01T08:00", "2020-01-01T09:00:00.5"],
    "zones": ["2020-01-01 08:00Z", "2020-01-01 08:00+01:00"],
    "hex": ["0x1A", "0x1B"],
    "zeros": ["007", "7"],
    "long": ["12345678901234567", "12345678901234568"],
    "truth": ["TRUE", "0", "1", "FALSE"],
    "versions": ["1.1", "1.10"],
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("as_label", [False, True])
def test_a_file_for_validation_is_read_as_the_training_file(tmp_path, name, as_label):
    values = CASES[name][:2] if as_label and name != "truth" else CASES[name]
    rows = [value for value in values for _ in range(20)]
    other = [number % 2 for number in range(len(rows))]
    lines = [f"{value},{label}" for value, label in zip(rows, other, strict=True)]
    (tmp_path / "t.csv").write_text("a,b\n" + "\n".join(lines) + "\n")
    # One value of each: nothing of a neighbour's may decide what a value is.
    (tmp_path / "v.csv").write_text("a,b\n" + "\n".join([lines[0], lines[-1]]) + "\n")
    options = TableOptions(tmp_path / "t.csv", "a" if as_label else "b", categorical=() if as_label else ("a",),
                           validation_data=tmp_path / "v.csv", test_data=tmp_path / "t.csv", numeric=())  # fmt: skip
    splits = load_splits(options, seed=0)
    assert splits.validation.unseen == splits.test.unseen == {}
    np.testing.assert_array_equal(splits.test.features, splits.train.features)
    np.testing.assert_array_equal(splits.test.labels, splits.train.labels)
    if not as_label:
        assert (splits.validation.features == splits.train.features[[0, -1]]).all()


def test_a_change_after_any_number_of_rows_is_seen(tmp_path, monkeypatch):
    from trainer.data.tables import csv_rows

    monkeypatch.setattr(csv_rows, "BLOCK_BYTES", 100)
    (tmp_path / "t.csv").write_text("a,b,y\n" + "TRUE,1,no\nFALSE,2,yes\n" * 50 + "1,0x1A,no\n0,0x1B,yes\n")
    with pytest.raises(UsageError, match="text '0x1A' in the numeric column 'b' at row 101"):
        load_splits(TableOptions(tmp_path / "t.csv", "y", validation_split=0, test_split=0), seed=0)
    options = TableOptions(tmp_path / "t.csv", "y", ignore=("b",), validation_split=0, test_split=0)
    splits = load_splits(options, seed=0)
    assert splits.schema.columns[0].kind == "flag"
    assert splits.train.features[:, 0].tolist() == [1, 0] * 51


def parquet(tmp_path, **made):
    pyarrow.parquet.write_table(pa.table(made), tmp_path / "t.parquet")
    return TableOptions(tmp_path / "t.parquet", "y")


def test_digits_in_a_column_of_text_stay_text_unless_asked_for(tmp_path):
    options = parquet(tmp_path, a=["00123", "00124"] * 20, y=["no", "yes"] * 20)
    splits = load_splits(options, seed=0)
    assert splits.schema.feature_names == ["a=00123", "a=00124"]
    assert any("--numeric a takes it as numbers" in note for note in splits.notes)
    options.numeric = ("a",)
    assert load_splits(options, seed=0).schema.columns[0].kind == "number"
    options.categorical = ("a",)
    with pytest.raises(UsageError, match="'a' cannot be both"):
        load_splits(options, seed=0)


@pytest.mark.parametrize(
    "texts", [["1,234", "5"], ["$5", "$6.50"], ["5%", "7.5%"], ["(1,234)", "5"], ["0,5", "1,5"], ["1.234,50 €"]]
)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_numbers_in_another_notation_are_refused(tmp_path, texts, ending):
    table = pa.table({"a": (texts * 40)[:40], "y": ["no", "yes"] * 20})
    path = tmp_path / f"t.{ending}"
    (pyarrow.csv.write_csv if ending == "csv" else pyarrow.parquet.write_table)(table, path)
    with pytest.raises(
        UsageError, match=r"numbers with signs or separators, such as '.* at row \d+\. .*--categorical a"
    ):
        load_splits(TableOptions(path, "y"), seed=0)
    assert load_splits(TableOptions(path, "y", categorical=("a",)), seed=0).schema.columns[0].kind == "category"


def test_the_index_that_pandas_writes_is_left_out_with_a_line(tmp_path):
    import pandas as pd

    frame = pd.DataFrame({"a": [1.0, 2.0] * 20, "y": ["no", "yes"] * 20}, index=range(7, 47))
    frame.to_csv(tmp_path / "t.csv")
    frame.set_index(frame.index * 2).to_parquet(tmp_path / "t.parquet", index=True)
    for name in ("t.csv", "t.parquet"):
        splits = load_splits(TableOptions(tmp_path / name, "y"), seed=0)
        assert splits.schema.feature_names == ["a"]
        assert any(note.startswith("left out: ") and "pandas" in note for note in splits.notes)


def test_a_column_with_nearly_a_value_per_row_is_said(tmp_path):
    options = parquet(tmp_path, a=[f"v{number}" for number in range(40)], b=["x", "z"] * 20, y=["no", "yes"] * 20)
    (note,) = load_splits(options, seed=0).notes
    assert note == (
        "column a has 24 different values in 24 training rows, each an input of its own; --ignore a leaves it out"
    )


def table_of(kinds, rows=120):
    """A table with a column of each kind, some values missing, and a label that follows them."""
    generator = np.random.default_rng(len(kinds))
    label = generator.integers(0, 2, rows)
    choices = {
        "number": lambda: [f"{label[row] + generator.normal():.3f}" if row % 7 else "" for row in range(rows)],
        "slot": lambda: [("08:00", "09:00")[label[row]] for row in range(rows)],
        "stamp": lambda: [("2020-01-01T08:00", "2020-01-01 08:00:00.5")[label[row]] for row in range(rows)],
        "hex": lambda: [("0x1A", "0x1B", "?")[label[row] + row % 2] for row in range(rows)],
        "zeros": lambda: [("007", "7", "0007")[label[row] + row % 2] for row in range(rows)],
        "long": lambda: [("12345678901234567", "12345678901234568")[label[row]] for row in range(rows)],
        "truth": lambda: [(("TRUE", "1"), ("false", "0"))[label[row]][row % 2] for row in range(rows)],
        "word": lambda: [(" red", " blue ", "NA")[(label[row] + row % 3) % 3] for row in range(rows)],
    }
    columns = {kind: choices[kind]() for kind in kinds}
    return columns | {"y": [(" <=50K", " >50K")[each] for each in label]}


RUNS = [
    ["number", "word"], ["slot"], ["stamp"], ["hex"], ["zeros"], ["long"], ["truth"],
    ["number", "slot", "truth"], ["word", "zeros", "stamp"],
    ["number", "slot", "stamp", "hex", "zeros", "long", "truth", "word"],
]  # fmt: skip


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("kinds", RUNS, ids="-".join)
def test_evaluate_says_of_the_validation_file_what_the_run_said(tmp_path, kinds, ending):
    made = pa.table(table_of(kinds))
    if ending == "parquet":
        made = made.set_column(0, kinds[0], made[kinds[0]].dictionary_encode())
    path = tmp_path / f"t.{ending}"
    (pyarrow.csv.write_csv if ending == "csv" else pyarrow.parquet.write_table)(made, path)
    run = fit(
        "logreg", data=path, validation_data=path, test_split=0, label="y", hidden=(4,), epochs=2, name="one",
        categorical=tuple(kind for kind in kinds if kind in ("zeros", "long")), runs_dir=tmp_path / "runs",
        numeric=("number",) if "number" in kinds and ending == "parquet" else (),
        without=["progress", "tensorboard", "report", "checkpoint", "threshold-tuner"],
    )  # fmt: skip
    found = evaluate_file(load_model(run.folder), str(path))
    said = {name.partition("/")[2]: value for name, value in run.metrics.items() if name.startswith("validation/")}
    assert found.metrics["given"] == pytest.approx({name: said[name] for name in found.metrics["given"]}, rel=1e-5)
    assert not found.report.unseen
