"""`trainer predict` and `trainer export` as a user meets them: processes, pipes, terminals and exit codes."""

import signal
import subprocess
import sys
import time

import pexpect
import pyarrow.parquet
import pytest
from modelling import table_of, train
from packages import in_process as trainer

from trainer import load_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("predict")


@pytest.fixture(scope="module")
def run(folder):
    return train(folder)


@pytest.fixture(scope="module")
def expected(run, folder):
    return load_model(run.folder).predict(table_of(folder / "test.csv"))


def test_a_file_goes_in_and_a_file_comes_out(run, expected, folder, tmp_path):
    output = tmp_path / "scores.parquet"
    done = trainer("predict", "one", "--data", "test.csv", "--output", output, "--keep", "id,age", cwd=folder)
    assert (done.returncode, done.stdout) == (0, "")
    lines = done.stderr.splitlines()
    assert lines[0] == "note: not used by the model: weight, rich"
    assert lines[1] == "note: missing values, treated as in training: age 16, job 50"
    assert lines[2].startswith(f"200 rows → {output} in ")
    table = pyarrow.parquet.read_table(output)
    assert table.column_names == ["id", "age", "probability", "class"]
    assert table["id"].to_pylist()[:2] == ["00000", "00001"]
    assert table["class"].to_pylist() == expected["class"].to_pylist()
    again = trainer("predict", "one", "--data", "test.csv", "--output", output, cwd=folder)
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr.startswith(f"error: --output: {output} exists.")


def test_a_pipe_goes_in_and_a_pipe_comes_out(run, expected, folder):
    with (folder / "test.csv").open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-m", "trainer", "predict", str(run.folder), "--data", "-", "--threshold", "0"],
            stdin=file,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "probability,class"
    assert [line.split(",")[1] for line in lines[1:]] == ["yes"] * 200
    assert float(lines[1].split(",")[0]) == pytest.approx(expected["probability"][0].as_py(), rel=1e-6)


def test_a_reader_that_has_seen_enough_is_not_an_error(run, folder):
    (folder / "many.csv").write_bytes(
        b"".join(
            [
                (folder / "test.csv").read_bytes(),
                *(folder / "test.csv").read_bytes().splitlines(keepends=True)[1:] * 300,
            ]
        )
    )
    command = f"{sys.executable} -m trainer predict {run.folder} --data {folder}/many.csv | head -n 2"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False, timeout=120
    )
    assert "Traceback" not in done.stderr
    assert done.stdout.splitlines()[0] == "probability,class"


def test_a_bar_is_drawn_on_a_terminal_and_nowhere_else(run, folder):
    arguments = ["-m", "trainer", "predict", str(run.folder), "--data", f"{folder}/test.csv", "--output"]
    child = pexpect.spawn(sys.executable, [*arguments, f"{folder}/bar.csv"], timeout=120, dimensions=(24, 100))
    child.expect(pexpect.EOF)
    child.close()
    drawn = child.before.decode()
    assert child.exitstatus == 0
    assert "200 rows" in drawn
    assert "100 %" in drawn
    done = trainer(*arguments[2:], f"{folder}/plain.csv")
    assert done.returncode == 0
    assert "%" not in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_ends_it_at_once_and_leaves_nothing_though_the_pipe_is_still_open(
    run, folder, tmp_path, number, code
):
    arguments = ["predict", str(run.folder), "--data", "-", "--output", str(tmp_path / "out.csv")]
    with subprocess.Popen(
        [sys.executable, "-m", "trainer", *arguments],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that starts the tests in the background lets all its processes ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    ) as process:
        process.stdin.write((folder / "test.csv").read_text())
        process.stdin.flush()
        try:
            # Until it has read the header, and has begun to write.
            until = time.monotonic() + 60
            while not list(tmp_path.iterdir()) and process.poll() is None and time.monotonic() < until:
                time.sleep(0.05)
            process.send_signal(number)
            assert process.wait(60) == code
        finally:
            process.kill()
        assert process.stderr.read() == "interrupted.\n"
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_not_there_or_has_no_model_is_told(folder, tmp_path):
    done = trainer("predict", "on", "--data", "test.csv", cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no run 'on'. Did you mean 'one'?" in done.stderr


@pytest.mark.parametrize("command", ["predict", "evaluate", "export"])
def test_help_shows_an_example(command):
    done = trainer(command, "--help")
    assert done.returncode == 0
    assert f"Example: trainer {command} runs/TASK/NAME" in " ".join(done.stdout.split())


def test_a_model_is_exported(run, folder, tmp_path):
    done = trainer("export", run.folder, "--output", tmp_path / "model.onnx")
    assert done.returncode == 0, done.stderr
    assert "takes data float32 rows×7; gives output, prediction" in done.stdout
    assert done.stderr == ""
    assert trainer("export", run.folder, "--output", tmp_path / "model.onnx").returncode == 2
    done = trainer("export", run.folder, "--format", "mxnet", "--output", tmp_path / "copy")
    assert done.returncode == 0
    assert load_model(tmp_path / "copy").threshold == run.threshold
    done = trainer("export", run.folder, "--format", "coreml", "--output", tmp_path / "x")
    assert "unknown format 'coreml'. Use onnx or mxnet." in done.stderr
