"""Many files as one table: which files, in which order, and the same table however its rows are cut into files."""

import bz2
import gzip
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packages import in_process

from trainer import UsageError, fit
from trainer.data.tables import csv_rows, json_lines
from trainer.data.tables.options import TableOptions
from trainer.data.tables.overview import look
from trainer.data.tables.reading import located, open_stream, whole
from trainer.data.tables.sources import find_source
from trainer.data.tables.splits import load_splits


def read(source, **options):
    stream = open_stream(source, **options)
    return whole(stream, list(stream.names))


def write(folder, **files):
    """Files by their names, in which two underscores stand for the dot."""
    for name, text in files.items():
        path = folder / name.replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def names(source):
    return [file.path.name for file in find_source(source).files]


def refused(source, **options):
    with pytest.raises(UsageError) as caught:
        read(source, **options)
    return str(caught.value)


# ---- which files ----------------------------------------------------------------------------------------------------


def test_files_come_in_natural_order_however_they_are_named(tmp_path):
    order = ["part-1.csv", "part-2.csv", "part-02.csv", "part-10.csv", "part-a.csv"]
    for name in order:
        (tmp_path / name).write_text("a\n1\n")
    order[1:3] = sorted(order[1:3])
    assert names(tmp_path) == names(tmp_path / "*.csv") == names([tmp_path / name for name in order[::-1]]) == order


def test_a_folder_is_its_tables_without_hidden_files_and_others(tmp_path):
    write(tmp_path, a__csv="a\n1\n", _SUCCESS="", README__md="x", b__csv__gz="")
    (tmp_path / "_temporary").mkdir()
    (tmp_path / "test").mkdir()
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"a\n2\n"))
    (tmp_path / ".a.csv.crc").write_text("x")
    source = find_source(tmp_path)
    assert [file.path.name for file in source.files] == ["a.csv", "b.csv.gz"]
    assert [note.split(": ")[-1] for note in source.notes] == ["test", "README.md"]
    assert read(tmp_path)["a"].to_pylist() == ["1", "2"]


def test_a_path_that_exists_is_not_a_pattern(tmp_path):
    folder = tmp_path / "[x]"
    folder.mkdir()
    write(folder, **{"a*": "a\n0\n"})
    (folder / "a*").rename(folder / "a*.csv")
    write(folder, ab__csv="a\n1\n")
    assert names(folder / "a*.csv") == ["a*.csv"]
    assert names(folder / "?b.csv") == ["ab.csv"]
    assert names(tmp_path / "**" / "*b.csv") == ["ab.csv"]


def test_what_is_no_table_is_refused_by_name(tmp_path):
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path}/empty: it is empty" in refused(tmp_path / "empty")
    (tmp_path / "empty" / "train").mkdir()
    assert "has no table, only train. Name a folder in it" in refused(tmp_path / "empty")
    write(tmp_path, a__csv="a\n1\n", b__parquet="PAR1", c__csv="a\n2\n")
    message = refused(tmp_path)
    assert "several formats: 2 CSV (a.csv, c.csv), 1 Parquet (b.parquet)" in message
    assert f"'{tmp_path}/*.csv'" in message
    assert f"no file matches the pattern. {tmp_path} has: a.csv, b.parquet, c.csv" in refused(tmp_path / "*.json")
    assert "it is named twice" in refused([tmp_path / "a.csv", tmp_path / "*.csv"])
    assert "there is no such file. Did you mean 'a.csv'?" in refused([tmp_path / "c.csv", tmp_path / "a.cvs"])
    assert "cannot be read together with files" in refused(["-", tmp_path / "a.csv"])
    shutil.copy(tmp_path / "a.csv", tmp_path / "a.parquet.gz")
    assert "compressed inside" in refused(tmp_path / "a.parquet.gz")


# ---- one schema -----------------------------------------------------------------------------------------------------


def test_columns_are_matched_by_name(tmp_path):
    write(tmp_path, a__csv="a,b\n1,x\n", b__csv="b;a\ny;2\n", c__tsv="a\tb\n3\tz\n")
    assert read(tmp_path).to_pydict() == {"a": ["1", "2", "3"], "b": ["x", "y", "z"]}


def test_a_file_whose_columns_differ_is_named_with_them(tmp_path):
    write(tmp_path, a__csv="a,b\n1,x\n", b__csv="a,c\n1,x\n")
    message = refused(tmp_path)
    assert f"{tmp_path}/b.csv: its columns are not those of {tmp_path}/a.csv: it lacks b, and it also has c" in message
    write(tmp_path, b__csv="2,y\n3,z\n")
    assert "each CSV file its header" in refused(tmp_path)


def parquet(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pa.table(columns), path)


def test_types_that_hold_the_values_of_all_files_are_chosen(tmp_path):
    parquet(tmp_path / "1.parquet", a=pa.array([1, 2]), b=pa.array(["x", "y"]).dictionary_encode(), c=pa.nulls(2))
    parquet(tmp_path / "2.parquet", a=pa.array([0.5]), b=pa.array(["z"], pa.large_string()), c=pa.array(["t"]))
    table = read(tmp_path)
    assert table.schema.types == [pa.float64(), pa.string(), pa.string()]
    assert table.to_pydict() == {"a": [1, 2, 0.5], "b": ["x", "y", "z"], "c": [None, None, "t"]}
    parquet(tmp_path / "3.parquet", a=pa.array(["one"]), b=pa.array(["z"]), c=pa.array(["t"]))
    message = refused(tmp_path)
    assert f"{tmp_path}/3.parquet: column 'a' holds string, and in {tmp_path}/2.parquet double" in message


def test_an_unreadable_part_is_named(tmp_path):
    write(tmp_path, a__csv="a\n1\n", b__csv="a\n1\n2,3\n")
    assert f"{tmp_path}/b.csv: row 2 has 2 values" in refused(tmp_path)
    write(tmp_path, b__csv="")
    assert f"{tmp_path}/b.csv: it is empty" in refused(tmp_path)
    parquet(tmp_path / "p" / "1.parquet", a=[1])
    write(tmp_path / "p", **{"2__parquet": "PAR1 and nothing else"})
    assert f"{tmp_path}/p/2.parquet: it cannot be read as Parquet" in refused(tmp_path / "p")


def test_folders_name_columns(tmp_path):
    for year, country in ((2023, "a%20b"), (2024, "__HIVE_DEFAULT_PARTITION__")):
        parquet(tmp_path / f"year={year}" / f"country={country}" / "p.parquet", a=[1, 2])
    table = read(tmp_path)
    assert table.schema.field("year").type == pa.int64()
    assert table["year"].to_pylist() == [2023, 2023, 2024, 2024]
    assert table["country"].to_pylist() == ["a b", "a b", None, None]
    assert read(tmp_path / "year=*" / "*" / "*.parquet") == table
    # Of one folder too, or a model could not predict it.
    assert read(tmp_path / "year=2024").column_names == ["a", "year", "country"]
    # Only a column that no file has.
    stream = open_stream(tmp_path)
    assert whole(stream, ["year"])["year"].to_pylist() == [2023, 2023, 2024, 2024]
    parquet(tmp_path / "year=2025" / "p.parquet", a=[1, 2])
    assert "the columns that its folders name (year) differ" in refused(tmp_path)


def test_a_column_of_the_files_goes_before_one_of_the_folders(tmp_path):
    parquet(tmp_path / "a=7" / "p.parquet", a=[1])
    stream = open_stream(tmp_path)
    assert read(tmp_path).to_pydict() == {"a": [1]}
    assert "read from the files, not from the names of the folders: a" in stream.notes


# ---- formats --------------------------------------------------------------------------------------------------------


def test_json_lines_are_text_with_the_digits_of_their_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(json_lines, "BLOCK_BYTES", 16)
    (tmp_path / "t.jsonl").write_text(
        '\ufeff{"a": 1.10, "b": "007", "c": true}\n\n{"b": 12345678901234567890123, "a": null}\r\n'
        '{"a": NaN, "c": "é", "late": {"not": "read"}}'
    )
    stream = open_stream(tmp_path / "t.jsonl")
    assert stream.names == ["a", "b", "c", "late"]
    assert stream.untyped
    assert whole(stream, ["a", "b", "c"]).to_pydict() == {
        "a": ["1.10", None, "NaN"], "b": ["007", "12345678901234567890123", None], "c": ["true", None, "é"]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}\n{"a": [1]}\n', "column 'a' holds a list, not a number, text or truth value at row 2"),
        ('{"a": 1}\n{"a": \n', "is not a JSON object at row 2. Write one object per line."),
        ('[{"a": 1},\n{"a": 2}]\n', "is not a JSON object at row 1. Write one object per line."),
        ("[1, 2]\n", "it is a list, not an object at row 1"),
        ('{"a": "\\ud800"}\n', "column 'a' holds half of a surrogate pair at row 1"),
    ],
)
def test_json_that_is_not_lines_of_plain_values_is_refused(tmp_path, text, message):
    (tmp_path / "t.json").write_text(text)
    assert message in refused(tmp_path / "t.json")


def test_files_of_json_lines_may_lack_columns(tmp_path):
    write(tmp_path, a__jsonl='{"a": 1}\n', b__jsonl='{"b": "x"}\n')
    assert read(tmp_path).to_pydict() == {"a": ["1", None], "b": [None, "x"]}


@pytest.mark.parametrize("ending", ["gz", "bz2", "zst"])
def test_compressed_text_is_read_and_a_damaged_one_is_named(tmp_path, ending):
    def packed(data):
        if ending == "zst":
            return pa.compress(data, "zstd", asbytes=True)
        return (gzip if ending == "gz" else bz2).compress(data)

    rows = "".join(f"{number}\n" for number in range(30000)).encode()
    whole_text = packed(b"a\n") + packed(rows) if ending != "zst" else packed(b"a\n" + rows)
    path = tmp_path / f"t.csv.{ending}"
    path.write_bytes(whole_text)
    assert read(path)["a"].to_pylist() == [str(number) for number in range(30000)]
    path.write_bytes(whole_text[:-20])
    assert f"{path}: it cannot be read" in refused(path)
    (tmp_path / f"j.jsonl.{ending}").write_bytes(packed(b'{"a": 1}\n'))
    assert read(tmp_path / f"j.jsonl.{ending}").to_pydict() == {"a": ["1"]}


def test_arrow_files_and_streams_keep_their_types(tmp_path):
    table = pa.table({"a": [1, 2, None], "b": pa.array(["x", "y", "x"]).dictionary_encode(), " c": [0.5, 1, 2]})
    pyarrow.feather.write_feather(table, tmp_path / "1.feather", compression="zstd")
    with pyarrow.ipc.new_stream(tmp_path / "2.arrows", table.schema) as writer:
        writer.write_table(table, max_chunksize=1)
    both = read(tmp_path)
    assert both.schema.types == [pa.int64(), pa.string(), pa.float64()]
    assert both["b"].to_pylist() == ["x", "y", "x"] * 2
    assert whole(open_stream(tmp_path / "2.arrows"), ["c", "a"]).to_pydict() == {"c": [0.5, 1, 2], "a": [1, 2, None]}
    data = (tmp_path / "1.feather").read_bytes()
    (tmp_path / "1.feather").write_bytes(data[: len(data) // 2])
    assert f"{tmp_path}/1.feather: it cannot be read as Arrow" in refused(tmp_path / "1.feather")


# ---- the same rows --------------------------------------------------------------------------------------------------

ROWS = 60
GENERATOR = np.random.default_rng(0)
LABELS = GENERATOR.integers(0, 2, ROWS)
TABLE = pa.table(
    {
        "x": [None if row % 11 == 0 else round(LABELS[row] + GENERATOR.normal(), 3) for row in range(ROWS)],
        "n": GENERATOR.integers(0, 5, ROWS),
        "word": [("red", "blue", "dark green")[(LABELS[row] + row) % 3] for row in range(ROWS)],
        "y": [("no", "yes")[label] for label in LABELS],
    }
)


def write_part(table, path):
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in table.to_pylist()).encode()))
    elif path.suffix == ".jsonl":
        lines = ({key: value for key, value in row.items() if value is not None} for row in table.to_pylist())
        path.write_text("".join(json.dumps(row) + "\n" for row in lines))
    elif path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path, row_group_size=7)
    else:
        pyarrow.feather.write_feather(table, path)


@settings(max_examples=25, deadline=None)
@given(
    ending=st.sampled_from(["csv", "jsonl", "jsonl.gz", "parquet", "arrow"]),
    cuts=st.lists(st.integers(1, ROWS - 1), max_size=12, unique=True).map(sorted),
    block=st.sampled_from([40, 1 << 20]),
)
def test_the_same_rows_in_any_files_are_the_same_splits_to_the_bit(ending, cuts, block):
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_rows, "BLOCK_BYTES", block)
        patch.setattr(json_lines, "BLOCK_BYTES", block)
        whole_file = Path(place) / "one.parquet"
        write_part(TABLE, whole_file)
        folder = Path(place) / "parts"
        folder.mkdir()
        for number, (start, end) in enumerate(zip([0, *cuts], [*cuts, ROWS], strict=True)):
            write_part(TABLE.slice(start, end - start), folder / f"part-{number}.{ending}")
        one, many = (load_splits(TableOptions((path,), "y"), seed=3) for path in (whole_file, folder))
    assert one.schema == many.schema
    for split in ("train", "validation", "test"):
        for part in ("features", "labels"):
            np.testing.assert_array_equal(getattr(getattr(one, split), part), getattr(getattr(many, split), part))
        np.testing.assert_array_equal(getattr(one, f"{split}_rows"), getattr(many, f"{split}_rows"))


def test_a_wrong_value_is_looked_up_in_its_file(tmp_path):
    for number in range(1, 4):
        rows = "".join(f"{row},{('no', 'yes')[row % 2]}\n" for row in range(20))
        (tmp_path / f"part-{number}.csv").write_text("a,y\n" + rows)
    bad = tmp_path / "part-2.csv"
    bad.write_text(bad.read_text().replace("\n16,", "\noops,"))
    expected = f"{bad}: text 'oops' in the numeric column 'a' at row 17"
    for options in ({"seed": 0}, {"seed": 1}, {"seed": 2}):
        with pytest.raises(UsageError) as caught:
            load_splits(TableOptions((tmp_path,), "y"), **options)
        assert expected in str(caught.value)
    good = tmp_path / "part-3.csv"
    with pytest.raises(UsageError, match=r"part-2.csv: text 'oops'.* at row 17"):
        load_splits(TableOptions((good,), "y", validation_data=(tmp_path,)), seed=0)
    views = {view.name: view for view in look(TableOptions((tmp_path,), "y"), seed=0).columns}
    assert expected in views["a"].error
    stream = open_stream(tmp_path)
    whole(stream, ["a"])
    assert [file.rows for file in stream.files] == [20, 20, 20]
    assert [stream.place_of(row) for row in (1, 20, 21, 60)] == [
        (str(tmp_path / f"part-{part}.csv"), row) for part, row in ((1, 1), (1, 20), (2, 1), (3, 20))
    ]
    with pytest.raises(UsageError, match=r"part-3.csv: wrong at row 1"), located(stream):
        raise UsageError("wrong", where="the table", row=41)


def test_one_file_and_many_are_the_same_run(tmp_path):
    write_part(TABLE, tmp_path / "one.csv")
    for number in range(3):
        write_part(TABLE.slice(number * 20, 20), tmp_path / f"part-{number}.csv")
    parts = sorted(tmp_path.glob("part-*"))
    runs = [
        fit("logreg", data=data, label="y", epochs=1, batch_size=10, runs_dir=None)
        for data in (tmp_path / "one.csv", parts)
    ]
    assert len({str(run.history) for run in runs}) == 1


def test_a_run_evaluation_and_prediction_take_many_files(tmp_path):
    for year in (2023, 2024):
        (tmp_path / "data" / f"year={year}").mkdir(parents=True)
        for number in range(2):
            write_part(TABLE.slice(number * 30, 30), tmp_path / "data" / f"year={year}" / f"part-{number}.parquet")
    (tmp_path / "config.toml").write_text('[task]\nname = "logreg"\ndata = ["data/year=2023", "data/year=2024/*"]\n')
    common = ("--label", "y", "--epochs", "1", "--name", "one", "--no-plugin", "tensorboard", "--no-plugin", "report")
    done = in_process("run", "logreg", "--config", "config.toml", *common, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "logreg" / "one"
    files = json.loads((folder / "run.json").read_text())["files"]
    paths = [
        str(tmp_path / "data" / f"year={year}" / f"part-{part}.parquet") for year in (2023, 2024) for part in (0, 1)
    ]
    assert files == {"data": [{"path": path, "rows": 30} for path in paths]}

    def predicted(*data, to):
        words = [word for each in data for word in ("--data", each)]
        done = in_process("predict", "one", *words, "--output", to, "--keep", "year,x", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return (tmp_path / to).read_text()

    assert predicted("data", to="a.csv") == predicted(*paths[:0], "data/year=2023", "data/year=2024", to="b.csv")
    assert (tmp_path / "a.csv").read_text().splitlines()[-1].startswith("2024,")
    results = [
        json.loads(in_process("evaluate", "one", "--data", data, "--json", cwd=tmp_path).stdout)
        for data in ("data", "data/year=2023,data/year=2024/*.parquet")
    ]
    assert results[0]["rows"] == 120
    assert results[0]["metrics"] == results[1]["metrics"]
    done = in_process("predict", "one", "--data", "data/*/*", "--output", paths[0], "--force", cwd=tmp_path)
    assert done.returncode == 2
    assert "is the input file" in done.stderr
    done = in_process("data", "show", *paths[:2], "--label", "y", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
