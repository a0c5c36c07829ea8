"""What comes from data, files and packages is shown, and does nothing to the terminal that shows it."""

import ast
import io
import json
import logging
import sys
import unicodedata
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import trainer
from trainer.cli.app import run_app
from trainer.terminal import SafeFormatter, prepare_streams, safe, say

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
