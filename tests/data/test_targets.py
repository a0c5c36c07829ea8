"""Targets: two classes under any names as 0 and 1, and several as class numbers."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer import UsageError
from trainer.data.tables.learn import Wanted, learn_schema
from trainer.data.tables.options import TableOptions
from trainer.data.tables.schema import Schema
from trainer.data.tables.splits import describe, load_splits
from trainer.data.tables.targets.classes import Classes, in_order
from trainer.data.tables.values import key_of


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
    labels = Classes.learn("y", values, None, where="here")
    assert labels.names[1] == positive
    expected = [float(key_of(str(value)) == positive) for value in classes * 2]
    assert labels.encode("y", values, where="here").tolist() == expected


@given(st.lists(st.one_of(st.text(min_size=1), st.integers().map(str)), min_size=2, max_size=2, unique=True))
def test_two_classes_of_any_names_have_one_order(classes):
    assert in_order(classes) == in_order(classes[::-1])
    assert sorted(in_order(classes)) == sorted(classes)


@pytest.mark.parametrize("wanted", ["1", "1.0", " 1 "])
def test_the_positive_class_is_found_as_a_number_too(wanted):
    assert Classes.learn("y", pa.chunked_array([[2, 1, 2]]), wanted, where="here").names == ("2", "1")


def test_a_class_that_training_did_not_have_names_its_row():
    labels = Classes.learn("y", pa.chunked_array([["a", "b"]]), None, where="here")
    with pytest.raises(UsageError, match=r"there: the label in column 'y' is 'c' at row 2.*'a' and 'b'"):
        labels.encode("y", pa.chunked_array([["a", "c"]]), where="there")


two_values = st.one_of(
    st.lists(st.integers(-(2**62), 2**62), min_size=2, max_size=2, unique=True),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=2, unique=True),
    st.lists(st.text("abKZé<=> ", min_size=1).map(str.strip).filter(bool), min_size=2, max_size=2, unique=True),
    st.just([False, True]),
)


@given(two_values, st.lists(st.booleans(), max_size=20), st.booleans())
def test_any_two_values_become_0_and_1(values, choices, second_is_positive):
    choices = [False, True, *choices]
    wanted = values[second_is_positive]
    made = pa.table({"a": range(len(choices)), "y": [values[choice] for choice in choices]})
    expected = [float(choice == second_is_positive) for choice in choices]
    schema = learn_schema(made, Wanted("y", key_of(str(wanted))), untyped=False).schema
    assert schema.encode(made, where="here").labels.tolist() == expected
    unasked = learn_schema(made, Wanted("y"), untyped=False).schema.encode(made, where="here").labels.tolist()
    assert unasked in (expected, [1 - label for label in expected])


# ---- several classes -------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([10, 2, -3, 7]), min_size=1, max_size=20))
def test_several_classes_are_numbered_in_order(labels):
    labels = [10, 2, -3, *labels]
    schema = learn_schema(pa.table({"a": range(len(labels)), "y": labels}), Wanted("y"), untyped=False).schema
    ordered = sorted(set(labels))
    assert schema.target.names == tuple(map(str, ordered))
    encoded = schema.encode(pa.table({"a": [0] * len(labels), "y": [f"{label}.0" for label in labels]}), where="here")
    assert encoded.labels.tolist() == [ordered.index(label) for label in labels]
    assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema


def test_a_positive_class_of_several_stands_against_the_rest():
    values = pa.chunked_array([["a", "b", "c", "b"]])
    target = Classes.learn("y", values, "b", where="here")
    assert (target.names, target.rest, target.is_binary) == (("not b", "b"), ("a", "c"), True)
    assert target.encode("y", values, where="here").tolist() == [0, 1, 0, 1]
    assert target.describe("y") == "y: 'not b' ('a', 'c') → 0, 'b' → 1 (positive)"
    with pytest.raises(UsageError, match=r"the label in column 'y' is 'd'.*'a', 'c', 'b'"):
        target.encode("y", pa.chunked_array([["d"]]), where="here")


@pytest.mark.parametrize("wanted", [Wanted("y", categorical=["y"]), Wanted("y", positive_class="7")])
def test_many_numbers_are_classes_if_the_user_says_so(wanted):
    made = pa.table({"a": range(50), "y": range(50)})
    assert len(learn_schema(made, wanted, untyped=False).schema.target.known) == 50


def test_texts_of_a_typed_file_are_classes_though_they_are_numbers():
    made = pa.table({"a": range(50), "y": list(map(str, range(50)))})
    assert len(learn_schema(made, Wanted("y"), untyped=False).schema.target.names) == 50
    with pytest.raises(UsageError, match=r"holds numbers, 50 .*To predict the number: other\. .*--categorical y"):
        learn_schema(made, Wanted("y", for_numbers="other"), untyped=True)


# ---- splits ----------------------------------------------------------------------------------------------------------


def of_labels(tmp_path, labels, name="t.csv"):
    (tmp_path / name).write_text("a,y\n" + "".join(f"{row},{label}\n" for row, label in enumerate(labels)))
    return tmp_path / name


def test_several_classes_have_equal_shares_in_every_split(tmp_path):
    path = of_labels(tmp_path, ["x"] * 50 + ["y"] * 30 + ["z"] * 20)
    splits = load_splits(TableOptions(path, "y"), seed=0)
    found = [np.bincount(rows.labels.astype(int)).tolist() for rows in (splits.train, splits.validation, splits.test)]
    assert found == [[30, 18, 12], [10, 6, 4], [10, 6, 4]]
    assert describe(splits)[0] == (
        "rows: 60 training (12 to 30 per class), 20 validation (4 to 10 per class), 20 test (4 to 10 per class)"
    )
    assert describe(splits)[2] == "y: 3 classes, 'x', 'y', 'z'"


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([*"xyz" * 10, "rare"], {}, r"the class 'rare' \(1 row\) has too few rows for a validation split.*merge"),
        ([*"xy" * 10, "r", "s"], {}, r"the classes 'r' \(1 row\), 's' \(1 row\) have too few rows"),
        ([*"xyz" * 10], {"test_split": 0.05}, "a test split of 2 of 30 rows is too small for 3 classes"),
        (
            [*"xy" * 20, *"zz"],
            {"validation_split": 0.9, "test_split": 0},
            "the 4 rows left for training have none of the class 'z'",
        ),
    ],
)
def test_a_class_with_too_few_rows_to_split_is_an_error(tmp_path, labels, options, message):
    with pytest.raises(UsageError, match=message):
        load_splits(TableOptions(of_labels(tmp_path, labels), "y", **options), seed=0)


def test_a_class_of_one_row_trains_if_no_rows_are_split_off(tmp_path):
    path = of_labels(tmp_path, [*"xyz" * 10, "rare"])
    splits = load_splits(TableOptions(path, "y", validation_split=0, test_split=0), seed=0)
    assert splits.schema.target.names == ("rare", "x", "y", "z")


def test_rows_without_a_label_are_refused_or_left_out(tmp_path):
    path = of_labels(tmp_path, ["x", "", *"yxyxyxy" * 5, "NA"])
    with pytest.raises(UsageError, match="2 of 38 labels in column 'y' are missing, the first at row 2"):
        load_splits(TableOptions(path, "y"), seed=0)
    other = of_labels(tmp_path, ["x", "?", "y"], "v.csv")
    splits = load_splits(TableOptions(path, "y", validation_data=other, drop_unlabelled=True), seed=0)
    used = np.concatenate([splits.train_rows, splits.test_rows])
    assert sorted(used) == [row for row in range(38) if row not in (1, 37)]
    # Feature a is the row's number.
    np.testing.assert_array_equal(splits.train.features[:, 0], _scaled(splits.schema, splits.train_rows))
    assert len(splits.validation.labels) == 2
    assert splits.notes == (
        "2 of 38 rows have no label in column y and are left out",
        "v.csv: 1 of 3 rows have no label in column y and are left out",
    )


def _scaled(schema, rows):
    (column,) = schema.columns
    return ((rows - column.mean) / column.deviation).astype(np.float32)
