"""Tables: what is read, how it is cut, and what the training rows teach."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import UsageError
from trainer.data.labels import Labels, in_order
from trainer.data.read import read_table
from trainer.data.schema import Schema
from trainer.data.table import TableOptions, describe, load_splits


def learn(table, label="y", **options):
    return Schema.learn(table, label=label, **options)


def table(**columns):
    return pa.table(columns)


LABELS = ["no", "yes"] * 3


def encode(made, **options):
    return learn(made, **options).encode(made, where="here")


# ---- reading --------------------------------------------------------------------------------------------------------


def test_white_space_quotes_and_words_for_missing_are_understood(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('a , b,c\n 1,"x, y", ?\n NA, z,2\n 3, null,4\n')
    read = read_table(path)
    assert read.column_names == ["a", "b", "c"]
    schema = learn(read.append_column("y", pa.array(["u", "v", "u"])))
    assert [(column.name, column.kind) for column in schema.columns] == [
        ("a", "numeric"),
        ("b", "text"),
        ("c", "numeric"),
    ]
    assert schema.columns[1].categories == ("x, y", "z")


def test_newlines_within_quotes_belong_to_the_value(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('a,b\n"one\ntwo",1\nthree,2\n')
    assert read_table(path).column("a").to_pylist() == ["one\ntwo", "three"]


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.csv.gz", "t.parquet", "t.pq"])
def test_every_form_of_file_gives_the_same_rows(tmp_path, name):
    made = table(a=[1.5, None, 3.0], b=["x", "y", None], c=[True, False, True], y=["no", "yes", "no"])
    path = tmp_path / name
    if "parquet" in name or name.endswith("pq"):
        pyarrow.parquet.write_table(made, path)
    else:
        buffer = pa.BufferOutputStream()
        delimiter = "\t" if "tsv" in name else ","
        pyarrow.csv.write_csv(made, buffer, pyarrow.csv.WriteOptions(delimiter=delimiter))
        content = buffer.getvalue().to_pybytes()
        path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    rows, expected = encode(read_table(path)), encode(made)
    np.testing.assert_array_equal(rows.features, expected.features)
    np.testing.assert_array_equal(rows.labels, expected.labels)


@pytest.mark.parametrize("late", ["1.5", "x1"])
def test_a_type_that_does_not_hold_in_a_later_block_is_widened(tmp_path, late):
    rows = 300_000  # more than pyarrow's first block, from which it guesses
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + "1,0\n" * rows + f"{late},1\n")
    column = read_table(path).column("a")
    assert column[0].as_py() in (1, 1.0, "1")
    assert str(column[rows].as_py()) == late


# ---- learning and encoding ------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30))
@settings(deadline=None)
def test_numbers_are_standardised_as_scikit_learn_does(values):
    from sklearn.preprocessing import StandardScaler

    made = table(a=values, y=(["no", "yes"] * len(values))[: len(values)])
    schema = learn(made)
    expected = StandardScaler().fit_transform(np.array(values)[:, None])
    tolerance = 1e-4 + 1e-9 * np.abs(values).max() / schema.columns[0].deviation
    np.testing.assert_allclose(schema.encode(made, where="here").features, expected, atol=tolerance, rtol=1e-4)


@given(st.lists(st.sampled_from(["red", "green", "blue"]), min_size=2, max_size=30))
@settings(deadline=None)
def test_text_becomes_one_input_a_category_as_scikit_learn_does(values):
    from sklearn.preprocessing import OneHotEncoder

    made = table(a=values, y=(["no", "yes"] * len(values))[: len(values)])
    expected = OneHotEncoder(sparse_output=False).fit_transform(np.array(values)[:, None])
    np.testing.assert_array_equal(encode(made).features, expected)


def test_missing_numbers_take_the_training_mean_and_missing_text_a_category():
    made = table(a=[1.0, None, 3.0, 4.0], b=["x", None, "y", "x"], c=[True, None, True, False], y=LABELS[:4])
    schema = learn(made, standardize=False)
    rows = schema.encode(made, where="here")
    assert schema.feature_names == ["a", "b=x", "b=y", "b=(missing)", "c"]
    np.testing.assert_allclose(rows.features[1], [8 / 3, 0, 0, 1, 2 / 3], rtol=1e-6)
    assert rows.missing == {"a": 1, "b": 1, "c": 1}


def test_a_category_that_training_did_not_have_is_all_zeros_and_counted():
    schema = learn(table(a=["x", "y"], y=["no", "yes"]))
    rows = schema.encode(table(a=["z", "x", None], y=["no", "yes", "no"]), where="here")
    assert rows.features.tolist() == [[0, 0], [1, 0], [0, 0]]
    assert rows.unseen == {"a": 1}


def test_a_constant_column_becomes_zero():
    assert encode(table(a=[0.1] * 6, y=LABELS)).features.tolist() == [[0.0]] * 6


def test_numbers_written_as_text_are_numbers_and_categorical_makes_text_of_numbers():
    as_text = table(a=["1", "2.5", "3"] * 2, y=LABELS)
    assert learn(as_text).columns[0].kind == "numeric"
    numbers = table(a=[1.0, 2.0, 1.0] * 2, y=LABELS)
    assert learn(numbers, categorical=["a"]).feature_names == ["a=1", "a=2"]


def test_too_many_categories_are_an_error():
    names = [f"n{number}" for number in range(1001)]
    with pytest.raises(UsageError, match=r"1001 different texts.*Add --ignore a"):
        learn(table(a=names, y=(["no", "yes"] * 501)[:1001]))


def test_features_and_ignore_choose_columns():
    made = table(a=[1, 2] * 3, b=[3, 4] * 3, c=[5, 6] * 3, w=[1.0, 2.0] * 3, y=LABELS)
    assert learn(made, ignore=["b"], sample_weight="w").feature_names == ["a", "c"]
    assert learn(made, features=["c", "a"]).feature_names == ["c", "a"]
    with pytest.raises(UsageError, match="no column is left"):
        learn(made, ignore=["a", "b", "c", "w"])


def test_dictionary_and_decimal_columns_of_parquet_are_read(tmp_path):
    import decimal

    made = table(
        a=pa.array(["x", "y", "x"] * 2).dictionary_encode(),
        b=pa.array([decimal.Decimal("1.5"), decimal.Decimal("2.5"), None] * 2),
        c=pa.array(["1", "2", "3"] * 2, pa.large_string()),
        y=LABELS,
    )
    path = tmp_path / "t.parquet"
    pyarrow.parquet.write_table(made, path)
    kinds = [column.kind for column in learn(read_table(path)).columns]
    assert kinds == ["text", "numeric", "numeric"]


words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=5).map(str.strip)


@given(
    st.lists(
        st.tuples(st.one_of(st.none(), st.floats(-100, 100)), st.one_of(st.none(), words.filter(bool)), st.booleans()),
        min_size=2,
        max_size=20,
    ),
    st.randoms(),
)
@settings(deadline=None)
def test_a_schema_survives_json_and_encodes_rows_one_by_one(rows, random):
    numbers, texts, flags = (list(column) for column in zip(*rows, strict=True))
    made = table(a=[0.0, *numbers], b=["word", *texts], c=[True, *flags], y=(["no", "yes"] * 20)[: len(rows) + 1])
    try:
        schema = learn(made)
    except UsageError:
        return
    again = Schema.from_json(json.loads(json.dumps(schema.to_json())))
    assert again == schema
    order = list(range(made.num_rows))
    random.shuffle(order)
    whole, shuffled = schema.encode(made, where="here"), again.encode(made.take(order), where="here")
    np.testing.assert_array_equal(whole.features[order], shuffled.features)
    np.testing.assert_array_equal(whole.labels[order], shuffled.labels)


@pytest.mark.parametrize("junk", [None, [], {}, {"version": 99}, {"version": 1, "columns": "x"}, {"version": 1}])
def test_a_schema_from_junk_is_an_error(junk):
    with pytest.raises(UsageError, match="schema"):
        Schema.from_json(junk)


# ---- labels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("classes", "positive"),
    [
        ([0, 1], "1"),
        ([-1, 1], "1"),
        ([2, 1], "2"),
        ([1.0, 2.0], "2"),
        ([True, False], "true"),
        (["yes", "no"], "yes"),
        (["Y", "N"], "Y"),
        (["Positive", "Negative"], "Positive"),
        (["spam", "ham"], "spam"),
        (["<=50K", ">50K"], ">50K"),
        ([9, 10], "10"),
    ],
)
def test_the_class_that_counts_as_1(classes, positive):
    values = pa.chunked_array([pa.array(classes * 2)])
    labels = Labels.learn("y", values, None, where="here")
    assert labels.positive == positive
    from trainer.data.columns import plain

    expected = [float(plain(value) == positive) for value in classes * 2]
    assert labels.encode("y", values, where="here").tolist() == expected


@given(st.lists(st.one_of(st.text(min_size=1), st.integers().map(str)), min_size=2, max_size=2, unique=True))
def test_two_classes_of_any_names_have_one_order(classes):
    assert in_order(classes) == in_order(classes[::-1])
    assert sorted(in_order(classes)) == sorted(classes)


@pytest.mark.parametrize("wanted", ["1", "1.0", " 1 "])
def test_the_positive_class_is_found_as_a_number_too(wanted):
    assert Labels.learn("y", pa.chunked_array([[2, 1, 2]]), wanted, where="here").positive == "1"


def test_a_class_that_training_did_not_have_names_its_row():
    labels = Labels.learn("y", pa.chunked_array([["a", "b"]]), None, where="here")
    with pytest.raises(UsageError, match=r"there: the label in column 'y' is 'c' at row 2.*'a' and 'b'"):
        labels.encode("y", pa.chunked_array([["a", "c"]]), where="there")


# ---- splits ---------------------------------------------------------------------------------------------------------


def written(tmp_path, rows=100, name="t.csv", seed=0):
    generator = np.random.default_rng(seed)
    made = table(a=generator.normal(size=rows), y=(["no", "yes", "no", "no"] * rows)[:rows])
    pyarrow.csv.write_csv(made, tmp_path / name)
    return tmp_path / name


def test_the_parts_are_disjoint_complete_stratified_and_a_function_of_the_seed(tmp_path):
    path = written(tmp_path)
    splits, again, other = (load_splits(TableOptions(path, "y", seed=seed)) for seed in (1, 1, 2))
    parts = [splits.train_rows, splits.validation_rows, splits.test_rows]
    assert [len(part) for part in parts] == [60, 20, 20]
    assert sorted(np.concatenate(parts)) == list(range(100))
    assert [rows.labels.mean() for rows in (splits.train, splits.validation, splits.test)] == [0.25] * 3
    np.testing.assert_array_equal(splits.train_rows, again.train_rows)
    assert (splits.train_rows != other.train_rows).any()


def test_the_schema_never_sees_rows_of_validation_or_test(tmp_path):
    path = written(tmp_path)
    splits = load_splits(TableOptions(path, "y"))
    made = pyarrow.csv.read_csv(path)
    values = made.column("a").to_numpy().copy()
    values[splits.validation_rows] += 1000
    values[splits.test_rows] -= 500
    pyarrow.csv.write_csv(made.set_column(0, "a", pa.array(values)), path)
    assert load_splits(TableOptions(path, "y")).schema == splits.schema


def test_a_file_of_its_own_takes_the_place_of_a_split(tmp_path):
    path, other = written(tmp_path), written(tmp_path, 40, "v.csv", seed=1)
    splits = load_splits(TableOptions(path, "y", validation_data=other, test_split=0))
    assert (len(splits.train.features), len(splits.validation.features), splits.test) == (100, 40, None)
    assert splits.validation_rows is None


def test_what_was_understood_is_described(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b,y\n" + "1,x,no\n,y,yes\n3,x,no\n4,y,yes\n" * 10)
    lines = describe(load_splits(TableOptions(path, "y")))
    assert lines == [
        "rows: 24 training (50.0% positive), 8 validation (50.0% positive), 8 test (50.0% positive)",
        "columns: 1 numeric, 1 text → 3 inputs",
        "y: 'no' → 0, 'yes' → 1 (positive)",
        "missing values: a 10",
    ]
