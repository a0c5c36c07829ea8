"""What the disk does to a run in its course, and what the run says of it."""

import errno
import shutil
import sys

import pytest
from tiny import Tiny, engine, plugin

from trainer import Phase, TrainerError
from trainer.atomic import hidden_name, new_folder, remove_leftovers, write_atomic
from trainer.cli.app import run_app
from trainer.runs import checkpoint, folder
from trainer_plugins.metrics_log import MetricsLog


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("trainer.saver.PAUSES_SECONDS", (0.0,))


def saving():
    return plugin("saver", epoch_end=lambda run: run.save("always"))


def refusing(monkeypatch, times, error=errno.EIO):
    """Makes the disk refuse the next checkpoints."""
    left, write = [times], checkpoint.write_json

    def refuse(path, value):
        if path.name == checkpoint.MANIFEST and left[0]:
            left[0] -= 1
            raise OSError(error, "Input/output error")
        write(path, value)

    monkeypatch.setattr(checkpoint, "write_json", refuse)


def test_a_checkpoint_that_the_disk_refuses_once_is_written_at_the_second_attempt(tmp_path, monkeypatch, caplog):
    refusing(monkeypatch, 1)
    run = engine(Tiny(), saving(), folder=tmp_path / "run", epochs=2).fit()
    assert [each.step for each in checkpoint.complete_checkpoints(run.folder)] == [4, 2]
    assert "the checkpoint of step 2 cannot be written: Input/output error. Trying again" in caplog.text
    assert run.notes == []


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EROFS])
def test_a_run_continues_without_a_checkpoint_and_saves_its_last(tmp_path, monkeypatch, caplog, error):
    refusing(monkeypatch, 2, error)
    run = engine(Tiny(), saving(), folder=tmp_path / "run", epochs=3).fit()
    assert run.status == "finished"
    # Step 4 comes within the rest; the last one is tried in any case.
    assert [each.step for each in checkpoint.complete_checkpoints(run.folder)] == [6]
    assert "The run continues without it" in caplog.text
    assert "WARNING: the checkpoint of step 2 cannot be written" in run.notes[0]


@pytest.mark.parametrize("moved", [True, False])
def test_a_run_whose_folder_is_gone_fails_and_names_it(tmp_path, moved):
    path = tmp_path / "run"

    def lose(run):
        if run.epoch == 2:
            shutil.rmtree(path)
            if not moved:
                path.mkdir()
                (path / folder.LOCK).touch()  # of another run

    made = engine(Tiny(), plugin("lose", epoch_end=lose), saving(), folder=path, epochs=9)
    with pytest.raises(TrainerError, match=f"the run's folder {path} is gone"):
        made.fit()
    assert (made.run.status, made.run.epoch) == ("failed", 2)
    assert path.exists() != moved
    assert moved or [each.name for each in path.iterdir()] == [folder.LOCK]
    engine(Tiny(), folder=tmp_path / "other").fit()


def test_a_lost_folder_is_said_once_whatever_is_written_into_it(tmp_path, caplog):
    path = tmp_path / "run"
    lose = plugin("lose", phase=Phase.TRANSFORM, epoch_end=lambda run: shutil.rmtree(path))
    late = plugin("late", teardown=lambda run: (path / "late").write_text(""))
    with pytest.raises(folder.FolderGone):
        engine(Tiny(), lose, MetricsLog(), saving(), late, folder=path, epochs=9).fit()
    assert caplog.text == ""


def test_what_killed_processes_left_is_removed_and_what_they_were_replacing_comes_back(tmp_path):
    write_atomic(tmp_path / ".notes.markdown", "mine")
    (tmp_path / "sub").mkdir()
    hidden_name(tmp_path / "metrics.csv").touch()
    hidden_name(tmp_path / "sub" / "a").mkdir()
    (tmp_path / ".model.0123abcd.old").mkdir()
    (tmp_path / "kept").mkdir()
    (tmp_path / ".kept.0123abcd.old").mkdir()
    remove_leftovers(tmp_path)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert left == [".notes.markdown", "kept", "model", "sub"]


def test_every_temporary_name_is_recognised(tmp_path, monkeypatch):
    seen = []

    def fail(*_):
        seen.extend(path.name for path in tmp_path.iterdir() if path.name.startswith("."))
        raise OSError

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError), new_folder(tmp_path / "folder") as new:  # noqa: PT011
        fail(new)
    with pytest.raises(OSError):  # noqa: PT011
        write_atomic(tmp_path / "file", "")
    assert len(seen) == 2
    for name in seen:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [b"\0" * 4096, b'{"event": "ep', b"[]\n", b"\xff\n"])
@pytest.mark.parametrize("before_size", [True, False])
def test_a_damaged_end_of_the_log_is_cut_off_when_the_run_resumes(tmp_path, damage, before_size, caplog):
    path = tmp_path / "run"
    engine(Tiny(), MetricsLog(), saving(), folder=path, epochs=2).fit()
    log = path / "metrics.jsonl"
    at = checkpoint.complete_checkpoints(path)[0]
    if before_size:
        # The second epoch's line, which the checkpoint counts on, is overwritten.
        first = log.read_bytes().splitlines(keepends=True)[0]
        size = at.read()["plugins"]["metrics-log"]["bytes"]
        log.write_bytes((first + damage).ljust(size, b"\0"))
    else:
        with log.open("ab") as file:
            file.write(damage)
    hidden_name(path / "metrics.csv").touch()
    engine(Tiny(), MetricsLog(), saving(), folder=path, epochs=3, resume_from=at).fit()
    lines = log.read_text().splitlines()
    assert [line.count('"event": "epoch"') for line in lines] == ([1, 1, 0] if before_size else [1, 1, 1, 0])
    assert ("were no whole lines" in caplog.text) == before_size
    assert [each.name for each in path.iterdir() if each.name.startswith(".")] == [folder.LOCK]


@pytest.mark.parametrize("command", [["runs", "list"], ["plugins", "list"], ["--help"], ["run", "logreg", "--help"]])
def test_output_that_cannot_be_written_is_one_line_and_exit_code_1(command, monkeypatch, capfd, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    monkeypatch.setattr(sys, "argv", ["trainer", *command])
    with open("/dev/full", "w") as full:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdout", full)
        assert run_app() == 1
        monkeypatch.undo()
    assert capfd.readouterr().err == "error: standard output cannot be written: No space left on device\n"
