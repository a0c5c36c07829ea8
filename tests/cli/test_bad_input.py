"""Whatever a user can get wrong: one message that names the thing and the fix, exit 2, nothing left behind."""

import subprocess
import sys

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

GOOD = {
    "age": [20.0, 30.0, 40.0, 50.0] * 10,
    "job": ["cook", "smith", "cook", "nurse"] * 10,
    "rich": ["no", "yes", "no", "yes"] * 10,
}


def refused(command, *arguments, runs="runs"):
    """The message of a command that has to be refused."""
    code, _, message = command(*arguments)
    assert code == 2, message
    assert "Traceback" not in message
    from pathlib import Path

    assert not Path(runs).exists() or not any(Path(runs).rglob("*"))
    return message.strip()


def table(path="table.csv", **columns):
    """A good table with some columns replaced; None takes one away."""
    values = {name: column for name, column in {**GOOD, **columns}.items() if column is not None}
    made = pa.table(values)
    if str(path).endswith(".csv"):
        pyarrow.csv.write_csv(made, path)
    else:
        pyarrow.parquet.write_table(made, path)
    return path


def train(command, path, *arguments):
    return refused(command, "run", "logreg", "--data", path, "--label", "rich", "--epochs", 1, *arguments)


def with_value(column, row, value):
    changed = list(column)
    changed[row] = value
    return changed


def test_the_good_table_trains(command):
    code, _, _ = command("run", "logreg", "--data", table("table.csv"), "--label", "rich", "--epochs", 1)
    assert code == 0


def test_a_missing_file(command, tmp_path):
    table()
    message = train(command, "tabel.csv")
    assert message == f"error: {tmp_path}/tabel.csv: there is no such file. Did you mean 'table.csv'?"


def test_a_folder_without_a_table(command, tmp_path):
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path}/empty: it is empty. Put CSV, JSON lines, Parquet or Arrow files into it." in train(
        command, "empty"
    )


def test_an_empty_file(command, tmp_path):
    (tmp_path / "empty.csv").touch()
    assert train(command, "empty.csv") == f"error: {tmp_path}/empty.csv: it is empty"


def test_a_header_alone(command, tmp_path):
    (tmp_path / "head.csv").write_text("age,rich\n")
    assert "it has a header and no rows" in train(command, "head.csv")


def test_a_parquet_file_that_is_called_csv(command, tmp_path):
    table("table.parquet")
    (tmp_path / "table.parquet").rename(tmp_path / "table.csv")
    assert "it is a Parquet file, not CSV. Rename it to end in .parquet." in train(command, "table.csv")


def test_a_csv_file_that_is_called_parquet(command, tmp_path):
    table("table.csv")
    (tmp_path / "table.csv").rename(tmp_path / "table.parquet")
    assert "it is not a Parquet file. If it is CSV" in train(command, "table.parquet")


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\0\0\0", bytes(range(256)) * 8])
def test_a_binary_file_that_is_called_csv(command, tmp_path, content):
    (tmp_path / "image.csv").write_bytes(content)
    assert "it is not text, so it cannot be CSV" in train(command, "image.csv")


def test_a_truncated_parquet_file(command, tmp_path):
    table("table.parquet")
    (tmp_path / "table.parquet").write_bytes((tmp_path / "table.parquet").read_bytes()[:200])
    assert "it cannot be read as Parquet" in train(command, "table.parquet")


def test_text_that_is_not_utf8(command, tmp_path):
    (tmp_path / "latin.csv").write_bytes("name,rich\nJosé,yes\nAna,no\n".encode("latin-1"))
    assert "column 'name' is not UTF-8 text at row 1. Save the file as UTF-8." in train(command, "latin.csv")


def test_an_unknown_ending(command, tmp_path):
    (tmp_path / "table.xlsx").write_bytes(b"PK")
    assert "its suffix '.xlsx' is not that of a table" in train(command, "table.xlsx")


def test_a_row_of_another_length(command, tmp_path):
    (tmp_path / "ragged.csv").write_text("age,rich\n1,yes\n2,no\n3,yes,what\n")
    assert "row 3 has 3 values, the header names 2 columns" in train(command, "ragged.csv")


def test_a_damaged_file_does_not_abort_a_process_on_one_core(command, tmp_path):
    """The interpreter must not end while a thread of the reader still runs; with one core it nearly always did."""
    (tmp_path / "good.csv").write_text("slot,y\n" + "08:00,1\n09:00,0\n" * 40)
    assert command("run", "logreg", "--data", "good.csv", "--label", "y", "--epochs", 1, "--name", "one")[0] == 0
    (tmp_path / "bad.csv").write_text("slot,y\n08:00,1\n09:00,1,5\n")
    one_core = "import os, runpy, sys; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    program = one_core + "sys.argv[0] = 'trainer'; runpy.run_module('trainer', run_name='__main__', alter_sys=True)"
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", program, "evaluate", "one", "--data", "bad.csv"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr


def test_no_such_label_column_lists_the_columns(command):
    path = table()
    message = refused(command, "run", "logreg", "--data", path, "--label", "ritch")
    assert "there is no column 'ritch' for --label. Columns: age, job, rich. Did you mean 'rich'?" in message


def test_no_label_lists_the_columns(command):
    message = refused(command, "run", "logreg", "--data", table())
    assert "--label: no label column is given. Columns: age, job, rich" in message


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["yes"] * 40, "the label column 'rich' has one class: 'yes' (40 rows)"),
        (["a", "b", "c"] * 13 + ["d"], "the class 'd' (1 row) has too few rows for a validation split"),
        (["a", None, "b", "c"] * 10, "10 of 40 labels in column 'rich' are missing, the first at row 2"),
    ],
)
def test_labels_that_cannot_be_learned_say_why(command, values, said):
    assert said in train(command, table(rich=values))


def test_a_missing_label_names_its_row(command):
    message = train(command, table(rich=with_value(GOOD["rich"], 6, None)))
    assert "the label in column 'rich' is missing at row 7" in message


def test_a_positive_class_that_is_invalid(command):
    assert "'maybe' is not a class of column 'rich'" in train(command, table(), "--positive-class", "maybe")


def test_duplicate_column_names(command, tmp_path):
    (tmp_path / "twice.csv").write_text("age, age,rich\n1,2,yes\n3,4,no\n")
    assert "two columns are named age" in train(command, "twice.csv")


def test_a_column_that_is_all_missing(command):
    message = train(command, table(gone=[None] * 40))
    assert "column 'gone' is all missing. Add --ignore gone." in message


@pytest.mark.parametrize("path", ["table.csv", "table.parquet"])
def test_infinite_values_name_column_and_row(command, path):
    message = train(command, table(path, age=with_value(GOOD["age"], 0, float("inf"))), "--validation-split", 0,
                    "--test-split", 0)  # fmt: skip
    assert "column 'age' is infinite at row 1." in message


def test_text_in_a_numeric_column_names_the_row(command):
    ages = with_value(list(map(str, GOOD["age"])), 12, "old")
    message = train(command, table(age=ages), "--validation-split", 0, "--test-split", 0)
    assert "text 'old' in the numeric column 'age' at row 13" in message
    assert "--categorical age" in message


def test_text_in_a_numeric_column_of_the_test_file(command):
    table("test.csv", age=with_value(list(map(str, GOOD["age"])), 2, "old"))
    message = train(command, table(), "--test-data", "test.csv")
    assert "test.csv: text 'old' in the numeric column 'age' at row 3" in message


def test_a_validation_file_with_one_class(command):
    table("one.csv", rich=["yes"] * 40)
    message = train(command, table(), "--validation-data", "one.csv")
    assert "one.csv: all of its 40 rows are of the class 'yes'" in message


def test_a_validation_file_that_lacks_a_column(command):
    table("less.csv", job=None)
    assert "less.csv: columns are missing: job" in train(command, table(), "--validation-data", "less.csv")


def test_too_few_rows_to_split(command, tmp_path):
    (tmp_path / "few.csv").write_text("age,rich\n1,yes\n2,no\n3,no\n4,no\n")
    assert "too few for a validation split" in train(command, "few.csv")


def test_splits_that_leave_nothing(command):
    message = train(command, table(), "--validation-split", 0.6, "--test-split", 0.4)
    assert "leave no rows to train on" in message


@pytest.mark.parametrize("option", ["--features", "--ignore", "--categorical", "--sample-weight"])
def test_a_column_option_that_names_none(command, option):
    assert f"there is no column 'agee' for {option}" in train(command, table(), option, "agee")


@pytest.mark.parametrize(("value", "said"), [(-1.0, "is -1 at row 3"), (None, "is missing at row 3")])
def test_weights_that_cannot_be_used(command, value, said):
    path = table(w=with_value([1.0] * 40, 2, value))
    message = train(command, path, "--sample-weight", "w", "--validation-split", 0, "--test-split", 0)
    assert f"the weight in column 'w' {said}" in message


def test_a_column_of_dates_that_are_not_in_iso_form(command):
    path = table(when=["31/01/2024", "1/2/2024"] * 20)
    assert "column 'when' holds dates that are not in ISO form, such as '31/01/2024' at row 1. Write them as" in train(
        command, path
    )


def test_fewer_rows_than_devices(command):
    message = refused(command, "run", "logreg", "--train-rows", 2, "--devices", "cpu:0,1,2")
    assert "2 training rows are fewer than the 3 devices" in message


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--optimizer", "adm"], "MXNet has no optimizer 'adm'. Did you mean 'adam'?"),
        (["--set", "optimizer.momentun=0.9"], "sgd has no argument 'momentun'. Did you mean 'momentum'?"),
        (["--devices", "tpu"], "'tpu' is not a device name. Use cpu, gpu, auto"),
        (["--devices", "cpu:0,0"], "names a device twice"),
        (["--devices", "gpu"], "gpu(0) cannot be used: the installed MXNet is built without CUDA"),
        (["--devices", "gpu:1"], "gpu(1) cannot be used"),
        (["--plugin", "progres"], "there is no plugin 'progres'"),
        (["--no-plugin", "progres"], "Did you mean 'progress'?"),
        (["--set", "metrics-log.evry=3"], "there is no option 'evry'. Did you mean 'every'?"),
        (["--set", "metrics-log.every=often"], "--set metrics-log.every: 'often' does not fit"),
        (["--set", "metrics-log.every=-1"], "it should be greater than or equal to 0"),
        (
            ["--set", "metrics-log.on-error=shrug"],
            "--set metrics-log.on-error: 'shrug' does not fit: it should be ",
        ),
        (["--set", "nonsense"], "'nonsense' has no value. Write it as KEY=VALUE."),
        (["--set", "epcohs=3"], "Did you mean 'epochs'?"),
        (["--epochs", "0"], "--epochs: '0' does not fit: it should be greater than or equal to 1"),
        (["--epochs", "many"], "--epochs: 'many' does not fit"),
        (["--batch-size", "1.5"], "--batch-size: '1.5' does not fit"),
        (["--learning-rate", "-1"], "--learning-rate: '-1' does not fit"),
        (["--learning-rate", "nan"], "--learning-rate: 'nan' does not fit"),
        (["--seed", "-1"], "--seed: '-1' does not fit"),
        (["--steps", "0"], "--steps: '0' does not fit"),
        (["--hidden", "10,x"], "--hidden: 'x' does not fit"),
        (["--hidden", "10,0"], "--hidden: '0' does not fit: it should be greater than 0"),
        (["--dropout", "1"], "--dropout: '1' does not fit: it should be less than 1"),
        (["--threshold", "1.5"], "--threshold: '1.5' does not fit"),
        (["--activation", "relo"], "--activation: 'relo' does not fit"),
        (["--class-weight", "fair"], "--class-weight: 'fair' does not fit"),
        (["--train-rows", "0"], "--train-rows: '0' does not fit"),
        (["--label", "x"], "--label: it needs a table. Add --data FILE"),
        (["--epohcs", "3"], "No such option: --epohcs"),
        (["--name", "a/b"], "'a/b' cannot be a folder name"),
        (["--config", "no.toml"], "no.toml: there is no such file"),
    ],
)
def test_options_that_do_not_fit(command, arguments, said):
    assert said in refused(command, "run", "logreg", *arguments)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epochs = ", "it is not TOML"),
        ("epcohs = 3", "there is no key 'epcohs'. Did you mean 'epochs'?"),
        ("epochs = 'x'", "wrong.toml: epochs: 'x' does not fit"),
        ("[task]\nname = 'other'", "it is for another task than 'logreg'"),
        ("[task]\nhiden = [3]", "there is no option 'hiden'. Did you mean 'hidden'?"),
        ("[task]\nhidden = 'a'", "'a' does not fit"),
        ("[plugins.metrics-log]\nevry = 3", "there is no option 'evry'"),
        ("[plugins.metrics-lgo]", "there is no plugin 'metrics-lgo'"),
        ("plugins = ['progress']", "'plugins' is not a table"),
        ("[optimizer]\nlearning-rate = -1", "wrong.toml: [optimizer]: learning-rate: -1 does not fit"),
        ("[optimizer]\nmomentun = 1", "sgd has no argument 'momentun'"),
        ("schema = 99", "it was written by a newer version"),
    ],
)
def test_configuration_files_that_do_not_fit(command, tmp_path, text, said):
    (tmp_path / "wrong.toml").write_text(text)
    assert said in refused(command, "run", "logreg", "--config", "wrong.toml")


def test_a_runs_folder_that_cannot_be_written(command, tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert "file is a file, not a folder" in refused(
        command, "run", "logreg", "--runs-dir", "file/runs", runs="file/runs"
    )
    message = refused(command, "run", "logreg", "--runs-dir", "/proc/runs", runs="/proc/runs")
    assert "--runs-dir: /proc cannot be written" in message


def test_a_name_that_is_taken(command, tmp_path):
    assert command("run", "logreg", "--epochs", 1, "--name", "mine")[0] == 0
    before = sorted(path.name for path in (tmp_path / "runs" / "logreg" / "mine").iterdir())
    code, _, message = command("run", "logreg", "--epochs", 1, "--name", "mine")
    assert (code, "already exists" in message) == (2, True)
    assert sorted(path.name for path in (tmp_path / "runs" / "logreg" / "mine").iterdir()) == before


def test_an_unknown_task(command):
    assert "there is no task 'lograg'. Installed: " in refused(command, "run", "lograg")


def test_an_unknown_plugin_to_show(command):
    assert "there is no plugin or task 'x'" in refused(command, "plugins", "show", "x")
