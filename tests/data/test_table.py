"""Tables: what is read, and how it is cut."""

import codecs
import csv
import gzip
import io
import re

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainer import UsageError
from trainer.data.tables import csv_rows
from trainer.data.tables.learn import Wanted, learn_schema
from trainer.data.tables.options import TableOptions
from trainer.data.tables.reading import open_stream, whole
from trainer.data.tables.splits import describe, load_splits


def learn(table, label="y", *, untyped=True, **options):
    return learn_schema(table, Wanted(label, **options), untyped=untyped).schema


def read_table(path, **options):
    stream = open_stream(str(path), **options)
    return whole(stream, list(stream.names))


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
        ("a", "number"),
        ("b", "category"),
        ("c", "number"),
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


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"a;b\n1;2\n", ["a", "b"]),
        (b"a;b,c\n1;2,5\n3;4,5\n", ["a;b", "c"]),
        (b"a|b\n1,5|2\n", ["a", "b"]),
        (b"\xef\xbb\xbfa\tb\n1\t2\n", ["a", "b"]),
        ("\u00e4,b\n1,2\n".encode("utf-16"), ["\u00e4", "b"]),
        (codecs.BOM_UTF16_BE + "a,b\n1,\U0001f600\n".encode("utf-16-be"), ["a", "b"]),
        (b"a,,c\n1,2,3\n", ["a", "column_2", "c"]),
        (b",a,b\n0,1,2\n", ["a", "b"]),
        (b'a\n"x;y"\n', ["a"]),
    ],
)
def test_delimiters_encodings_and_columns_without_a_name_are_found(tmp_path, content, names):
    (tmp_path / "t.csv").write_bytes(content)
    assert read_table(tmp_path / "t.csv").column_names == names


def test_a_delimiter_that_is_given_is_not_looked_for(tmp_path):
    (tmp_path / "t.csv").write_text("a;b\n1;2\n")
    assert read_table(tmp_path / "t.csv", delimiter=",").column_names == ["a;b"]


def test_columns_that_are_not_asked_for_may_be_anything(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"a,n,n,b\n1,\xff,2,x\n3,4,\xfe,z\n")
    stream = open_stream(str(tmp_path / "t.csv"))
    assert whole(stream, ["b", "a"]).to_pylist() == [{"b": "x", "a": "1"}, {"b": "z", "a": "3"}]
    with pytest.raises(UsageError, match="two columns are named n"):
        whole(open_stream(str(tmp_path / "t.csv")), ["n"])


def test_what_is_not_text_is_named_by_column_and_row(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"a,n\n1,x\n2,Jos\xe9\n")
    with pytest.raises(UsageError, match=r"column 'n' is not UTF-8 text at row 2\."):
        read_table(tmp_path / "t.csv")


fields = st.text(st.sampled_from('ab;,"\n\r \u00e9'), max_size=6)


SEMICOLONS = "a;b;y\n" + "1,5;2;no\n2,5;3;yes\n" * 20


@pytest.mark.parametrize(
    ("given", "content", "error", "sign"),
    [
        (",", SEMICOLONS.replace("1,5", "1").replace("2,5", "2"), "there is no column 'y' for --label", "';'"),
        (",", SEMICOLONS, "there is no column 'y' for --label", "';'"),
        (";", SEMICOLONS.replace(",5", "").replace(";", "\t"), "there is no column 'y' for --label", "tab"),
        ("tab", SEMICOLONS.replace(",5", "").replace(";", "|"), "there is no column 'y' for --label", r"'\|'"),
    ],
)
def test_an_error_says_that_another_delimiter_makes_columns(tmp_path, given, content, error, sign):
    (tmp_path / "t.csv").write_text(content)
    delimiter = "\t" if given == "tab" else given
    message = f"{error}.* separated by {sign}: use --delimiter {sign}, or leave it out"
    with pytest.raises(UsageError, match=message):
        load_splits(TableOptions(tmp_path / "t.csv", "y", delimiter=delimiter), seed=0)


def test_the_delimiter_of_a_validation_file_may_be_the_wrong_one_too(tmp_path):
    good = SEMICOLONS.replace(",5", "")
    (tmp_path / "t.csv").write_text(good)
    (tmp_path / "v.csv").write_text(good.replace(";", ","))
    options = TableOptions(tmp_path / "t.csv", "y", delimiter=";", validation_data=tmp_path / "v.csv")
    with pytest.raises(
        UsageError, match=r"v\.csv: columns are missing: a, b\..* separated by ',': use --delimiter ','"
    ):
        load_splits(options, seed=0)
    # A delimiter that is right, and a column that is not there.
    with pytest.raises(UsageError, match="no column 'z'") as error:
        load_splits(TableOptions(tmp_path / "t.csv", "z", delimiter=";"), seed=0)
    assert "--delimiter" not in str(error.value)


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_the_index_that_is_left_out_may_be_ignored(tmp_path, name):
    import pandas as pd

    frame = pd.DataFrame({"a": [1.0, 2.0] * 20, "b": [0.0, 1.0] * 20, "y": ["no", "yes"] * 20}, index=range(7, 47))
    frame.to_csv(tmp_path / "t.csv")
    frame.set_index(frame.index * 2).to_parquet(tmp_path / "t.parquet", index=True)
    left_out = "column_1" if name == "t.csv" else "__index_level_0__"
    options = TableOptions(tmp_path / name, "y", ignore=(left_out, "b"))
    assert load_splits(options, seed=0).schema.feature_names == ["a"]
    with pytest.raises(UsageError, match="there is no column '__index_level_1__' for --ignore"):
        load_splits(TableOptions(tmp_path / name, "y", ignore=("__index_level_1__",)), seed=0)


@pytest.mark.parametrize("option", ["features", "ignore", "categorical", "numeric"])
def test_a_part_of_a_name_with_a_comma_brings_a_hint(tmp_path, option):
    (tmp_path / "t.csv").write_text('"last, first",a,y\n' + "1,2,no\n3,4,yes\n" * 20)
    flag = f"--{option}"
    with pytest.raises(UsageError, match="there is no column 'last' for " + flag) as error:
        load_splits(TableOptions(tmp_path / "t.csv", "y", **{option: ("last", "first")}), seed=0)
    hint = f"'last, first', put it in quotes, {flag} '\"last, first\"'; if {flag} is repeated, each is one name."
    assert hint in str(error.value)
    with pytest.raises(UsageError) as error:
        load_splits(TableOptions(tmp_path / "t.csv", "last"), seed=0)
    assert "quotes" not in str(error.value)


@given(st.lists(st.tuples(fields, fields), min_size=1, max_size=30), st.integers(1, 40), st.sampled_from(",;\t"))
def test_blocks_of_any_size_give_the_rows_that_were_written(rows, size, delimiter):
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter).writerows(rows)
    content = file.getvalue().encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_rows, "BLOCK_BYTES", size)
        patch.setattr(csv_rows, "SMALLEST_READ", 1)
        blocks = list(csv_rows.blocks_of(io.BufferedReader(io.BytesIO(content)), b"", delimiter, "here"))
    assert b"".join(blocks) == content
    read = [list(csv.reader(io.StringIO(block.decode(), newline=""), delimiter=delimiter)) for block in blocks]
    # A block may begin with the second half of a line end, which is an empty row.
    assert [tuple(row) for part in read for row in part if row] == rows


@pytest.mark.parametrize("size", [1, 7, 30, 1000])
def test_quotes_within_a_text_open_nothing(tmp_path, monkeypatch, size):
    monkeypatch.setattr(csv_rows, "BLOCK_BYTES", size)
    monkeypatch.setattr(csv_rows, "SMALLEST_READ", 1)
    rows = ['5" pipe,1', '"a ""b"", c\nd",2', "x,3", '2" by 4",4', '"",5']
    (tmp_path / "t.csv").write_text("a,b\n" + "\n".join(rows * 20) + "\n")
    expected = ['5" pipe', 'a "b", c\nd', "x", '2" by 4"', ""] * 20
    assert read_table(tmp_path / "t.csv").column("a").to_pylist() == expected


def gzipped(text):
    # Without the time: it would stand in the names of the tests, which have to be the same in every process.
    return gzip.compress(text.encode(), mtime=0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "it is empty"),
        ("t.csv", b"\n\n", "it is empty"),
        ("t.csv.gz", gzipped(""), "it is empty"),
        ("t.csv", b"a,b", "it has a header and no rows"),
        ("t.csv", b"a,b\n", "it has a header and no rows"),
        ("t.csv", b"a,a \n1,2\n", "two columns are named a"),
        ("t.csv", b"a,b\n1,2\n\n3\n", "row 2 has 1 values, the header names 2 columns. Add the missing ones"),
        ("t.csv", b"\na,b\n1,2,3\n", "row 1 has 3 values, the header names 2 columns. Put values"),
        ("t.csv", b'a,b\n"1,2\n3,4\n', "or the quote that ends a value"),
        ("t.csv", b"a,b\nJos\xe9,2\n3\n", "row 2 has 1 values"),
        ("t.csv", b"\xe9,b\n1,2\n", "its header is not UTF-8 text"),
        ("t.csv", b"a,b\n" + b"x" * 200_000 + b",1\n1\n", "Expected 2 columns, got 1"),
        ("t.csv", gzipped("a,b\n1,2\n"), "it is not text"),
        ("t.csv.gz", b"a,b\n1,2\n", "it is not a gzip file"),
        ("t.csv.gz", gzip.compress(b"PAR1", mtime=0), "it is a Parquet file, not CSV"),
        ("t.csv.gz", gzip.compress(bytes(range(256)), mtime=0), "it is not text"),
        (
            "t.csv.gz",
            gzip.compress(np.random.default_rng(0).bytes(300_000).hex(",").replace("1,", "\n").encode(), mtime=0)[
                :-9000
            ],
            "Truncated|ended",
        ),
        ("t.parquet", b"PAR1" + b"1" * 50, "it cannot be read as Parquet"),
    ],
)
def test_a_file_that_is_not_a_table_says_why(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UsageError, match=f"^{re.escape(str(path))}: .*({message})"):
        read_table(path)


def test_a_path_that_leads_nowhere_is_an_error(tmp_path):
    (tmp_path / "adult.csv").write_text("a\n1\n")
    for path, message in (
        (tmp_path / "adlut.csv", "no such file. Did you mean 'adult.csv'"),
        (tmp_path / "adult.csv" / "t.csv", "no such file"),
        (tmp_path / ("x" * 300 + ".csv"), "it cannot be read"),
        (tmp_path / "none*.csv", "no file matches the pattern"),
    ):
        with pytest.raises(UsageError, match=message):
            read_table(path)


csv_text = st.text(st.sampled_from('ab1,;".\n\r \t\u00e9-?'), max_size=60).map(str.encode)


@given(st.one_of(st.binary(max_size=60), csv_text), st.sampled_from(["t.csv", "t.tsv", "t.csv.gz", "t.parquet"]))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_content_is_a_table_or_a_usage_error(tmp_path, content, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    try:
        read = read_table(path)
    except UsageError:
        return
    assert read.num_rows > 0
    assert all(read.column_names)
    assert len(set(read.column_names)) == len(read.column_names)


# ---- splits ---------------------------------------------------------------------------------------------------------


def written(tmp_path, rows=100, name="t.csv", seed=0):
    generator = np.random.default_rng(seed)
    made = table(a=generator.normal(size=rows), y=(["no", "yes", "no", "no"] * rows)[:rows])
    pyarrow.csv.write_csv(made, tmp_path / name)
    return tmp_path / name


def test_the_parts_are_disjoint_complete_stratified_and_a_function_of_the_seed(tmp_path):
    path = written(tmp_path)
    splits, again, other = (load_splits(TableOptions(path, "y"), seed=seed) for seed in (1, 1, 2))
    parts = [splits.train_rows, splits.validation_rows, splits.test_rows]
    assert [len(part) for part in parts] == [60, 20, 20]
    assert sorted(np.concatenate(parts)) == list(range(100))
    assert [rows.labels.mean() for rows in (splits.train, splits.validation, splits.test)] == [0.25] * 3
    np.testing.assert_array_equal(splits.train_rows, again.train_rows)
    assert (splits.train_rows != other.train_rows).any()


def test_the_schema_never_sees_rows_of_validation_or_test(tmp_path):
    path = written(tmp_path)
    splits = load_splits(TableOptions(path, "y"), seed=0)
    made = pyarrow.csv.read_csv(path)
    values = made.column("a").to_numpy().copy()
    values[splits.validation_rows] += 1000
    values[splits.test_rows] -= 500
    pyarrow.csv.write_csv(made.set_column(0, "a", pa.array(values)), path)
    assert load_splits(TableOptions(path, "y"), seed=0).schema == splits.schema


def with_one_value_changed(path, row, value):
    lines = path.read_text().splitlines()
    lines[row] = f"{value},{lines[row].split(',')[1]}"
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize(("value", "message"), [("word", "text 'word' in the numeric column 'a'"), ("inf", "infinite")])
def test_a_message_names_the_row_of_the_file_whatever_split_it_is_in(tmp_path, split, value, message):
    path = written(tmp_path)
    row = int(getattr(load_splits(TableOptions(path, "y"), seed=0), f"{split}_rows")[3]) + 1
    with_one_value_changed(path, row, value)
    with pytest.raises(UsageError, match=rf"{message}.* at row {row}\."):
        load_splits(TableOptions(path, "y"), seed=0)


def test_a_file_with_fewer_kinds_of_values_is_read_as_the_training_file(tmp_path):
    path, other = tmp_path / "t.csv", tmp_path / "v.csv"
    path.write_text("a,b,y\n" + "007,True,01\nA1,Perhaps,x\n" * 20)
    other.write_text("a,b,y\n007,True,01\n007,True,x\n")
    splits = load_splits(TableOptions(path, "y", validation_data=other), seed=0)
    assert splits.validation.features.tolist() == [[1, 0, 0, 1]] * 2
    assert splits.validation.unseen == {}


def test_without_splits_all_rows_train(tmp_path):
    splits = load_splits(TableOptions(written(tmp_path), "y", validation_split=0, test_split=0), seed=0)
    assert len(splits.train.features) == 100
    assert (splits.validation, splits.test, splits.validation_rows, splits.test_rows) == (None,) * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": None}, "--label: no label column is given. Columns: a, y"),
        ({"label": "z"}, "no column 'z' for --label.*Columns: a, y"),
        ({"label": "Y"}, "Did you mean 'y'"),
        ({"validation_split": -0.1}, "--validation-split: -0.1 is not a fraction"),
        ({"test_split": float("nan")}, "--test-split: nan is not a fraction"),
        ({"validation_split": 0.5, "test_split": 0.5}, "leave no rows to train on"),
        ({"test_split": 0.001}, "too few for a test split of 0 rows"),
    ],
)
def test_rows_that_cannot_be_cut_so_are_an_error(tmp_path, options, message):
    options = {"label": "y", **options}
    with pytest.raises(UsageError, match=message):
        load_splits(TableOptions(written(tmp_path), **options), seed=0)


@pytest.mark.parametrize(
    ("validation", "test", "message"),
    [
        (0.02, 0, "the validation rows of .*: all of its 2 rows are of the class 'no'"),
        (0, 0.02, "the test rows of .*: all of its 2 rows are of the class 'no'"),
        (0, 0.98, "the 2 rows left for training are all of one class. Use a smaller"),
    ],
)
def test_a_split_of_one_class_is_an_error(tmp_path, validation, test, message):
    path = tmp_path / "t.csv"
    path.write_text("a,y\n" + ("1,no\n" * 9 + "2,yes\n") * 10)
    with pytest.raises(UsageError, match=message):
        load_splits(TableOptions(path, "y", validation_split=validation, test_split=test), seed=0)


def test_a_file_of_its_own_needs_the_label_and_the_weight(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,w,y\n" + "1,1,no\n2,3,yes\n" * 10)
    for header, message in (
        ("a,w,z", "the label column 'y' is missing"),
        ("a,z,y", "the weight column 'w' is missing"),
    ):
        (tmp_path / "v.csv").write_text(f"{header}\n1,1,no\n2,3,yes\n")
        with pytest.raises(UsageError, match=message):
            load_splits(TableOptions(path, "y", sample_weight="w", validation_data=tmp_path / "v.csv"), seed=0)


def test_a_file_of_its_own_takes_the_place_of_a_split(tmp_path):
    path, other = written(tmp_path), written(tmp_path, 40, "v.csv", seed=1)
    splits = load_splits(TableOptions(path, "y", validation_data=other, test_split=0), seed=0)
    assert (len(splits.train.features), len(splits.validation.features), splits.test) == (100, 40, None)
    assert splits.validation_rows is None


def test_what_was_understood_is_described(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b,y\n" + "1,x,no\n,y,yes\n3,x,no\n4,y,yes\n" * 10)
    lines = describe(load_splits(TableOptions(path, "y"), seed=0))
    assert lines == [
        "rows: 24 training (50.0% positive), 8 validation (50.0% positive), 8 test (50.0% positive)",
        "columns: 1 number, 1 category → 3 inputs",
        "y: 'no' → 0, 'yes' → 1 (positive)",
        "missing values: a 10",
    ]


def test_a_class_whose_rows_all_have_weight_0_is_an_error(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,w,y\n" + ("1,2,no\n" * 9 + "2,0,yes\n" * 3) * 10)
    options = TableOptions(path, "y", sample_weight="w", validation_split=0, test_split=0)
    with pytest.raises(UsageError, match="all 30 rows of the class 'yes' have weight 0"):
        load_splits(options, seed=0)
