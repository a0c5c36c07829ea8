"""What a person sees: plain lines in a pipe, bars on a terminal."""

import os
import re
import sys
from contextlib import suppress
from types import SimpleNamespace

import pexpect
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import Tiny, engine, plugin

from trainer_plugins.progress import LineText, Progress


class Shown(Tiny):
    headline = ("train/loss", "validation/loss", "validation/accuracy", "validation/f1")

    def describe(self):
        return ["four rows [of what] it takes"]


def shown(capsys, *plugins, **settings):
    engine(Shown(), Progress(), *plugins, **settings).fit()
    return capsys.readouterr().out.splitlines()


def test_a_pipe_gets_one_line_per_epoch_with_the_headline_metrics(capsys):
    first, *epochs = shown(capsys)
    assert first == "four rows [of what] it takes"
    value = r"\d+\.\d{4}"
    pattern = rf"epoch (\d)/2  train loss {value}  validation loss {value}  accuracy {value}  f1 {value}"
    assert [re.fullmatch(pattern, line)[1] for line in epochs] == ["1", "2"]
    assert max(map(len, epochs)) <= 80


NAMES = st.lists(
    st.tuples(st.sampled_from(["train", "validation", "test"]), st.text("abc-", min_size=1, max_size=35)).map("/".join),
    min_size=1,
    max_size=9,
    unique=True,
)


@given(NAMES, st.integers(1, 1000), st.floats() | st.integers(0, 10**9))
def test_no_line_is_longer_than_the_screen_and_the_first_metric_is_always_there(names, epochs, value):
    run = SimpleNamespace(epochs=epochs, task=SimpleNamespace(headline=names))
    line = LineText(run, 80).line(f"epoch {epochs}/{epochs}", dict.fromkeys(names, value), names)
    assert len(line) <= 80
    assert names[0].partition("/")[2] in line


def test_counts_are_whole_numbers(capsys):
    class Counting(Tiny):
        headline = ("train/loss", "validation/true-positives")

    engine(Counting(validation_rows=20), Progress(), epochs=1).fit()
    assert re.search(r"validation/true-positives \d+\n", capsys.readouterr().out)


def test_metrics_that_an_epoch_does_not_have_are_left_out(capsys):
    engine(Tiny(validation_rows=0), Progress(), epochs=1).fit()
    assert re.fullmatch(r"epoch 1/1  train/loss \d+\.\d{4}\n", capsys.readouterr().out)


def test_the_test_split_has_its_line(capsys):
    engine(Tiny(test_rows=2), Progress(), epochs=1).fit()
    assert re.search(r"^test  test/loss \d+\.\d{4}$", capsys.readouterr().out, re.MULTILINE)


def test_a_failing_display_is_switched_off_and_the_run_continues(monkeypatch, caplog):
    def fail(self, line):
        raise BrokenPipeError("nobody reads")

    monkeypatch.setattr(Progress, "_print", fail)
    run = engine(Shown(), Progress()).fit()
    assert run.status == "finished"
    assert [(decision.plugin, decision.action) for decision in run.decisions] == [("progress", "disable")]


@pytest.mark.parametrize("bars", ["on", "off"])
def test_a_reader_that_goes_away_does_not_end_the_run(monkeypatch, bars):
    monkeypatch.setenv("FORCE_COLOR", "1")
    reader, writer = os.pipe()
    os.close(reader)
    with suppress(BrokenPipeError), open(writer, "w") as pipe:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdout", pipe)
        run = engine(Shown(), Progress(bars=bars)).fit()
        monkeypatch.undo()
    assert run.status == "finished"
    assert [(decision.plugin, decision.action) for decision in run.decisions] == [("progress", "disable")]


def test_bars_are_taken_away_when_the_run_fails(capsys):
    def fail(run):
        raise ValueError("broken")

    progress = Progress(bars="on")
    with pytest.raises(Exception, match="broken"):
        engine(Shown(), progress, plugin(epoch_end=fail)).fit()
    assert progress._bars.finished is False
    assert not progress._bars.live.is_started


@pytest.mark.parametrize("columns", [160, 40])
def test_a_terminal_gets_bars_that_fit_it(tmp_path, columns):
    arguments = [
        "-m",
        "trainer",
        "run",
        "logreg",
        "--epochs",
        "2",
        "--train-rows",
        "30000",
        "--runs-dir",
        str(tmp_path),
    ]
    env = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    child = pexpect.spawn(sys.executable, arguments, dimensions=(24, columns), timeout=120, encoding="utf-8", env=env)
    child.expect(pexpect.EOF)
    seen = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", child.before)
    if columns == 160:
        assert re.search(r"batches [━╸╺ ]+ +\d+/3000 loss \d\.\d{4} \d:\d\d:\d\d \d+\.\d/s", seen)
        assert re.search(r"epoch 2/2  train/loss \d", seen)
    else:
        assert re.search(r"batches [━╸╺ ]+ +\d+/3000 loss \d\.\d{4}\s", seen)
        assert re.search(r"epoch 2/2  train loss \d\.\d{4}  …", seen)
    child.close()
    assert child.exitstatus == 0
