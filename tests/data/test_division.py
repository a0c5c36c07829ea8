"""Splits by group, by time, and as a column says: which rows are where, and what is refused."""

import hashlib
import re
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import UsageError
from trainer.data.chronological import chronological_split
from trainer.data.grouped import grouped_split
from trainer.data.stratified import TooFewRows
from trainer.data.tables.options import TableOptions
from trainer.data.tables.overview import look
from trainer.data.tables.splits import load_splits

SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}
DIGEST = "ea5ec46e99cc0309"


# ---- by group --------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=3, max_size=40),
    classes=st.integers(1, 4),
    seed=st.integers(0, 2**31),
)
def test_every_row_is_in_one_part_with_its_whole_group(sizes, classes, seed):
    generator = np.random.default_rng(seed)
    groups = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
    labels = generator.integers(0, classes, len(groups))
    parts = grouped_split(groups, labels, SHARES, seed)
    assert list(parts) == list(SHARES)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(groups)))
    assert all(len(rows) and (np.diff(rows) > 0).all() for rows in parts.values())
    assert sum(len(np.unique(groups[rows])) for rows in parts.values()) == len(sizes)
    if len(sizes) >= classes + 2:
        assert set(labels[parts["train"]]) == set(labels)
    again = grouped_split(groups * 7, labels, SHARES, seed)
    assert all((again[name] == rows).all() for name, rows in parts.items())


def test_rows_and_classes_have_their_shares_and_the_seed_decides_on_the_groups():
    generator = np.random.default_rng(0)
    groups = (400 * generator.random(5000) ** 3).astype(int)
    labels = (generator.random(5000) < 0.1 + 0.4 * (groups % 5 == 0)).astype(int)
    drawn = [grouped_split(groups, labels, SHARES, seed) for seed in range(8)]
    for parts in drawn:
        for name, share in SHARES.items():
            rows = parts[name]
            assert len(rows) == pytest.approx(share * 5000, abs=15)
            assert labels[rows].sum() == pytest.approx(share * labels.sum(), abs=8)
    assert len({tuple(parts["test"]) for parts in drawn}) == 8


def test_the_groups_are_the_same_on_every_version_of_numpy():
    rows = np.arange(3000)
    parts = grouped_split(rows * rows % 211, rows % 3, SHARES, 12345)
    told = np.concatenate(list(parts.values())).astype("<i8").tobytes()
    assert hashlib.sha256(told).hexdigest()[:16] == DIGEST


def test_fewer_groups_than_parts_are_too_few():
    with pytest.raises(TooFewRows):
        grouped_split(np.array([0, 0, 1]), np.zeros(3, int), SHARES, 0)


# ---- by time ---------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=80)
@given(times=st.lists(st.integers(0, 30), min_size=3, max_size=80), gap=st.integers(0, 6))
def test_later_parts_are_newer_by_the_gap_and_moments_stay_together(times, gap):
    times = np.array(times)
    try:
        parts, left_out = chronological_split(times, SHARES, gap)
    except TooFewRows:
        assert gap or len(set(times)) < 3
        return
    assert sorted(np.concatenate([*parts.values(), left_out]).tolist()) == list(range(len(times)))
    train, validation, test = (times[rows] for rows in parts.values())
    assert validation.min() - train.max() >= max(gap, 1)
    assert test.min() - validation.max() >= max(gap, 1)
    assert len(left_out) == 0 or gap


def test_the_newest_rows_are_those_of_the_test_in_their_share():
    times = np.random.default_rng(0).permutation(1000)
    parts, _ = chronological_split(times, SHARES)
    assert [sorted(times[rows].tolist()) for rows in parts.values()] == [
        list(range(600)), list(range(600, 800)), list(range(800, 1000)),
    ]  # fmt: skip
    # 200 rows of the newest moment are closer to 30 % than 400.
    parts, _ = chronological_split(np.repeat(np.arange(5), 200), {"train": 0.7, "test": 0.3})
    assert len(parts["test"]) == 200


# ---- tables ----------------------------------------------------------------------------------------------------------


def table(rows=120, **columns):
    generator = np.random.default_rng(0)
    days = np.datetime64("2024-01-01") + generator.permutation(rows)
    made = {
        "customer": [f"c{number}" for number in generator.integers(0, 20, rows)],
        "day": days.astype(str).tolist(),
        "x": generator.normal(size=rows).round(3).tolist(),
        "y": (np.arange(rows) % 2).tolist(),
    }
    return pa.table(made | columns)


def options(tmp_path, made, *, name="t.csv", **given):
    write = pyarrow.csv.write_csv if name.endswith("csv") else pyarrow.parquet.write_table
    write(made, tmp_path / name)
    return TableOptions(tmp_path / name, label="y", **given)


def parts_of(splits):
    return [splits.train_rows, splits.validation_rows, splits.test_rows]


def test_groups_stay_together_whatever_the_format_and_are_not_learned_from(tmp_path):
    made = table()
    splits = [
        load_splits(options(tmp_path, made, name=name, group="customer"), seed=3) for name in ("t.csv", "t.parquet")
    ]
    of = [set(np.array(made["customer"])[rows]) for rows in parts_of(splits[0])]
    assert not of[0] & of[1] and not of[0] & of[2] and not of[1] & of[2]  # noqa: PT018
    assert all((one == two).all() for one, two in zip(*map(parts_of, splits), strict=True))
    assert [column.name for column in splits[0].schema.columns] == ["day", "x"]
    named = load_splits(options(tmp_path, made, group="customer", features=("customer", "x")), seed=3)
    assert [column.name for column in named.schema.columns] == ["customer", "x"]


def test_the_newest_rows_are_held_out_after_a_gap_of_the_columns_own_kind(tmp_path):
    made = table()
    splits = load_splits(options(tmp_path, made, time="day", time_gap="7 days", ignore=("day",)), seed=0)
    days = np.array(made["day"].to_pylist(), "datetime64[D]")
    train, validation, test = (days[rows] for rows in parts_of(splits))
    assert (test.min() - validation.max()).astype(int) == (validation.min() - train.max()).astype(int) == 7
    assert [len(part) for part in (train, validation, test)] == [60, 24, 24]
    assert [column.name for column in splits.schema.columns] == ["customer", "x"]
    assert "12 rows are left out: they are less than 7 days older than a split" in splits.notes
    numbers = made.append_column("year", pa.array(2000 + np.arange(120) // 10))
    by_year = load_splits(options(tmp_path, numbers, time="year", time_gap="2"), seed=0)
    assert [len(rows) for rows in parts_of(by_year)] == [60, 20, 20]
    assert "the test rows begin at year = 2010, later than all validation rows" in by_year.notes


def test_a_column_says_the_splits_in_the_usual_words(tmp_path):
    words = np.array(["train", "Dev", "TEST", "training", "valid"] * 24)
    made = table().append_column("part", pa.array(words))
    splits = load_splits(options(tmp_path, made, split="part"), seed=0)
    assert parts_of(splits)[1].tolist() == np.flatnonzero((words == "Dev") | (words == "valid")).tolist()
    assert parts_of(splits)[2].tolist() == np.flatnonzero(words == "TEST").tolist()
    assert "part" not in splits.schema.feature_names
    seen = {column.name: column.kind for column in look(options(tmp_path, made, split="part"), seed=0).columns}
    assert seen["part"] == "split"


CASES = {
    "groups of one class": ({"group": "g"}, {"g": [f"g{n % 14}" if n % 2 else "a" for n in range(120)]},
        "the rows of the class '0' are in 1 group of column 'g', too few for training, validation, test rows with"),
    "too few groups": ({"group": "g"}, {"g": ["a", "a", "b", "b"] * 30}, "column 'g' has 2 groups, too few"),
    "a missing group": ({"group": "g"}, {"g": ["a", "b", None, "c"] * 30},
        "the group in column 'g' is missing in 30 of 120 rows, first at row 3"),
    "a missing time": ({"time": "g"}, {"g": ["2024-01-01", None] * 60},
        "the time in column 'g' is missing in 60 of 120 rows, first at row 2"),
    "no time": ({"time": "customer"}, {}, "in the column 'customer' of times is neither a date nor a number at row 1"),
    "one time": ({"time": "g"}, {"g": [1] * 120}, "column 'g' has 1 different time, too few"),
    "a gap that leaves nothing": ({"time": "day", "time_gap": "P90D"}, {}, "rows with a gap of P90D"),
    "a gap of another kind": ({"time": "day", "time_gap": "7"}, {}, "--time-gap: '7' is not a gap: day holds dates"),
    "a gap without a time": ({"time_gap": "7"}, {}, "--time-gap: it needs a split by time"),
    "another word": ({"split": "g"}, {"g": ["train", "test", "train", "later"] * 30},
        "30 of 120 values in column 'g' are not train, validation, calibration or test, the first 'later' at row 4"),
    "no word": ({"split": "g"}, {"g": ["train"] * 119 + [""]}, "1 of 120 values in column 'g' is not"),
    "nothing to train on": ({"split": "g"}, {"g": ["dev"] * 120}, "column 'g' has no row of train"),
    "two ways": ({"group": "customer", "time": "day"}, {}, "--group, --time: rows can be split in one way only"),
    "the label": ({"group": "y"}, {}, "--group: 'y' is the label column"),
    "no such column": ({"time": "dya"}, {}, "there is no column 'dya' for --time"),
    "a fraction beside a column": ({"split": "g", "calibration_split": 0.1}, {"g": ["train", "test"] * 60},
        "--calibration-split: column 'g' says which split a row is in"),
    "fractions of everything": ({"calibration_split": 0.6}, {},
        "--validation-split, --calibration-split, --test-split: validation (0.2), calibration (0.6), test (0.2) leave"),
    "no row for calibration": ({"calibration_split": 0.001}, {}, "too few for a calibration split of 0 rows"),
    "one class for calibration": ({"split": "g"}, {"g": ["train", "train", "train", "cal"] * 30},
        "the calibration rows of"),
    "groups for four splits": ({"group": "g", "calibration_split": 0.1}, {"g": ["a", "b", "c", "c"] * 30},
        "has 3 groups, too few for training, validation, calibration, test rows"),
    "a split as a feature": ({"split": "g", "features": ("g",)}, {"g": ["train"] * 120}, "--features: 'g' says which"),
    "one class is left": ({"split": "g"}, {"g": ["train", "train", "test", "train"] * 30},
        "all of its 30 rows are of the class '0'"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "columns", "message"), CASES.values(), ids=CASES)
def test_what_cannot_be_split_is_refused_with_the_reason(tmp_path, given, columns, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        load_splits(options(tmp_path, table(**columns), **given), seed=0)


def test_a_split_that_has_a_file_of_its_own_is_not_cut_off(tmp_path):
    other = options(tmp_path, table(30), name="v.csv").data
    splits = load_splits(options(tmp_path, table(), time="day", validation_data=other), seed=0)
    assert (len(splits.train_rows), splits.validation_rows, len(splits.test_rows)) == (96, None, 24)
    words = table().append_column("part", pa.array(["train", "val"] * 60))
    with pytest.raises(UsageError, match="has 60 validation rows, and a table of its own is given too"):
        load_splits(options(tmp_path, words, split="part", validation_data=other), seed=0)


def test_rows_without_a_label_are_left_out_of_every_way(tmp_path):
    labels = [None if n % 10 == 0 else n % 2 for n in range(120)]
    for way in ({"group": "customer"}, {"time": "day"}):
        made = table(y=labels)
        splits = load_splits(options(tmp_path, made, drop_unlabelled=True, **way), seed=0)
        rows = np.concatenate(parts_of(splits))
        assert len(rows) == 108
        assert not (rows % 10 == 0).any()
    missing = [None if n == 57 else "a" for n in range(120)]
    with pytest.raises(UsageError, match="at row 58"):
        load_splits(options(tmp_path, table(y=labels, g=missing), drop_unlabelled=True, group="g"), seed=0)


# ---- rows for calibration --------------------------------------------------------------------------------------------

WAYS = {
    "at random": {},
    "by group": {"group": "customer"},
    "by time": {"time": "day"},
    "as a column says": {"split": "part"},
}


@settings(deadline=None, max_examples=12)
@given(
    way=st.sampled_from(list(WAYS)),
    fraction=st.sampled_from([0.1, 0.2, 0.3]),
    seed=st.integers(0, 99),
    memory=st.sampled_from([None, 1000]),
)
def test_calibration_has_rows_of_its_own_in_every_way_of_splitting(tmp_path_factory, way, fraction, seed, memory):
    folder = tmp_path_factory.mktemp("rows")
    words = np.random.default_rng(seed).choice(["train", "val", "Cal", "calib", "calibration", "test"], 120)
    given = WAYS[way] if way == "as a column says" else {**WAYS[way], "calibration_split": fraction}
    splits = load_splits(options(folder, table(part=words), cache="off", **given), seed=seed, memory=memory)
    parts = {"train": splits.train_rows, "validation": splits.validation_rows,
             "calibration": splits.calibration_rows, "test": splits.test_rows}  # fmt: skip
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(120))
    assert list(splits.fingerprint.splits) == list(parts)
    rows = parts["calibration"]
    assert len(splits.calibration.labels) == len(rows) == splits.tallies["calibration"].rows
    assert (splits.calibration.labels == rows % 2).all()
    if way == "by time":
        days = np.array(table()["day"].to_pylist(), "M8[D]")
        ends = [(days[part].min(), days[part].max()) for part in parts.values()]
        assert all(before[1] < after[0] for before, after in pairwise(ends))
    elif way == "at random":
        assert len(rows) == round(120 * fraction)
        without = load_splits(options(folder, table(part=words)), seed=seed)
        assert without.validation_rows.tolist() == parts["validation"].tolist()
        assert without.test_rows.tolist() == parts["test"].tolist()
    elif way == "as a column says":
        assert rows.tolist() == np.flatnonzero([word.lower().startswith("cal") for word in words]).tolist()


def test_calibration_may_have_a_file_of_its_own(tmp_path):
    other = options(tmp_path, table(30), name="c.csv").data
    splits = load_splits(options(tmp_path, table(), calibration_data=other, calibration_split=0.5), seed=0)
    assert (len(splits.train_rows), splits.calibration_rows, len(splits.calibration.labels)) == (72, None, 30)
    assert splits.fingerprint.splits["calibration"].table == "calibration-data"
    assert list(splits.files) == ["data", "calibration-data"]
    assert look(options(tmp_path, table(), calibration_data=other), seed=0).rows["calibration"] == 30
