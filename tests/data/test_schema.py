"""Schemas: what the training rows teach, and what every other row makes of it."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import UsageError
from trainer.data.tables.learn import Wanted, learn_schema
from trainer.data.tables.reading import open_stream, whole
from trainer.data.tables.schema import Schema


def learn(table, label="y", *, untyped=True, rows=None, **options):
    return learn_schema(table, Wanted(label, **options), untyped=untyped, rows=rows).schema


def read_table(path):
    stream = open_stream(str(path))
    return whole(stream, list(stream.names))


def table(**columns):
    return pa.table(columns)


LABELS = ["no", "yes"] * 3


def encode(made, **options):
    return learn(made, **options).encode(made, where="here")


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
    assert learn(as_text).columns[0].kind == "number"
    numbers = table(a=[1.0, 2.0, 1.0] * 2, y=LABELS)
    assert learn(numbers, categorical=["a"]).feature_names == ["a=1", "a=2"]


def test_more_categories_than_the_one_hot_limit_are_embedded():
    names = [f"n{number}" for number in range(1001)]
    learned = learn_schema(table(a=names, y=(["no", "yes"] * 501)[:1001]), Wanted("y"), untyped=True)
    assert learned.schema.columns[0].kind == "embedded"
    assert learn(table(a=names[:1000], y=["no", "yes"] * 500)).columns[0].kind == "category"
    assert "1001 different values in 1001 training rows" in learned.notes[0]


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
    kinds = [column.kind for column in learn(read_table(path), untyped=False).columns]
    assert kinds == ["category", "number", "category"]


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


def damaged(**changes):
    good = learn(table(a=[1.0, 2.0], b=["x", "z"], y=["no", "yes"])).to_json()
    return {**good, **changes}


COLUMN = {"name": "a", "kind": "number"}


@pytest.mark.parametrize(
    "junk",
    [
        None,
        [],
        {},
        {"version": 99},
        {"version": 3, "columns": "x"},
        {"version": 3},
        damaged(version=2),
        damaged(columns=[]),
        damaged(columns=[COLUMN, COLUMN]),
        damaged(columns=[{**COLUMN, "deviation": 0.0}]),
        damaged(columns=[{**COLUMN, "mean": float("nan")}]),
        damaged(columns=[{**COLUMN, "kind": "code"}]),
        damaged(columns=[{**COLUMN, "kind": "category", "categories": ["x", "x"]}]),
        damaged(target={"kind": "classes", "names": ["x", "x"]}),
        damaged(target={"kind": "classes", "names": ["x"]}),
        damaged(target={"kind": "classes", "names": ["not x", "x"], "rest": ["x"]}),
        damaged(target={"kind": "moon", "names": ["x", "y"]}),
    ],
)
def test_a_schema_from_junk_is_an_error(junk):
    with pytest.raises(UsageError, match="schema"):
        Schema.from_json(junk)


# ---- what goes wrong ------------------------------------------------------------------------------------------------


def test_text_in_a_numeric_column_names_column_and_row():
    values = ["1", "2", None, "3", "4", "5", "6", "7", "8", "x9", "10"]
    made = table(a=values, y=(["no", "yes"] * 6)[:11])
    with pytest.raises(
        UsageError, match=r"text 'x9' in the numeric column 'a' at row 10\..*--ignore a.*--categorical a"
    ):
        learn(made)
    assert learn(made, categorical=["a"]).columns[0].kind == "category"


def test_text_that_is_seldom_a_number_is_text():
    assert learn(table(a=["1", "x", "2", "3", "y", "4"], y=LABELS)).columns[0].kind == "category"


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, -0.5, 1.0], "the weight in column 'w' is -0.5 at row 2"),
        ([1.0, 1.0, None], "the weight in column 'w' is missing at row 3"),
        ([float("nan"), 1.0, 1.0], "the weight in column 'w' is missing at row 1"),
        ([1.0, float("inf"), 1.0], "column 'w' is infinite at row 2"),
        (["1", "x", "1"], "the weight in column 'w' is 'x' at row 2. Weights are numbers"),
        ([0, 0, 0], "the weights in column 'w' are all 0"),
    ],
)
def test_weights_that_cannot_weigh_are_an_error(weights, message):
    made = table(a=[1, 2, 3], w=weights, y=LABELS[:3])
    with pytest.raises(UsageError, match=f"here: {message}"):
        encode(made, sample_weight="w")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "yy"}, "no column 'yy' for --label.*Columns: age, job, y. Did you mean 'y'"),
        ({"features": ["agee"]}, "no column 'agee' for --features.*Did you mean 'age'"),
        ({"ignore": ["agee"]}, "no column 'agee' for --ignore"),
        ({"categorical": ["agee"]}, "no column 'agee' for --categorical"),
        ({"sample_weight": "agee"}, "no column 'agee' for --sample-weight"),
        ({"sample_weight": "y"}, "the label cannot also be the weight"),
        ({"features": ["age", "y"]}, "--features: 'y' is the label column"),
        ({"features": ["age", "job"], "sample_weight": "age"}, "--features: 'age' is the weight column"),
        ({"positive_class": "maybe"}, "'maybe' is not a class of column 'y'. Its classes are 'no', 'yes'"),
    ],
)
def test_options_that_name_nothing_are_an_error(options, message):
    with pytest.raises(UsageError, match=message):
        learn(table(age=[1, 2] * 3, job=["a", "b"] * 3, y=LABELS), **options)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([None] * 6, "column 'a' is all missing. Add --ignore a"),
        ([1.0, 2.0, float("-inf")] * 2, "column 'a' is infinite at row 3"),
        ([[1]] * 6, "column 'a' holds list"),
        ([b"x"] * 6, "column 'a' holds binary"),
        (pa.array([(1, 2, 3), (4, 5, 6)] * 3, pa.month_day_nano_interval()), "column 'a' holds month.*Add --ignore a"),
        ([1e300, -1e300] * 3, "the numbers of column 'a' are too large"),
    ],
)
def test_a_column_that_nothing_can_be_learned_from_is_an_error(values, message):
    with pytest.raises(UsageError, match=message):
        learn(table(a=values, y=LABELS))


@pytest.mark.parametrize("values", [[[1]] * 6, [{"a": 1}] * 6, [b"x", b"y"] * 3])
def test_lists_structs_and_bytes_are_neither_labels_nor_categories(values):
    with pytest.raises(UsageError, match="column 'y' holds"):
        learn(table(a=[1, 2] * 3, y=values))
    with pytest.raises(UsageError, match="column 'a' holds"):
        learn(table(a=values, y=LABELS), categorical=["a"])


def test_numbers_beyond_32_bits_name_their_row():
    made = table(a=[1.0, 1e39, 2.0] * 2, y=LABELS)
    assert np.isfinite(encode(made).features).all()
    with pytest.raises(UsageError, match="column 'a' is too large for a 32-bit number at row 2"):
        encode(made, standardize=False)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a"] * 6, r"has one class: 'a' \(6 rows\)"),
        (["a", "b", None] * 2, "2 of 6 labels in column 'y' are missing, the first at row 3.*--drop-unlabelled"),
        ([*"abcab", None], "the label in column 'y' is missing at row 6"),
        (list(range(41)), "holds numbers, 41 different ones.*--categorical y"),
        (list(map(str, range(41))), "holds numbers, 41 different ones.*--categorical y"),
    ],
)
def test_labels_that_are_not_classes_are_an_error(labels, message):
    with pytest.raises(UsageError, match=message):
        learn(table(a=[1.0] * len(labels), y=labels), untyped=isinstance(labels[0], str))


def test_another_table_needs_the_columns_and_no_others():
    schema = learn(table(a=[1.0, 2.0], b=["x", "z"], y=["no", "yes"]))
    rows = schema.encode(table(z=[9], b=["x"], a=[1.0]), where="new.csv")
    assert (rows.labels, rows.weights) == (None, None)
    assert rows.features.tolist() == [[-1, 1, 0]]
    with pytest.raises(UsageError, match=r"new\.csv: columns are missing: a, b\. It has: z"):
        schema.encode(table(z=[9]), where="new.csv")
    with pytest.raises(UsageError, match=r"new\.csv: text 'q' in the numeric column 'a' at row 1"):
        schema.encode(table(a=["q"], b=["x"]), where="new.csv")


def test_a_row_without_a_number_is_filled_with_the_training_mean():
    schema = learn(table(a=[1, 2, 3, 6], y=LABELS[:4]), standardize=False)
    assert schema.encode(table(a=pa.nulls(1)), where="here").features.tolist() == [[3]]


# ---- the rows that are looked at, and Arrow's types -----------------------------------------------------------------


@given(st.lists(st.integers(0, 11), min_size=1, unique=True))
def test_rows_of_a_table_are_as_a_table_of_those_rows(chosen):
    made = table(a=[1.5, None, 3.0] * 4, b=["x", None, "z", "x"] * 3, w=[1.0, 2.0] * 6, y=LABELS * 2)
    rows = np.array([0, 5, *(row for row in chosen if row not in (0, 5))])
    whole = learn(made, rows=rows, sample_weight="w")
    taken = learn(made.take(rows), sample_weight="w")
    assert whole == taken
    first, second = whole.encode(made, where="here", rows=rows), taken.encode(made.take(rows), where="here")
    np.testing.assert_array_equal(first.features, second.features)
    np.testing.assert_array_equal(first.labels, second.labels)
    np.testing.assert_array_equal(first.weights, second.weights)
    assert first.missing == second.missing


PLAIN = pa.array([1.0, 2.0, 4.0] * 2)


@pytest.mark.parametrize(
    "values",
    [
        PLAIN.cast(pa.int8()),
        PLAIN.cast(pa.uint64()),
        PLAIN.cast(pa.float32()),
        pa.array(np.array([1, 2, 4] * 2, np.float16)),
        PLAIN.cast(pa.int64()).cast(pa.decimal128(25, 2)),
        PLAIN.dictionary_encode(),
        pa.array(["1", "2.0", "4."] * 2, pa.large_string()),
    ],
    ids=lambda values: str(values.type),
)
def test_numbers_of_every_type_give_the_same_rows(values):
    expected = encode(table(a=PLAIN, y=LABELS))
    np.testing.assert_array_equal(encode(table(a=values, y=LABELS)).features, expected.features)


def test_half_floats_may_be_missing():
    half = pa.array([1.0, None, 3.0] * 2).to_numpy(zero_copy_only=False).astype(np.float16)
    rows = encode(table(a=pa.array(half, from_pandas=True), y=LABELS), standardize=False)
    assert rows.features[:, 0].tolist() == [1, 2, 3] * 2
    assert rows.missing == {"a": 2}


def test_text_of_every_type_gives_the_same_rows():
    plain = pa.array(["x", None, "y"] * 2)
    expected = encode(table(a=plain, y=LABELS)).features
    for values in (
        plain.cast(pa.large_string()),
        plain.dictionary_encode(),
        plain.cast(pa.large_string()).dictionary_encode(),
    ):
        np.testing.assert_array_equal(encode(table(a=values, y=LABELS)).features, expected)


def test_integers_that_float64_cannot_hold_are_rounded():
    rows = encode(table(a=[2**53 + 1, 1, 1] * 2, y=LABELS))
    np.testing.assert_allclose(rows.features[:3, 0], [2**0.5, -(0.5**0.5), -(0.5**0.5)], rtol=1e-6)
