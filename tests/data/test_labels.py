"""Labels: two classes under any names, as 0 and 1."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer import UsageError
from trainer.data.tables.labels import Labels, in_order
from trainer.data.tables.learn import Wanted, learn_schema
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
    labels = Labels.learn("y", values, None, where="here")
    assert labels.positive == positive
    expected = [float(key_of(str(value)) == positive) for value in classes * 2]
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
