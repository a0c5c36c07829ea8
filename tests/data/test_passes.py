"""Tables read in passes, a few blocks at a time: the same schema, splits, rows, notes and errors as in memory."""

import datetime as dt
import itertools
import json
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.tables import blocks, coded, division, encoding, labels, plan, streamed
from trainer.data.tables import texts as texts_module
from trainer.data.tables.kinds.base import Moments
from trainer.data.tables.options import AnyTable
from trainer.data.tables.parts import Part
from trainer.data.tables.plan import planned
from trainer.data.tables.sinks import MemorySink
from trainer.data.tables.splits import describe, load_splits
from trainer.data.tables.survey import ASKED, ColumnSurvey, WrongValue
from trainer.data.tables.targets import number_labels
from trainer.data.tables.texts import Sample, Texts
from trainer.data.tables.wanted import Wanted
from trainer.errors import UsageError

USING_BLOCKS = (blocks, coded, division, encoding, labels, streamed, number_labels)


MEMORY = 1 << 30
"""Enough for lists of categories, and too little for every file: see `blocks_of`."""


@contextmanager
def blocks_of(rows):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "bytes_needed", lambda source: MEMORY + 1)
        for module in USING_BLOCKS:
            patch.setattr(module, "BLOCK_ROWS", rows)
        yield


def told(options, memory):
    """All that `load_splits` gives, in a form that can be compared, or the text of its error."""
    try:
        splits = load_splits(options, seed=3, memory=memory)
    except UsageError as error:
        return str(error)
    vocabulary = splits.schema.vocabulary()
    rows = {
        name: None
        if part is None
        else (
            part.features.tobytes(),
            None if part.ids is None else part.ids.tobytes(),
            part.labels.tobytes(),
            None if part.weights is None else part.weights.tobytes(),
            list(part.missing.items()),
            list(part.unseen.items()),
        )
        for name, part in (("train", splits.train), ("validation", splits.validation), ("test", splits.test))
    }
    numbers = [None if part is None else part.tolist() for part in (splits.train_rows, splits.validation_rows)]
    return {
        "schema": splits.schema.to_json(),
        "vocabulary": None if vocabulary is None else vocabulary.to_pylist(),
        "rows": rows,
        "numbers": numbers,
        "notes": list(splits.notes),
        "files": {name: [(each.path, each.rows) for each in files] for name, files in splits.files.items()},
        "fingerprint": splits.fingerprint.to_json(),
        "lines": describe(splits),
    }


def agree(options):
    held = told(options, None)
    assert told(options, MEMORY) == held
    return held


# ---- tables of every kind --------------------------------------------------------------------------------------------

words = st.sampled_from(["red", "green", "blue", " red", "x y", "Ähre"])
texts = {
    "numbers": st.integers(-50, 50).map(lambda number: str(number / 4)),
    "flags": st.sampled_from(["true", "False", "1", "0", "1.0"]),
    "words": words,
    "dates": st.dates(dt.date(1999, 1, 1), dt.date(2001, 1, 1)).map(str),
    "moments": st.datetimes(dt.datetime(2000, 1, 1), dt.datetime(2000, 1, 9)).map(
        lambda moment: moment.isoformat(timespec="milliseconds") + "Z"
    ),
    "times": st.sampled_from(["08:30", "23:59:30", "00:00"]),
    "durations": st.sampled_from(["PT1H", "P2DT3S", "-PT5M", "3 days 04:05:06"]),
    "ids": st.integers(0, 10**6).map("c{}".format),
    "codes": st.integers(0, 99).map("{:03}".format),
    "amounts": st.sampled_from(["1,234.5", "$7", "12 %"]),
    "nothing": st.just("NA"),
}
strange = st.sampled_from(
    ["inf", "31/12/1999", "1999-02-30", "2000-01-01T00:00", "oops", "1e400", "8:30 pm", "NaN", ""]
)


@st.composite
def columns_of_text(draw, rows):
    """A column that begins as one thing and may be joined by others late."""
    kind = texts[draw(st.sampled_from(sorted(texts)))]
    values = draw(st.lists(kind, min_size=rows, max_size=rows))
    for place in draw(st.lists(st.integers(0, rows - 1), max_size=3)):
        values[place] = draw(st.one_of(strange, kind, st.sampled_from(["", "NA", "?"])))
    return values


@st.composite
def tables(draw):
    rows = draw(st.integers(12, 40))
    columns = {name: draw(columns_of_text(rows)) for name in "abc"[: draw(st.integers(1, 3))]}
    label = draw(st.sampled_from(["classes", "numbers", "words"]))
    if label == "classes":
        columns["y"] = [("no", "yes")[number % 2] for number in range(rows)]
    else:
        columns["y"] = draw(st.lists(texts[label], min_size=rows, max_size=rows))
    for place in draw(st.lists(st.integers(0, rows - 1), max_size=1)):
        columns["y"][place] = draw(st.sampled_from(["", "maybe"]))
    columns["w"] = [str(number % 3) for number in range(rows)]
    return columns


def write(columns, folder, form, parts):
    """The table in files of a format; types are those of Arrow's own choice beside text."""
    rows = len(columns["y"])
    bounds = np.linspace(0, rows, parts + 1).astype(int)
    typed = {name: pa.array(values, pa.string()) for name, values in columns.items()}
    for name, values in typed.items():
        for kind in (pa.float64(), pa.timestamp("us"), pa.bool_()) if form in ("parquet", "arrow") else ():
            try:
                typed[name] = pa.array([None if each == "" else each for each in columns[name]]).cast(kind)
                break
            except pa.ArrowInvalid:
                typed[name] = values
    for number, (start, stop) in enumerate(itertools.pairwise(bounds)):
        table, path = pa.table(typed).slice(start, stop - start), folder / f"part-{number}.{form}"
        if form == "csv":
            pyarrow.csv.write_csv(table, path)
        elif form == "parquet":
            pyarrow.parquet.write_table(table, path, row_group_size=5)
        elif form == "arrow":
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table, max_chunksize=7)
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    return (folder,)


options_of = st.fixed_dictionaries(
    {},
    optional={
        "drop_unlabelled": st.just(True),
        "sample_weight": st.just("w"),
        "hash_bits": st.just(6),
        "one_hot_limit": st.sampled_from([0, 3]),
        "categorical": st.just(("a",)),
        "numeric": st.just(("a",)),
        "ignore": st.just(("w",)),
        "min_count": st.just(2),
    },
).filter(lambda given: not (("hash_bits" in given and given.keys() & {"one_hot_limit", "min_count"})
                            or given.keys() >= {"categorical", "numeric"}))  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(
    columns=tables(),
    form=st.sampled_from(["csv", "parquet", "arrow", "jsonl"]),
    parts=st.integers(1, 3),
    rows=st.sampled_from([1, 4, 7, 100]),
    options=options_of,
)
def test_tables_read_in_passes_are_what_they_are_in_memory(columns, form, parts, rows, options):
    with TemporaryDirectory() as place, blocks_of(rows):
        agree(AnyTable(write(columns, Path(place), form, parts), "y", **options))


@st.composite
def divisions(draw):
    rows = draw(st.integers(12, 40))
    some = {
        "group": st.integers(0, 9).map("g{}".format),
        "time": st.one_of(st.dates(dt.date(2000, 1, 1), dt.date(2000, 2, 1)).map(str), st.integers(1, 99).map(str)),
        "split": st.sampled_from(["train", "Valid", "test", "training"]),
    }
    way = draw(st.sampled_from(sorted(some)))
    values = draw(st.lists(some[way], min_size=rows, max_size=rows))
    for place in draw(st.lists(st.integers(0, rows - 1), max_size=2)):
        values[place] = draw(st.sampled_from(["", "2000-01-05", "2000-01-05T01:00Z", "7", "Train", "g1"]))
    columns = {
        "a": draw(columns_of_text(rows)),
        "d": values,
        "y": draw(st.lists(st.sampled_from(["no", "yes", "no", ""]), min_size=rows, max_size=rows)),
    }
    return columns, {way: "d"} | ({"time_gap": draw(st.sampled_from(["P1D", "2"]))} if way == "time" else {})


@settings(deadline=None, max_examples=40)
@given(
    made=divisions(),
    form=st.sampled_from(["csv", "parquet", "jsonl"]),
    parts=st.integers(1, 3),
    rows=st.sampled_from([1, 4, 7, 100]),
    own_files=st.sets(st.sampled_from(["validation_data", "test_data"])),
    drop_unlabelled=st.booleans(),
)
def test_rows_are_divided_as_in_memory(made, form, parts, rows, own_files, drop_unlabelled):
    columns, way = made
    with TemporaryDirectory() as place, blocks_of(rows):
        for name in ("data", *own_files):
            (Path(place) / name).mkdir()
        named = {name: write(columns, Path(place) / name, form, parts) for name in own_files}
        data = write(columns, Path(place) / "data", form, parts)
        agree(AnyTable(data, "y", drop_unlabelled=drop_unlabelled, ignore=("d",), **way, **named))


# ---- surveys ---------------------------------------------------------------------------------------------------------


def surveyed(values, ends, order):
    """A column learned from parts that end at some rows, taken in an order, after the first one."""
    table = pa.table({"a": pa.array(values, pa.string())})
    survey = ColumnSurvey("a", pa.string(), Wanted("y"), untyped=True, where="here")
    bounds = [0, *ends, len(values)]
    parts = [Part(table.slice(a, b - a), a) for a, b in itertools.pairwise(bounds) if b > a]
    notes = []
    while True:
        survey.take(survey.look(parts[0]))
        others = [survey.look(part) for part in parts[1:]]
        for place in np.argsort(order[: len(others)], kind="stable"):
            survey.take(others[place])
        if not survey.again:
            break
        survey.restart()
    try:
        return survey.learned(notes), notes
    except WrongValue:
        return "wrong"
    except UsageError as error:
        return str(error)


@settings(deadline=None, max_examples=40)
@given(
    values=st.integers(8, 40).flatmap(columns_of_text),
    ends=st.sets(st.integers(1, 9)).map(lambda blocks: sorted(4 * block for block in blocks)),
    order=st.lists(st.integers(), min_size=12, max_size=12),
)
def test_what_is_learned_depends_neither_on_the_parts_nor_on_their_order(values, ends, order):
    ends = [end for end in ends if end < len(values)]
    with blocks_of(4):
        assert surveyed(values, ends, order) == surveyed(values, [], order)


@settings(deadline=None, max_examples=30)
@given(
    parts=st.lists(st.lists(st.sampled_from(["a", "b", "ab", None, "08:30", "7", "1,5"]), min_size=1), max_size=5),
    forgetting=st.integers(0, 5),
)
def test_texts_are_counted_the_same_in_parts_and_after_they_were_forgotten(parts, forgetting):
    whole, merged, forgotten = Texts(ASKED), Texts(ASKED), Texts(ASKED)
    whole.add(pa.chunked_array(parts, pa.string()))
    for number, part in enumerate(parts):
        one = Texts(ASKED)
        one.add(pa.chunked_array([part], pa.string()))
        merged.merge(one)
        forgotten.merge(one)
        if number == forgetting:
            forgotten.forget()
    for other in (merged, forgotten):
        assert (other.rows, other.missing, other.count()) == (whole.rows, whole.missing, whole.count())
        assert [other.are_mostly(*are) for are in ASKED] == [whole.are_mostly(*are) for are in ASKED]
        assert [other.taken(*are) for are in ASKED] == [whole.taken(*are) for are in ASKED]
    assert sorted(map(str, zip(*map(list, merged.counted), strict=True))) == sorted(
        map(str, zip(*map(list, whole.counted), strict=True))
    )


def test_a_sample_estimates_the_number_of_texts_whatever_their_order_is():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(texts_module, "EXACT", 1000)
        made = pa.array([f"c{number}" for number in range(30_000)])
        samples = []
        for cuts in ([0, 30_000], [0, 7_000, 8_000, 30_000]):
            parts = [Sample() for _ in cuts[1:]]
            for part, start, stop in zip(parts, cuts, cuts[1:], strict=False):
                part.add(made.slice(start, stop - start))
            for part in parts[:-1]:
                parts[-1].merge(part)
            samples.append(parts[-1].count)
        assert samples[0] == samples[1]
        count, exact = samples[0]
        assert (abs(count - 30_000) < 3_500, exact) == (True, False)


def test_the_moments_of_blocks_are_those_of_all_numbers():
    numbers = np.random.default_rng(0).normal(7, 3, 1000)
    first, second = Moments(), Moments()
    for block in range(10):
        (first, second)[block % 2].add(block, numbers[block * 100 : block * 100 + 100])
    first.merge(second)
    np.testing.assert_allclose(first.mean_and_deviation(), (numbers.mean(), numbers.std()), rtol=1e-13)
    one = Moments()
    one.add(0, numbers)
    assert one.mean_and_deviation() == (numbers.mean(), numbers.std())


# ---- passes ----------------------------------------------------------------------------------------------------------


def csv_of(path, rows, start=0):
    lines = (f"{number},{number % 7},{('no', 'yes')[number % 2]}\n" for number in range(start, start + rows))
    path.write_text("a,b,y\n" + "".join(lines))


@pytest.mark.parametrize("when", ["labels", "schema", "rows"])
@pytest.mark.parametrize("shorter", [True, False])
def test_a_file_that_changes_between_passes_is_refused(tmp_path, when, shorter):
    csv_of(tmp_path / "t.csv", 40)
    changed = []

    def progress(what, done, total):
        if what == when and not changed:
            changed.append(done)
            csv_of(tmp_path / "t.csv", 20 if shorter else 41)

    with blocks_of(8), pytest.raises(UsageError, match=r"t\.csv: it changed while it was read\. Run again"):
        load_splits(AnyTable(tmp_path / "t.csv", "y"), seed=0, memory=MEMORY, watch=progress)


def test_progress_tells_what_a_table_is_read_for(tmp_path):
    csv_of(tmp_path / "t.csv", 40)
    seen = []
    with blocks_of(8):
        load_splits(AnyTable(tmp_path / "t.csv", "y"), seed=0, memory=MEMORY, watch=lambda *each: seen.append(each))
    assert list(dict.fromkeys(what for what, _, _ in seen)) == ["labels", "schema", "rows"]
    size = (tmp_path / "t.csv").stat().st_size
    assert all(0 < done <= total == size for _, done, total in seen)


def test_text_late_among_numbers_costs_a_pass_over_that_column(tmp_path):
    lines = [f"{number},{number},{('no', 'yes')[number % 2]}" for number in range(60)]
    lines[50:] = [f"red,{number},{('no', 'yes')[number % 2]}" for number in range(50, 60)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,y", *lines]))
    read = []
    with blocks_of(8), pytest.MonkeyPatch.context() as patch:
        original = streamed.Streamed.parts
        patch.setattr(streamed.Streamed, "parts", lambda self, names, what: (
            read.append((what, list(names))), original(self, names, what))[1])  # fmt: skip
        splits = load_splits(AnyTable(tmp_path / "t.csv", "y", one_hot_limit=9), seed=0, memory=MEMORY)
    assert [column.kind for column in splits.schema.columns] == ["embedded", "number"]
    assert read == [("labels", ["y"]), ("schema", ["a", "b", "y"]), ("schema", ["a"]), ("rows", ["a", "b"])]


def test_a_list_of_categories_that_does_not_fit_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("a,y\n" + "".join(f"c{number},{number % 2}\n" for number in range(400)))
    options = {"data": tmp_path / "t.csv", "label": "y"}
    with blocks_of(64):
        with pytest.raises(UsageError, match=r"'a' has more than \d+ different values, whose list .*--hash-bits"):
            told_or_raised(AnyTable(**options), 2000)
        assert told_or_raised(AnyTable(**options, hash_bits=4), 2000).schema.columns[0].kind == "hashed"


def told_or_raised(options, memory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "bytes_needed", lambda source: memory + 1)
        patch.setattr(plan, "LEAST_LIST", 100)
        patch.setattr("trainer.data.tables.survey.FORGOTTEN_BYTES", 100)
        return load_splits(options, seed=0, memory=memory)


class Pieces:
    """A sink that keeps what it is given, in any order, and makes arrays of it at the end."""

    def __init__(self):
        self.memory, self.layouts, self.written = MemorySink(), {}, {}

    def open(self, split, rows, layout):
        self.layouts[split] = rows, layout
        self.memory.open(split, rows, layout)

    def write(self, split, first, rows):
        self.written.setdefault(split, []).append((first, len(rows.labels)))
        self.memory.write(split, first, rows)

    def close(self):
        return self.memory.close()


@pytest.mark.parametrize("memory", [None, MEMORY])
def test_a_sink_gets_every_row_once_and_knows_the_size_before(tmp_path, memory):
    csv_of(tmp_path / "t.csv", 60)
    options = AnyTable(tmp_path / "t.csv", "y", sample_weight="b")
    with blocks_of(8):
        made, sink = planned(options, seed=0, memory=memory), Pieces()
        splits, usual = made.encode(sink), load_splits(options, seed=0)
    assert made.sizes == {name: rows for name, (rows, _) in sink.layouts.items()} == {
        "train": 36, "validation": 12, "test": 12}  # fmt: skip
    assert made.bytes == 60 * 4 * 3
    for split, pieces in sink.written.items():
        pieces.sort()
        assert len(pieces) > 1
        ends = [first + count for first, count in pieces]
        assert [first for first, _ in pieces] == [0, *ends[:-1]]
        assert ends[-1] == made.sizes[split]
    np.testing.assert_array_equal(splits.train.features, usual.train.features)
    np.testing.assert_array_equal(splits.test.weights, usual.test.weights)


@pytest.mark.parametrize("memory", [None, MEMORY])
def test_rows_shared_out_to_a_sink_equal_those_encoded_split_by_split(tmp_path, memory):
    numbers = np.random.default_rng(0).standard_normal(64)
    numbers[19] = np.nan
    table = pa.table({"a": numbers.astype(np.float32), "b": numbers[::-1].tolist(), "y": [0, 1] * 32})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    options = AnyTable(tmp_path / "t.parquet", "y")
    with blocks_of(8):
        splits = planned(options, seed=0, memory=memory).encode(Pieces())
        usual = load_splits(options, seed=0)
    for part, same in ((splits.train, usual.train), (splits.validation, usual.validation), (splits.test, usual.test)):
        assert part.features.tobytes() == same.features.tobytes()
    missing_of = [[part.missing for part in (each.train, each.validation, each.test)] for each in (splits, usual)]
    assert missing_of[0] == missing_of[1]
    assert sum(sum(counts.values()) for counts in missing_of[1]) == 2


def test_files_are_read_in_passes_if_they_need_more_memory_than_there_is(tmp_path):
    csv_of(tmp_path / "t.csv", 40)
    pyarrow.parquet.write_table(pyarrow.csv.read_csv(tmp_path / "t.csv"), tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        seen = [set(), set()]
        for memory, whats in zip((100, 1 << 30), seen, strict=True):
            options = AnyTable(tmp_path / name, "y", cache="off")
            load_splits(options, seed=0, memory=memory, watch=partial(lambda whats, *each: whats.add(each[0]), whats))
        assert seen == [{"labels", "schema", "rows"}, {"read"}]
