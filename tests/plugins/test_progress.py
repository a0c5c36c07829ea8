"""What a person sees: plain lines in a pipe, bars on a terminal."""

import re
import sys

import pexpect
import pytest
from tiny import Tiny, engine, plugin

from trainer_plugins.progress import Progress


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
    figure = r"\d+\.\d{4}"
    pattern = rf"epoch (\d)/2  train/loss {figure}  validation/loss {figure}  validation/accuracy {figure}  "
    assert [re.match(pattern + rf"validation/f1 {figure}$", line)[1] for line in epochs] == ["1", "2"]


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


def test_bars_are_taken_away_when_the_run_fails(capsys):
    def fail(run):
        raise ValueError("broken")

    progress = Progress(bars="on")
    with pytest.raises(Exception, match="broken"):
        engine(Shown(), progress, plugin(epoch_end=fail)).fit()
    assert progress._bars.finished is False
    assert not progress._bars.live.is_started


def test_a_terminal_gets_bars_with_rate_and_loss(tmp_path):
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
    child = pexpect.spawn(sys.executable, arguments, dimensions=(24, 160), timeout=120, encoding="utf-8")
    child.expect(pexpect.EOF)
    seen = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", child.before)
    assert re.search(r"batches [━╸╺ ]+ +\d+/3000 loss \d\.\d{4} \d:\d\d:\d\d \d+\.\d/s", seen)
    assert re.search(r"epoch 2/2  train/loss \d", seen)
    child.close()
    assert child.exitstatus == 0
