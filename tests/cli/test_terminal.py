"""What comes from data, files and packages is shown, and does nothing to the terminal that shows it."""

import ast
import io
import json
import logging
import re
import sys
import unicodedata
import warnings
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated

import pexpect
import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from tiny import Tiny

import trainer
from trainer import fit
from trainer.catalog import registry
from trainer.cli import run as run_module
from trainer.cli.app import run_app
from trainer.cli.help import broken, escaped
from trainer.terminal import NOTE, NotesOnce, RowOutput, SafeFormatter, prepare_streams, safe, say, say_warning

SOURCES = [Path(trainer.__file__).parent, Path(import_module("trainer_plugins").__file__).parent]
ATTACK = "\x1b]0;owned\x07\x9b2J\r\u202egnp"


@given(st.text(st.characters()))
def test_no_control_character_is_left_and_printable_text_stays(text):
    shown = safe(text)
    assert not any(unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp") for each in shown.replace("\t", ""))
    shown.encode()
    assert safe(shown) == shown
    if text.isprintable():
        assert shown == text


@given(st.text())
def test_json_stays_the_same_value(text):
    value = {text: [text]}
    assert json.loads(safe(json.dumps(value, ensure_ascii=False, indent=2), keep="\t\n")) == value


def test_a_line_stays_one_line(capsys):
    say("a\nerror: b")
    say("a\nb", err=True, block=True)
    assert capsys.readouterr() == ("a\\nerror: b\n", "a\nb\n")


def test_a_narrow_encoding_is_no_error(monkeypatch):
    narrow = io.TextIOWrapper(io.BytesIO(), "latin-1")
    monkeypatch.setattr(sys, "stdout", narrow)
    prepare_streams()
    say("π ≥ é")
    assert narrow.buffer.getvalue() == b"\\u03c0 \\u2265 \xe9\n"


def test_log_lines_are_escaped():
    record = logging.makeLogRecord({"msg": "column %s", "args": (ATTACK,)})
    assert SafeFormatter().format(record) == "column \\x1b]0;owned\\x07\\u009b2J\\r\\u202egnp"


@pytest.mark.parametrize("arguments", [["resume", ATTACK], ["run", ATTACK], [ATTACK], ["runs", "list", "--" + ATTACK]])
def test_errors_are_escaped(arguments, monkeypatch, capfd, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["trainer", *arguments])
    assert run_app() == 2
    out, err = capfd.readouterr()
    assert "owned" in err
    assert safe(out + err, keep="\n") == out + err


def test_a_table_of_runs_with_hostile_names_is_escaped(monkeypatch, capfd, tmp_path):
    folder = tmp_path / "runs" / "logreg" / "bad\x1b]0;name"
    folder.mkdir(parents=True)
    record = {
        "schema": 1,
        "status": "failed",
        "reason": ATTACK,
        "task": "logreg",
        "metrics": {f"validation/{ATTACK}": 0.5},
    }
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "config.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    for arguments in (["list"], ["list", "--json"], ["show", folder.name], ["show", folder.name, "--json"]):
        monkeypatch.setattr(sys, "argv", ["trainer", "runs", *arguments])
        assert run_app() == 0
        out, err = capfd.readouterr()
        assert "owned" in out
        assert safe(out + err, keep="\n") == out + err


@pytest.mark.parametrize("is_terminal", [False, True])
def test_rows_reach_a_pipe_as_they_are_and_a_terminal_escaped(monkeypatch, is_terminal):
    class Raw(io.BytesIO):
        def isatty(self):
            return is_terminal

    rows = f'id,probability\n"{ATTACK}\n",0.5\n\u00e9,1\n'.encode()
    raw = Raw()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "utf-8"))
    output = RowOutput()
    output.write(rows)
    output.flush()
    assert raw.getvalue() == (safe(rows.decode(), keep="\n").encode() if is_terminal else rows)


def test_rows_that_predict_prints_on_a_terminal_are_escaped(tmp_path):
    """In a process of its own: what counts is what a real terminal gets."""
    labels = ["no", "yes"] * 30
    table = pa.table(
        {"a": [float(row) for row in range(60)], "id": [f"{row}{ATTACK}" for row in range(60)], "y": labels}
    )
    pyarrow.csv.write_csv(table, tmp_path / "t.csv")
    fit("logreg", data=tmp_path / "t.csv", label="y", ignore=("id",), epochs=1, name="one", runs_dir=tmp_path / "runs",
        without=["progress", "tensorboard", "report", "checkpoint"])  # fmt: skip
    arguments = ["-m", "trainer", "predict", "one", "--data", "t.csv", "--keep", "id"]
    seen, status = pexpect.run(
        " ".join([sys.executable, *arguments]), cwd=str(tmp_path), timeout=120, withexitstatus=True, encoding="utf-8"
    )
    assert status == 0
    assert f"7{safe(ATTACK)}" in seen
    assert ATTACK not in seen


def test_warnings_of_python_are_escaped(monkeypatch, capsys):
    monkeypatch.setattr(warnings, "showwarning", say_warning)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(f"column {ATTACK}", UserWarning, stacklevel=1)
    err = capsys.readouterr().err
    assert f"UserWarning: column {safe(ATTACK)}" in err
    assert safe(err, keep="\n\t") == err


def test_a_command_shows_warnings_through_the_one_place(monkeypatch, command):
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    assert command("--version")[0] == 0
    assert warnings.showwarning is say_warning


@pytest.mark.parametrize("terminal", [False, True])
def test_the_help_of_a_package_is_escaped(monkeypatch, capfd, terminal):
    @dataclass
    class Hostile(Tiny):
        __doc__ = f"Trains {ATTACK}.\n\n\b\nNot\nwrapped.\f{ATTACK}"
        option: Annotated[int, Field(description=f"Is {ATTACK}.")] = 3

    monkeypatch.setattr(run_module, "markup", lambda: "rich" if terminal else None)
    monkeypatch.setattr(registry, "load", lambda group, name: Hostile)
    command = escaped(run_module.task_command("hostile"))
    command.main(["--help"], standalone_mode=False)
    broken("bad", f"fails {ATTACK}").main(["--help"], standalone_mode=False)
    out, _ = capfd.readouterr()
    assert out.count("owned") == 3
    assert safe(out, keep="\n") == out
    assert re.search(r"Not\W*\n\W*wrapped\.", out)


def test_notes_begin_with_their_word_and_are_told_once():
    note = logging.makeLogRecord({"msg": "the delimiter is %r", "args": (ATTACK,), "levelname": "WARNING", NOTE: True})
    assert SafeFormatter("%(levelname)s: %(message)s").format(note) == f"note: the delimiter is {ATTACK!r}"
    once = NotesOnce()
    assert [once.filter(note), once.filter(note)] == [True, False]
    warning = logging.makeLogRecord({"msg": "again"})
    assert [once.filter(warning), once.filter(warning)] == [True, True]


def test_nothing_else_prints():
    """`say` is the one place; progress and profile print through rich, and escape what they print."""
    found = []
    for folder in SOURCES:
        for path in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "typer.echo", "typer.secho"):
                    found.append(f"{path.name}:{node.lineno}")
                if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("onsole.print"):
                    assert ast.unparse(node.args[0]) == "safe(line)", path
    assert found == []
