"""Rows into a model, predictions out: in memory, and from files a part at a time."""

import gzip
import io
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from modelling import NAMES, table_of, train, write_table

from trainer import UsageError, load_model
from trainer.data import Classes, Number, Schema
from trainer.data.tables import csv_rows, parquet_file
from trainer.decisions import Bounds, ClassSets
from trainer.model import TableModel
from trainer.model.capacity import Highest
from trainer.model.predict import predict_file
from trainer.model.sizes import rows_at_a_time
from trainer.mxnet import mx


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("predict")


@pytest.fixture(scope="module")
def run(folder):
    return train(folder)


@pytest.fixture
def model(run):
    return load_model(run.folder)


@pytest.fixture
def rows(folder, run):
    """The test table, as whole-file reading has it."""
    return table_of(folder / "test.csv")


def columns(table):
    return {name: table.column(name).to_pylist() for name in table.column_names}


# ---- in memory -------------------------------------------------------------------------------------------------------


def test_probabilities_are_those_of_the_test_split_and_classes_are_the_tables(run, model, rows):
    found = model.predict(rows)
    assert found.column_names == ["probability", "class"]
    assert found["probability"].to_numpy() == pytest.approx(run.evaluation.predictions, rel=1e-6)
    expected = np.where(found["probability"].to_numpy().astype(np.float64) > run.threshold, "yes", "no")
    assert found["class"].to_pylist() == expected.tolist()


class Frame:
    """What every data frame has, and no more."""

    def __init__(self, table):
        self.columns = table.column_names
        self._table = table

    def __getitem__(self, name):
        return np.array(self._table.column(name).to_pylist(), dtype=object)


def test_every_kind_of_table_gives_the_same(model, rows):
    expected = model.predict(rows)
    structured = np.array(list(zip(*columns(rows).values(), strict=True)), [(name, object) for name in NAMES])
    for data in (
        rows.select(NAMES[::-1]),
        rows.combine_chunks().to_batches()[0],
        columns(rows),
        {name: np.array(values, dtype=object) for name, values in columns(rows).items()},
        Frame(rows),
        structured,
        rows.set_column(3, "job", rows["job"].cast(pa.dictionary(pa.int8(), pa.string()))),
        rows.set_column(4, "member", rows["member"].cast(pa.string())),
    ):
        assert model.predict(data).equals(expected)


def test_an_array_has_the_training_columns_in_their_order(folder):
    path = folder / "numbers"
    path.mkdir()
    run = train(path, ignore=("id", "job", "member"), name="numbers", sample_weight=None, features=("size", "age"))
    model = load_model(run.folder)
    values = np.array([[1.1e6, 50.0], [9e5, np.nan]])
    expected = model.predict({"age": [50.0, None], "size": [1.1e6, 9e5]})
    for array in (values, np.asfortranarray(values), values.tolist()):
        assert model.predict(array).equals(expected)
    with pytest.raises(UsageError, match=r"shape \(2, 3\) does not have the training table's 2 columns.*: size, age"):
        model.predict(np.zeros((2, 3)))
    with pytest.raises(UsageError, match="it is not a table"):
        model.predict("a.csv")
    with pytest.raises(UsageError, match="does not have the training table's 2 columns"):
        model.predict([1.0, 2.0])


def test_missing_columns_are_named_with_the_likely_ones(model, rows):
    with pytest.raises(UsageError, match=r"columns are missing: age, job\. It has: .* Did you mean 'Age'\?"):
        model.predict(rows.drop(["age", "job"]).append_column("Age", rows["age"]))


def test_missing_and_unseen_values_are_counted_and_taken_as_in_training(model):
    data = {
        "age": [None, 40.0, float("nan")],
        "size": [1e6, 1e6, 1e6],
        "job": ["cook", "pilot", None],
        "member": [True, None, False],
    }
    encoded = model.encode(data)
    assert encoded.missing == {"age": 2, "job": 1, "member": 1}
    assert encoded.unseen == {"job": 1}
    assert len(model.predict(data)) == 3


def test_a_label_that_was_never_learned_does_not_matter(model, rows):
    strange = rows.set_column(6, "rich", pa.array(["perhaps"] * rows.num_rows))
    assert model.predict(strange).equals(model.predict(rows.drop(["rich", "weight"])))


def test_a_threshold_can_be_given_and_has_to_be_a_probability(model, rows):
    assert set(model.predict(rows, threshold=0)["class"].to_pylist()) == {"yes"}
    assert set(model.predict(rows, threshold=1)["class"].to_pylist()) == {"no"}
    for wrong in (-0.1, 1.5, float("nan")):
        with pytest.raises(UsageError, match="is not a probability"):
            model.predict(rows, threshold=wrong)


def test_at_exactly_the_threshold_a_row_is_the_negative_class(model, rows):
    probability = float(model.predict(rows)["probability"][0].as_py())
    assert model.predict(rows, threshold=probability)["class"][0].as_py() == "no"
    below = float(np.nextafter(probability, 0))
    assert model.predict(rows, threshold=below)["class"][0].as_py() == "yes"


def test_a_table_without_rows_gives_one_without_rows(model, rows):
    assert model.predict(rows.slice(0, 0)).num_rows == 0


def test_more_rows_than_a_batch_are_the_same_rows(model, rows):
    many = pa.concat_tables([rows] * 50)
    assert many.num_rows > 2 * model.about.batch_size
    one = model.predict(rows)["probability"].to_numpy()
    assert model.predict(many)["probability"].to_numpy() == pytest.approx(np.tile(one, 50), rel=1e-6)


@pytest.mark.parametrize(
    ("labels", "kind"), [(("-1", "1"), pa.int64()), (("0", "1"), pa.int64()), (("<=50K", ">50K"), pa.string())]
)
def test_classes_come_out_as_the_table_had_them(folder, labels, kind):
    place = folder / "_".join(labels).replace("<", "").replace(">", "")
    place.mkdir()
    write_table(place / "labels.csv", 200, labels=labels)
    run = train(place, data=place / "labels.csv", test_data=None, epochs=1)
    found = load_model(run.folder).predict(table_of(place / "labels.csv"))
    assert found["class"].type == kind
    assert set(map(str, found["class"].to_pylist())) <= set(labels)


def test_several_threads_take_turns(model, rows):
    from concurrent.futures import ThreadPoolExecutor

    expected = model.predict(rows)
    with ThreadPoolExecutor(4) as pool:
        assert all(found.equals(expected) for found in pool.map(model.predict, [rows] * 16))


# ---- files -----------------------------------------------------------------------------------------------------------


def predicted(model, source, output, **values):
    report = predict_file(model, str(source), str(output), **values)
    read = pa.parquet.read_table if str(output).endswith(".parquet") else pa.csv.read_csv
    return read(output), report


@pytest.mark.parametrize("ending", ["csv", "parquet", "csv.gz", "tsv"])
@pytest.mark.parametrize("source", ["csv", "parquet", "csv.gz"])
def test_a_file_in_small_parts_gives_what_the_whole_table_gives(
    model, rows, folder, tmp_path, monkeypatch, source, ending
):
    monkeypatch.setattr(csv_rows, "BLOCK_BYTES", 700)
    monkeypatch.setattr(parquet_file, "BATCH_ROWS", 17)
    monkeypatch.setattr(parquet_file, "MOST_ROWS", 17)
    path = tmp_path / f"rows.{source}"
    content = (folder / "test.csv").read_bytes()
    if source == "parquet":
        pa.parquet.write_table(rows, path)
    else:
        path.write_bytes(gzip.compress(content) if source == "csv.gz" else content)
    output = tmp_path / f"scores.{ending}"
    report = predict_file(model, str(path), str(output), keep=["job"])
    table = pa.parquet.read_table(output) if ending == "parquet" else table_of(output)
    expected = model.predict(rows)
    assert table.column_names == ["job", "probability", "class"]
    assert table["probability"].to_numpy() == pytest.approx(expected["probability"].to_numpy(), rel=1e-5)
    assert table["class"].to_pylist() == expected["class"].to_pylist() or ending != "parquet"
    assert [value or None for value in table["job"].to_pylist()] == rows["job"].to_pylist()
    assert report.rows == rows.num_rows
    assert report.ignored == ["id", "weight", "rich"]
    assert report.missing == dict(model.encode(rows).missing)


def test_columns_are_kept_as_they_are_written(model, folder, tmp_path):
    path = tmp_path / "odd.csv"
    path.write_text('member, age ,size,job,note,code\ntrue,40,1e6,cook,"a ""b"", c",007\nfalse, NA ,9e5,,NA,1.50\n')
    predict_file(model, str(path), str(tmp_path / "out.csv"), keep=None)
    written = (tmp_path / "out.csv").read_text().splitlines()
    assert written[0] == "member,age,size,job,note,code,probability,class"
    assert written[1].startswith('"true","40","1e6","cook","a ""b"", c","007",')
    assert '"NA","1.50"' in written[2]


def test_values_are_understood_row_by_row_whatever_came_before(model, tmp_path, monkeypatch):
    """The first parts have plain numbers, later ones signs, spaces, words for missing, and truth values in capitals."""
    monkeypatch.setattr(csv_rows, "BLOCK_BYTES", 64)
    path = tmp_path / "late.csv"
    plain = ["40,1000000,cook,true"] * 30
    odd = ["+40, 1e6 ,cook,TRUE", "NA,?,cook,False", " 40 ,1000000.0,pilot, true "]
    path.write_text("\n".join(["age,size,job,member", *plain, *odd]) + "\n")
    table, report = predicted(model, path, tmp_path / "out.csv")
    probabilities = table["probability"].to_numpy()
    assert probabilities[30] == probabilities[0]
    assert report.missing == {"age": 1, "size": 1}
    assert report.unseen == {"job": 1}


def test_numbers_that_were_learned_as_categories_are_known_however_they_are_written(tmp_path):
    rows = "\n".join(f"{number % 3 + 1},{number},{'a' if number % 2 else 'b'}" for number in range(90))
    (tmp_path / "codes.csv").write_text(f"code,x,label\n{rows}\n")
    run = train(
        tmp_path,
        data=tmp_path / "codes.csv",
        test_data=None,
        label="label",
        ignore=(),
        sample_weight=None,
        categorical=("code",),
    )
    model = load_model(run.folder)
    (tmp_path / "new.csv").write_text("x,code\n5,1\n5,1.0\n5, 01\n5,1e0\n5,4\n5,word\n")
    table, report = predicted(model, tmp_path / "new.csv", tmp_path / "out.csv")
    assert len(set(table["probability"].to_pylist()[:4])) == 1
    assert report.unseen == {"code": 2}


def test_a_mistake_in_the_last_row_is_named_by_its_row_and_leaves_nothing(model, tmp_path, monkeypatch):
    monkeypatch.setattr(csv_rows, "BLOCK_BYTES", 64)
    path = tmp_path / "rows.csv"
    lines = ["age,size,job,member", *["40,1000000,cook,true"] * 50]
    (tmp_path / "out.csv").write_text("before")
    cases = {
        "old,1000000,cook,true": r"text 'old' in the numeric column 'age' at row 51",
        "inf,1000000,cook,true": r"column 'age' is infinite at row 51",
        "40,1000000,cook,perhaps": r"'perhaps' in the column 'member' of true and false at row 51",
        "40,1000000,cook": r"row 51 has 3 values, the header names 4 columns",
    }
    for line, message in cases.items():
        path.write_text("\n".join([*lines, line]) + "\n")
        with pytest.raises(UsageError, match=message):
            predict_file(model, str(path), str(tmp_path / "out.csv"), force=True)
        assert sorted(each.name for each in tmp_path.iterdir()) == ["out.csv", "rows.csv"]
        assert (tmp_path / "out.csv").read_text() == "before"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"age,size,job,member\n", "a header and no rows"),
        (b"age;size;job;member\n1;2;3;4\n", "'4' in the column 'member' of true and false at row 1"),
        (b"age,size,job,member,age\n1,2,cook,true,3\n", "two columns are named age"),
        (b"age,size,job,member\n1,2,\xff\xfe,true\n", "column 'job' is not UTF-8 text at row 1"),
        (b"age,size,job\n1,2,cook\n", "columns are missing: member"),
        (b"\x89PNG\0\0", "it is not text"),
    ],
)
def test_something_that_is_not_a_table_for_this_model_is_refused(model, tmp_path, monkeypatch, content, message):
    (tmp_path / "rows.csv").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        predict_file(model, str(tmp_path / "rows.csv"), str(tmp_path / "out.csv"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    with pytest.raises(UsageError, match=f"standard input: .*{message}"):
        predict_file(model, "-", str(tmp_path / "out.csv"))
    assert [each.name for each in tmp_path.iterdir()] == ["rows.csv"]


def test_a_parquet_file_that_ends_early_is_refused(model, rows, tmp_path):
    pa.parquet.write_table(rows, tmp_path / "rows.parquet")
    content = (tmp_path / "rows.parquet").read_bytes()
    (tmp_path / "rows.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(UsageError, match="cannot be read as Parquet"):
        predict_file(model, str(tmp_path / "rows.parquet"), str(tmp_path / "out.csv"))


def test_a_packed_file_that_ends_early_leaves_nothing(model, folder, tmp_path):
    packed = gzip.compress((folder / "test.csv").read_bytes() * 20)
    (tmp_path / "rows.csv.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(UsageError, match="it cannot be read"):
        predict_file(model, str(tmp_path / "rows.csv.gz"), str(tmp_path / "out.csv"))
    assert [each.name for each in tmp_path.iterdir()] == ["rows.csv.gz"]


def test_an_output_that_exists_is_kept_unless_force_is_given(model, folder, tmp_path):
    source, output = folder / "test.csv", tmp_path / "out.csv"
    output.write_text("mine")
    with pytest.raises(UsageError, match=r"out\.csv exists\. Choose another name, or pass --force"):
        predict_file(model, str(source), str(output))
    assert output.read_text() == "mine"
    assert predict_file(model, str(source), str(output), force=True).rows == 200
    with pytest.raises(UsageError, match="is the input file"):
        predict_file(model, str(output), str(tmp_path / "." / "out.csv"), force=True)


@pytest.mark.parametrize(
    ("output", "message"),
    [("out.txt.xyz", "is neither CSV's nor Parquet's"), ("no/out.csv", "there is no folder"), (".", "the suffix of")],
)
def test_an_output_that_cannot_be_is_refused(model, folder, tmp_path, monkeypatch, output, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        predict_file(model, str(folder / "test.csv"), output)


def test_columns_to_keep_have_to_be_there_and_must_not_stand_in_the_way(model, folder, tmp_path):
    with pytest.raises(UsageError, match=r"there is no column 'Id' to keep\. Did you mean 'id'\?"):
        predict_file(model, str(folder / "test.csv"), str(tmp_path / "out.csv"), keep=["Id"])
    predict_file(model, str(folder / "test.csv"), str(tmp_path / "out.csv"), keep=None)
    with pytest.raises(UsageError, match="the column 'probability' cannot be kept"):
        predict_file(model, str(tmp_path / "out.csv"), str(tmp_path / "again.csv"), keep=None)


def test_half_floats_are_kept_in_few_digits_in_csv_and_in_their_type_in_parquet(model, rows, tmp_path):
    half = pa.array(np.array([0.1, 16.125, np.nan] * (len(rows) // 3 + 1), np.float16)[: len(rows)])
    pyarrow.parquet.write_table(rows.append_column("more", half), tmp_path / "t.parquet")
    for name in ("out.csv", "out.parquet"):
        predict_file(model, str(tmp_path / "t.parquet"), str(tmp_path / name), keep=["more"])
    assert [line.split(",")[0] for line in (tmp_path / "out.csv").read_text().splitlines()[1:4]] == ["0.1", "16.12", ""]
    assert pyarrow.parquet.read_table(tmp_path / "out.parquet")["more"].type == pa.float16()


def test_a_capacity_writes_the_highest_rows_in_order_and_of_equal_ones_the_earlier(
    model, folder, tmp_path, monkeypatch
):
    monkeypatch.setattr("trainer.model.capacity.SLACK", 0)
    text = (folder / "test.csv").read_text().splitlines()
    (tmp_path / "t.csv").write_text("\n".join([text[0], *text[1:], *text[1:]]) + "\n")
    predict_file(model, str(tmp_path / "t.csv"), str(tmp_path / "all.parquet"), keep=["id"])
    whole = pyarrow.parquet.read_table(tmp_path / "all.parquet")
    for capacity in (7, 1000):
        output = tmp_path / f"{capacity}.parquet"
        report = predict_file(model, str(tmp_path / "t.csv"), str(output), keep=["id"], capacity=capacity)
        order = np.argsort(-whole["probability"].to_numpy(), kind="stable")[:capacity]
        assert pyarrow.parquet.read_table(output).equals(whole.take(pa.array(order)))
        assert report.rows == 400
    with pytest.raises(UsageError, match="--capacity: 0 is not a number of rows"):
        predict_file(model, str(tmp_path / "t.csv"), str(tmp_path / "no.csv"), capacity=0)


def test_the_highest_of_many_parts_are_those_of_all_and_several_values_per_row_have_no_order(monkeypatch):
    monkeypatch.setattr("trainer.model.capacity.SLACK", 10)
    generator = np.random.default_rng(0)
    scores, highest = np.round(generator.random(500), 1), Highest(20)
    scores[::50] = np.nan
    for start in range(0, 500, 25):
        part = slice(start, start + 25)
        highest.add(scores[part], {"row": np.arange(500)[part]})
    expected = np.argsort(-np.nan_to_num(scores, nan=-1), kind="stable")[:20]
    assert highest.columns()["row"].to_pylist() == expected.tolist()
    with pytest.raises(UsageError, match="predicts 3 values per row"):
        Highest(5).add(np.zeros((4, 3)), {})


def test_sets_of_a_rule_are_lists_in_parquet_and_texts_with_bars_in_csv(model, rows, folder, tmp_path):
    model.rules = [ClassSets(0.9, "lac", ("n|o", "yes"), Bounds(100, 0.6))]
    for name in ("out.csv", "out.parquet"):
        predict_file(model, str(folder / "test.csv"), str(tmp_path / name))
    whole = pyarrow.parquet.read_table(tmp_path / "out.parquet")["set"].to_pylist()
    assert whole == model.predict(rows)["set"].to_pylist()
    assert {tuple(sorted(names)) for names in whole} == {("n|o",), ("n|o", "yes"), ("yes",)}
    written = pyarrow.csv.read_csv(tmp_path / "out.csv")["set"].to_pylist()
    assert written == ["|".join(name.replace("|", "\\|") for name in names) for names in whole]
    pyarrow.parquet.write_table(rows.append_column("set", rows["rich"]), tmp_path / "t.parquet")
    with pytest.raises(UsageError, match="the column 'set' cannot be kept"):
        predict_file(model, str(tmp_path / "t.parquet"), str(tmp_path / "again.csv"), keep=["set"])


@pytest.mark.parametrize("values", [[[1, 2]], [{"x": 1}], [b"\xff"], [(1, 2)]], ids=str)
def test_what_csv_cannot_hold_is_refused_and_parquet_keeps_it(model, rows, tmp_path, values):
    pa.parquet.write_table(rows.slice(0, 1).append_column("more", pa.array(values)), tmp_path / "t.parquet")
    with pytest.raises(UsageError, match=r"--output: column 'more' holds .*, which CSV cannot hold\."):
        predict_file(model, str(tmp_path / "t.parquet"), str(tmp_path / "out.csv"), keep=["more"])
    assert not (tmp_path / "out.csv").exists()
    predict_file(model, str(tmp_path / "t.parquet"), str(tmp_path / "out.parquet"), keep=["more"])
    assert pa.parquet.read_table(tmp_path / "out.parquet").column("more").to_pylist() == [
        list(value) if isinstance(value, tuple) else value for value in values
    ]


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        (["id,age"], ["id", "age"]),
        (["id", "age"], ["id", "age"]),
        (['"a,b",c'], ["a,b", "c"]),
        (["a,b", "c"], ["a,b", "c"]),
    ],
)
def test_names_of_columns_may_have_commas(keep, expected):
    from trainer.cli.model import _names

    assert _names(keep) == expected


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 64 KB, where one may be mounted."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no disk can be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet"])
def test_a_full_disk_leaves_no_half_file(model, small_disk, tmp_path, ending):
    write_table(tmp_path / "many.csv", 20_000)
    (small_disk / f"out.{ending}").write_text("before")
    with pytest.raises(UsageError, match=r"it cannot be written: .*No space left on device"):
        predict_file(
            model, str(tmp_path / "many.csv"), str(small_disk / f"out.{ending}"), keep=["id", "size"], force=True
        )
    assert [each.name for each in small_disk.iterdir()] == [f"out.{ending}"]
    assert (small_disk / f"out.{ending}").read_text() == "before"


MEASURED = """
import resource, sys
from trainer.cli.app import run_app
sys.argv = ["trainer", "predict", *sys.argv[1:]]
assert run_app() == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_memory_does_not_grow_with_the_file(run, folder, tmp_path, ending):
    """Of a file of some 240 MB as CSV the process needs no more than of a quarter of it."""
    generator = np.random.default_rng(0)
    rows = 1_000_000
    numbers = {name: generator.normal(40, 10, size=rows) for name in ("age", "size", *"abcdefghij")}
    texts = {"job": pa.array(["cook", "nurse"]).take(pa.array(generator.integers(0, 2, rows))), "member": [True] * rows}
    table = pa.table({**numbers, **texts})
    peaks = []
    for part in (rows // 4, rows):
        path = tmp_path / f"rows.{ending}"
        if ending == "csv":
            pa.csv.write_csv(table.slice(0, part), path)
        else:
            # One row group: what has to be read in pages.
            pa.parquet.write_table(table.slice(0, part), path, row_group_size=part, use_dictionary=False)
        arguments = [run.folder, "--data", path, "--output", tmp_path / "out.csv", "--keep", "a", "--force"]
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        assert f"{part} rows" in done.stderr
        peaks.append(int(done.stdout.split()[-1]))
    assert peaks[1] < 1000
    # Arrow's allocator keeps some blocks for later; three quarters of the file would be 180 MB more.
    assert peaks[1] - peaks[0] < 90, peaks


# ---- arrays of numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("standardize", [True, False])
def test_an_array_of_numbers_is_encoded_as_its_table_is(dtype, standardize):
    generator = np.random.default_rng(0)
    columns = tuple(Number(f"x{n}", float(n) / 3, 0.1 + n, standardize) for n in range(5))
    interface = TableModel(Schema(columns, "y", Classes(("0", "1"), "number")))
    array = generator.normal(size=(2500, 5)).astype(dtype)
    array[[3, 2400], [1, 4]] = np.nan
    whole, table = interface.encode(array), interface.encode({f"x{n}": array[:, n] for n in range(5)})
    np.testing.assert_array_equal(whole.inputs[0], table.inputs[0])
    assert (whole.rows, whole.missing) == (table.rows, table.missing) == (2500, {"x1": 1, "x4": 1})
    assert interface.encode(array[:0]).inputs[0].shape == (0, 5)
    array[1500, 2] = np.inf
    with pytest.raises(UsageError, match=r"x2.* row 1501"):
        interface.encode(array)


def test_a_net_that_computes_little_takes_more_rows_at_a_time():
    def net(units):
        return mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=units)

    assert rows_at_a_time(net(1), {"data": (28,)}, 256) == 16_384
    assert rows_at_a_time(net(10_000), {"data": (28,)}, 256) == 418
    assert rows_at_a_time(net(1_000_000), {"data": (28,)}, 256) == 256
