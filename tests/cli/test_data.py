"""trainer data show: what a run would make of a table, and what looks wrong with it."""

import json
import re
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from trainer.cli.data_text import HEAD, _boxed
from trainer.data.tables.options import TableOptions
from trainer.data.tables.overview import look
from trainer.data.tables.splits import load_splits

ROWS = 200


def table(seed=0, **columns):
    """A table whose columns look right, and the given ones."""
    generator = np.random.default_rng(seed)
    label = generator.integers(0, 2, ROWS)
    days = np.array("2024-01-01", "datetime64[D]") + generator.integers(0, 400, ROWS)
    made = {
        "age": np.round(generator.normal(40, 9, ROWS)).astype(int),
        "job": generator.choice(["cook", "nurse", "pilot"], ROWS),
        "seen": [str(day) for day in days],
        "member": generator.choice(["true", "false"], ROWS),
        "y": np.array(["no", "yes"])[label],
    }
    return pa.table(made | {name: make(label, generator) for name, make in columns.items()})


def written(path, made):
    pyarrow.csv.write_csv(made, path) if path.suffix == ".csv" else pyarrow.parquet.write_table(made, path)
    return path


def views(made, tmp_path, name="t.csv", **options):
    overview = look(TableOptions(written(tmp_path / name, made), **{"label": "y", **options}), seed=0)
    return {column.name: column for column in overview.columns}


# ---- what is printed ------------------------------------------------------------------------------------------------


def test_every_column_is_shown_with_what_the_net_gets(command, tmp_path):
    made = table(when=lambda *_: [None, "08:30"] * 100, took=lambda *_: ["PT1H", "P1DT30M"] * 100)
    written(tmp_path / "t.csv", made)
    code, out, err = command("data", "show", "t.csv", "--label", "y", "--ignore", "job", "--validation-split", "0.1")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "t.csv: 140 training, 20 validation, 40 test rows, 7 columns"
    assert lines[1] == "y: 'no' → 0, 'yes' → 1 (positive)"
    assert re.split(r"\s{2,}", lines[3]) == list(HEAD)
    shown = {line.split()[0]: re.split(r"\s{2,}", line) for line in lines[4:11]}
    assert list(shown) == made.column_names
    assert re.fullmatch(r"\d+ … \d+, mean [\d.]+", shown["age"][4])
    assert shown["job"] == ["job", "ignored"]
    assert shown["seen"][1:4] == ["date", "0", shown["seen"][3]]
    assert re.fullmatch(r"2024-01-0\d … 2025-0[12]-\d\d, mean 2024-.*", shown["seen"][4])
    assert shown["seen"][5] == "6: seen.days, seen.year, seen.month.sin and 3 more"
    assert re.fullmatch(r"\d+ \(\d\d\.\d%\)", shown["when"][2])
    assert (shown["when"][1], shown["when"][4]) == ("time", "08:30:00 … 08:30:00, mean 08:30:00")
    assert shown["took"][4].startswith("PT1H … P1DT30M, mean P")
    assert re.fullmatch(r"(true|false) \d\d%, (true|false) \d\d%", shown["member"][4])
    assert shown["y"][1] == "label"
    assert "5 columns → 11 inputs" in lines


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_it_shows_what_a_run_does(tmp_path, ending):
    made = table(gone=lambda _, generator: generator.choice([1.5, None], ROWS))
    options = TableOptions(written(tmp_path / f"t.{ending}", made), "y", validation_split=0.3)
    overview, splits = look(options, seed=3), load_splits(options, seed=3)
    learned = {column.name: column for column in splits.schema.columns}
    assert {name: column.kind for name, column in learned.items()} == {
        column.name: column.kind for column in overview.columns if column.inputs
    }
    assert [name for column in overview.columns for name in column.inputs] == splits.schema.feature_names
    assert overview.rows == {name: len(getattr(splits, name).features) for name in ("train", "validation", "test")}
    (gone,) = (column for column in overview.columns if column.name == "gone")
    assert gone.missing == {name: getattr(splits, name).missing["gone"] for name in ("train", "validation", "test")}
    (age,) = (column for column in overview.columns if column.name == "age")
    assert float(age.mean) == pytest.approx(learned["age"].mean, rel=1e-5)


def test_without_a_label_all_rows_count(command, tmp_path):
    written(tmp_path / "t.csv", table())
    code, out, err = command("data", "show", "t.csv", "--features", "age,job")
    assert (code, err) == (0, "")
    assert out.startswith("t.csv: 200 rows, 5 columns\nno --label is given: nothing is split")
    assert "2 columns → 4 inputs" in out


def test_json_holds_everything(command, tmp_path):
    written(tmp_path / "t.csv", table())
    code, out, _ = command("data", "show", "t.csv", "--label", "y", "--json", "--seed", "1")
    assert code == 0
    told = json.loads(out)
    assert told["rows"] == {"train": 120, "validation": 40, "test": 40}
    assert told["inputs"] == sum(len(column["inputs"]) for column in told["columns"]) == 11
    job = next(column for column in told["columns"] if column["name"] == "job")
    assert job["kind"] == "category"
    assert sum(count for _, count in job["commonest"]) == 120
    assert job["missing"] == {"train": 0, "validation": 0, "test": 0}


def test_a_terminal_gets_a_table_of_its_width(monkeypatch):
    monkeypatch.setenv("COLUMNS", "72")
    lines = list(_boxed([["[red]a\x1b", "number", "0", "3", "1 … 2, mean 1.5 " * 4, "1: a"]]))
    assert max(map(len, lines)) <= 72
    assert r"[red]a\x1b" in "".join(lines)


def test_mxnet_is_not_imported(tmp_path):
    code = (
        "import sys\n"
        f"sys.argv = ['trainer', 'data', 'show', {str(written(tmp_path / 't.csv', table()))!r}, '--label', 'y']\n"
        "from trainer.cli.app import run_app\nassert run_app() == 0\nassert 'mxnet' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


# ---- what looks wrong -----------------------------------------------------------------------------------------------

DIGITS = np.arange(ROWS)
WRONG = {
    "constant": (lambda *_: ["x"] * ROWS, r"it is constant in the training rows; --ignore a"),
    "constant number": (lambda *_: [3, None] * 100, r"it is constant"),
    "whole numbers": (lambda *_: DIGITS * 7, r"every row has a value of its own, as an ID has; --ignore a"),
    "words": (lambda *_: [f"u{number}" for number in DIGITS], r"every row has a value of its own"),
    "copied words": (lambda label, _: np.array(["l", "r"])[label], r"it says what the label is.*--ignore a"),
    "copied number": (lambda label, _: label * 5 + DIGITS / 1000, r"it says what the label is"),
    "missing": (lambda label, _: [None if each else 2 + row / 9 for row, each in enumerate(label)],
                r"whether it is missing says what the label is"),
    "mostly missing": (lambda *_: [1.5, 2.5] + [None] * (ROWS - 2), r"\d+% of its values are missing"),
    "dates": (lambda *_: DIGITS % 28 + 20240101, r"its numbers look like dates; write 202401(\d\d) as 2024-01-\1"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_looks_wrong_is_said_of_that_column_alone(tmp_path, name):
    make, expected = WRONG[name]
    found = views(table(a=make), tmp_path, validation_split=0, test_split=0)
    assert re.match(expected, "; ".join(found["a"].looks))
    assert [column.name for column in found.values() if column.looks] == ["a"]


RIGHT = {
    "floats": lambda *_: DIGITS / 7,
    "dates": lambda *_: [f"2024-01-01T{row // 60:02}:{row % 60:02}" for row in DIGITS],
    "a hint": lambda label, _: label + (DIGITS % 10 == 0),
    "two values": lambda *_: [0, 1] * 100,
}


@pytest.mark.parametrize("name", RIGHT)
def test_nothing_is_said_of_what_is_right(tmp_path, name):
    assert not views(table(a=RIGHT[name]), tmp_path)["a"].looks


DRIFT = {
    "number": ("age", lambda old: pa.array(old.to_numpy() + 20), r"its mean is 5\d.* in the test rows, and .* train"),
    "date": ("seen", lambda old: old.cast(pa.date32()).cast(pa.timestamp("s")).to_pandas() + np.timedelta64(700, "D"),
             r"its mean is 202[67]-.* in the test rows"),
    "words": ("job", lambda old: pa.array(["cook", "thief"] * (len(old) // 2)),
              r"its values are distributed otherwise in the test rows.*; 50% are values that training rows do"),
    "missing": ("age", lambda old: pa.array([None, 40] * (len(old) // 2)), r"50% of its values are missing in the t"),
}  # fmt: skip


@pytest.mark.parametrize("name", DRIFT)
def test_a_split_of_another_kind_is_said(tmp_path, name):
    column, change, expected = DRIFT[name]
    made, other = table(), table(seed=1)
    place = other.column_names.index(column)
    changed = change(other[column])
    if hasattr(changed, "dt"):
        changed = pa.array(changed.dt.strftime("%Y-%m-%d"))
    for test, looks in ((other, []), (other.set_column(place, column, changed), [expected])):
        path = written(tmp_path / "v.csv", test)
        found = views(made, tmp_path, test_data=path)
        assert len(found[column].looks) == len(looks)
        assert all(re.match(each, look) for each, look in zip(looks, found[column].looks, strict=True))
        assert not any(each.looks for each in found.values() if each.name != column)


# ---- what is refused ------------------------------------------------------------------------------------------------


def test_all_columns_that_a_run_would_refuse_are_named_with_the_fix(command, tmp_path):
    made = table(
        cost=lambda *_: ["$5", "$6"] * 100,
        born=lambda *_: ["31/01/1990", "1/2/1991"] * 100,
        void=lambda *_: pa.nulls(ROWS, pa.string()),
        many=lambda *_: [[1, 2]] * ROWS,
        raw=lambda *_: [b"x"] * ROWS,
    )
    written(tmp_path / "t.parquet", made)
    code, out, err = command("data", "show", "t.parquet", "--label", "y")
    assert (code, err) == (0, "")
    errors = out.partition("a run would end with:\n")[2]
    for line, (name, what) in zip(
        errors.splitlines(),
        [
            ("cost", "holds numbers with signs"), ("born", "holds dates that are not in ISO form"),
            ("void", "is all missing"), ("many", "holds list"), ("raw", "holds binary"),
        ],
        strict=True,
    ):  # fmt: skip
        assert re.match(rf"  error: t\.parquet: column '{name}' {what}.*--ignore {name}\.", line)
    assert "4 columns → 12 inputs" in out


def test_a_value_of_another_split_that_a_run_would_refuse_is_named(tmp_path):
    made = table()
    path = written(tmp_path / "v.csv", made.set_column(0, "age", pa.array(["old"] + ["40"] * (ROWS - 1))))
    assert "text 'old' in the numeric column 'age' at row 1" in views(made, tmp_path, validation_data=path)["age"].error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["t.csv", "u.csv"], "error: u.csv: its columns are not those of t.csv: it lacks age, job, seen, member"),
        (["none.csv"], "error: none.csv: there is no such file"),
        (["t.csv", "--label", "z"], "error: t.csv: there is no column 'z' for --label"),
        (["t.csv", "--label", "y", "--validation-split", "2"], "error: --validation-split"),
        (["t.csv", "--label", "y", "--test-data", "u.csv"], "there is no column 'age' for --test-data"),
        (["t.csv", "--delimiter", "ab"], "error: --delimiter"),
        ([], "error: Missing argument"),
    ],
)
def test_mistakes_are_told_in_a_line(command, tmp_path, arguments, message):
    written(tmp_path / "t.csv", table())
    (tmp_path / "u.csv").write_text("a,y\n1,no\n")
    code, out, err = command("data", "show", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_several_classes_are_shown_without_the_rows_that_have_no_label(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,y\n" + "1,x\n2,y\n3,z\n4,\n" * 12)
    options = TableOptions(path, "y", drop_unlabelled=True)
    shown, splits = look(options, seed=0), load_splits(options, seed=0)
    assert shown.rows == {"train": 22, "validation": 7, "test": 7}
    assert [len(splits.train.labels), len(splits.validation.labels)] == [22, 7]
    assert shown.label == "y: 3 classes, 'x', 'y', 'z'"
    assert list(shown.notes) == list(splits.notes) == ["12 of 48 rows have no label in column y and are left out"]


def test_a_label_of_many_numbers_is_shown_as_a_number_to_predict(command, tmp_path):
    written(tmp_path / "t.csv", table())
    code, out, _ = command("data", "show", "t.csv", "--label", "age")
    assert code == 0
    assert "age: a number, mean " in out
    code, out, _ = command("data", "show", "t.csv", "--label", "age", "--categorical", "age", "--validation-split", "0",
                           "--test-split", "0")  # fmt: skip
    assert code == 0
    assert "age: " in out
    assert " classes, " in out
