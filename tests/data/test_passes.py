"""Tables read in passes, a few blocks at a time: the same schema, splits, rows, notes and errors as in memory."""

import datetime as dt
import json
from contextlib import contextmanager
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
from trainer.data.tables.options import AnyTable
from trainer.data.tables.splits import describe, load_splits
from trainer.data.tables.targets import number_labels
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
    for number, (start, stop) in enumerate(zip(bounds, bounds[1:], strict=False)):
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


@settings(deadline=None, max_examples=120)
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


@settings(deadline=None, max_examples=60)
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
