"""Tables in blocks of rows and in chunks: the same rows, statistics and errors as in one piece."""

from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.tables import schema as schema_module
from trainer.data.tables.chosen import taken
from trainer.data.tables.learn import Wanted, learn_schema
from trainer.data.tables.once import with_numbers
from trainer.errors import UsageError

ROWS = 40


def cut(table, ends):
    """The table in chunks that end at some rows."""
    bounds = [0, *sorted(ends), table.num_rows]
    return pa.concat_tables([table.slice(a, b - a) for a, b in pairwise(bounds)])


@contextmanager
def small_blocks():
    with pytest.MonkeyPatch.context() as patch:
        for name, size in (("FEWEST_ROWS", 1), ("MOST_ROWS", 7), ("ROWS_IN_CACHE", 3)):
            patch.setattr(schema_module, name, size)
        yield


def made(rows=ROWS, **columns):
    numbers = np.random.default_rng(0).normal(size=rows)
    values = {"a": numbers, "n": pa.array([None if each < -1 else each for each in numbers]), "y": ["no", "yes"] * 20}
    return pa.table(values | columns)


@settings(deadline=None, max_examples=40)
@given(ends=st.lists(st.integers(0, ROWS), max_size=5), chosen=st.lists(st.integers(0, ROWS - 1), unique=True))
@pytest.mark.parametrize("texts", [["x"], ["x", "z"], ["u", "v", "w", "x", "y", "z", None]])
def test_blocks_and_chunks_do_not_change_what_is_learned_and_encoded(texts, ends, chosen):
    table = made(c=[texts[number % len(texts)] for number in range(ROWS)])
    rows = np.array(sorted({0, 1, 2, 3, *chosen}))
    wanted = Wanted("y", categorical=["c"])
    whole = learn_schema(table, wanted, untyped=False, rows=rows).schema
    one = whole.encode(table, where="here", rows=rows)
    with small_blocks():
        pieces = cut(table, ends)
        assert learn_schema(pieces, wanted, untyped=False, rows=rows).schema == whole
        many = whole.encode(pieces, where="here", rows=rows)
    np.testing.assert_array_equal(many.features, one.features)
    np.testing.assert_array_equal(many.labels, one.labels)
    assert (many.missing, many.unseen) == (one.missing, one.unseen)


@pytest.mark.parametrize("rows", [None, np.arange(1, ROWS)])
def test_the_error_is_that_of_the_first_column_whatever_the_blocks_are(rows):
    schema = learn_schema(made(b=np.arange(ROWS) * 1.0), Wanted("y"), untyped=False).schema
    early, late = np.zeros(ROWS), np.zeros(ROWS)
    early[3], late[30] = np.inf, np.inf
    with small_blocks(), pytest.raises(UsageError, match="column 'a' is infinite at row 31"):
        schema.encode(made(a=late, b=early), where="here", rows=rows)


@given(st.lists(st.integers(0, 11)), st.lists(st.integers(0, 12), max_size=4))
def test_rows_are_taken_from_chunks_as_from_one(rows, ends):
    values = pa.table({"a": pa.array([1, None, *range(10)])})
    numbers = np.array(rows, np.int64)
    assert taken(cut(values, ends)["a"], numbers).to_pylist() == values["a"].take(numbers).to_pylist()


def test_text_becomes_numbers_only_if_all_of_it_is():
    table = pa.table({"a": [" 1", "NA", "2e1"], "b": ["1", "x", "2"], "c": ["007", "1.10", ""]})
    for name in table.column_names:
        table = with_numbers(table, name)
    assert [str(field.type) for field in table.schema] == ["double", "string", "double"]
    np.testing.assert_array_equal(table["a"].to_numpy(), [1, np.nan, 20])
    assert table["b"].to_pylist() == ["1", "x", "2"]
