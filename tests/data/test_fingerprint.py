"""What identifies data: checksums of columns, and what is said about other data."""

import decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import Arrays, UsageError
from trainer.data.addressed import fingerprint_of_splits
from trainer.data.checksum import WORDS, Checksum, checksum_of
from trainer.data.fingerprint import Fingerprint, SplitRows, TableFingerprint
from trainer.data.tables.checksums import fingerprint_of
from trainer.runs.splits_file import SPLITS, split_rows, write_split_rows


@settings(deadline=None, max_examples=50)
@given(size=st.integers(0, 3 * 8 * WORDS), cuts=st.lists(st.floats(0, 1), max_size=6), seed=st.integers(0, 99))
def test_the_parts_do_not_matter_and_each_byte_does(size, cuts, seed):
    generator = np.random.default_rng(seed)
    data = generator.integers(0, 256, size, np.uint8)

    def checksum(data, bounds=()):
        made = Checksum()
        for part in np.split(data, sorted(bounds)):
            made.add(part)
        return made.hex()

    whole = checksum(data)
    assert checksum(data, [int(cut * size) for cut in cuts]) == whole
    assert checksum(np.append(data, np.uint8(0))) != whole
    if size:
        other = data.copy()
        other[generator.integers(size)] ^= 1 << generator.integers(8)
        assert checksum(other) != whole


def test_the_checksum_is_the_same_on_every_machine():
    assert checksum_of(np.arange(100_000)) == "a03ddad53c528dcb"


COLUMNS = {
    "numbers": [1.5, None, float("nan"), -0.0],
    "whole": [1, None, 3, 2**60],
    "flags": [True, False, None, True],
    "texts": ["a", "", None, "ä b"],
    "dates": pa.array([1, None, 3, 4], pa.date32()),
    "decimals": [decimal.Decimal("1.25"), None, decimal.Decimal(3), decimal.Decimal(-1)],
    "words": pa.array(["a", "b", None, "a"]).dictionary_encode(),
    "nothing": pa.nulls(4),
    "lists": [[1], None, [], [2, 3]],
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_is_the_same_in_any_parts_and_each_value_counts(name):
    values = pa.chunked_array([pa.array(COLUMNS[name])])
    whole = fingerprint_of(pa.table({"a": values})).columns["a"]
    if name != "lists":
        parts = pa.chunked_array([values.slice(3, 0), values.slice(0, 1), values.slice(1, 3)], values.type)
        moved = pa.concat_arrays([values.chunk(0).slice(2, 2), values.chunk(0)]).slice(2)
        for same in (parts, pa.chunked_array([moved])):
            assert fingerprint_of(pa.table({"a": same})).columns["a"] == whole
    if name != "nothing":
        seen = {whole}
        for row in range(4):
            order = np.arange(4)
            order[row] = 0 if row else 1
            seen.add(fingerprint_of(pa.table({"a": values.take(order)})).columns["a"])
        # The last values of these are those of the first row.
        assert len(seen) == (4 if name in ("words", "flags") else 5)


def test_texts_are_told_from_others_with_the_same_letters():
    one, two = (fingerprint_of(pa.table({"a": words})).columns for words in (["ab", "c"], ["a", "bc"]))
    assert one != two


def print_of(rows=4, splits=None, **columns):
    tables = {"data": TableFingerprint(rows, columns or {"x": "1", "y": "2"})}
    return Fingerprint(tables, splits or {"validation": SplitRows.of("data", np.array([1, 3]))})


OTHER = {"validation": SplitRows.of("data", np.array([0, 3]))}


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (print_of(), []),
        (print_of(5, x="7", y="8"), ["data: it has 5 rows, and had 4"]),
        (print_of(x="1", y="3"), ["data: the values differ in the column y"]),
        (print_of(x="3", y="3"), ["data: the values differ in all columns, or the rows are in another order"]),
        (print_of(x="1", z="3"), ["data: it lacks the column y", "data: new are the column z"]),
        (print_of(splits=OTHER), ["the validation split has other rows"]),
        (Fingerprint({}, {}), ["data is gone"]),
    ],
)  # fmt: skip
def test_what_changed_is_named(other, said):
    assert print_of().changes(other) == said
    assert Fingerprint.from_json(print_of().to_json()).changes(other) == said


def test_two_runs_have_the_same_rows_if_all_that_both_read_is_equal():
    assert print_of().has_same_rows(print_of(x="1", z="5"), "validation")
    assert print_of().has_same_rows(print_of(x="1", y="5"), "validation") is False
    assert print_of().has_same_rows(print_of(splits=OTHER), "validation") is False
    assert print_of().has_same_rows(print_of(), "test") is None
    assert Fingerprint.from_json({**print_of().to_json(), "version": 0}) is None


def test_arrays_have_fingerprints_by_their_values():
    features, labels = np.arange(6.0).reshape(3, 2), np.array([0, 1, 0])
    first = fingerprint_of_splits({"train": Arrays(features, labels), "validation": None, "test": object()})
    assert list(first.tables) == list(first.splits) == ["train"]
    assert first.changes(fingerprint_of_splits({"train": Arrays(features.copy(order="F"), labels)})) == []
    other = fingerprint_of_splits({"train": Arrays((features, features[:, ::-1]), labels, np.ones(3))})
    assert list(other.tables["train"].columns) == ["input 1", "input 2", "y", "weights"]
    assert fingerprint_of_splits({"train": object()}) is None


def test_the_rows_of_the_splits_are_written_and_read(tmp_path):
    numbers = {"train": np.array([0, 2, 5]), "validation": np.array([1, 3])}
    splits = {name: SplitRows.of("data", rows) for name, rows in numbers.items()}
    made = Fingerprint({"data": TableFingerprint(6, {})}, {**splits, "test": SplitRows("test-data", 9)})
    write_split_rows(tmp_path, made)
    found = split_rows(tmp_path)
    assert found == splits
    assert {name: each.numbers.tolist() for name, each in found.items()} == {"train": [0, 2, 5], "validation": [1, 3]}
    write_split_rows(tmp_path, None)
    assert not (tmp_path / SPLITS).exists()
    with pytest.raises(UsageError, match="has not recorded the rows of its splits"):
        split_rows(tmp_path)
