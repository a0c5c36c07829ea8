"""A file is the old one or the new one; what goes wrong leaves nothing behind."""

import json
import os
import stat

import pytest

from trainer import UsageError
from trainer.atomic import cut_back, shown, write_atomic, write_json


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_text_and_bytes_are_written_and_replaced(tmp_path):
    path = tmp_path / "a.txt"
    write_atomic(path, "größe\n")
    assert path.read_text(encoding="utf-8") == "größe\n"
    write_atomic(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("broken", ["os.fsync", "pathlib.Path.replace", "pathlib.Path.chmod"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["disk", "ctrl-c"])
def test_a_failing_write_leaves_the_old_file_and_no_temporary_one(tmp_path, monkeypatch, broken, error):
    path = tmp_path / "a.txt"
    write_atomic(path, "old")

    def fail(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(broken, fail)
        with pytest.raises(type(error)):
            write_atomic(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_content_that_is_neither_text_nor_bytes_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_atomic(path, "old")
    with pytest.raises(TypeError):
        write_atomic(path, 7)
    assert (path.read_text(), names(tmp_path)) == ("old", ["a.txt"])


def test_a_folder_in_the_way_leaves_no_temporary_file(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_atomic(tmp_path / "a.txt", "new")
    assert names(tmp_path) == ["a.txt"]


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "missing" / "a.txt", "new")


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_files_are_as_readable_as_the_umask_lets_them_be(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_atomic(tmp_path / "a.txt", "x")
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o666 & ~mask


def test_json_is_readable_and_strict(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"größe": [1, 2.5, None]})
    text = path.read_text(encoding="utf-8")
    assert json.loads(text) == {"größe": [1, 2.5, None]}
    assert "größe" in text
    assert text.endswith("}\n")
    for bad in (float("nan"), object()):
        with pytest.raises((ValueError, TypeError)):
            write_json(path, {"bad": bad})
    assert path.read_text(encoding="utf-8") == text
    assert names(tmp_path) == ["a.json"]


def test_a_file_is_cut_back_to_the_length_it_had(tmp_path):
    path = tmp_path / "log"
    path.write_text("one\ntwo\n")
    cut_back(path, 4)
    assert path.read_text() == "one\n"
    cut_back(path, 4)
    with pytest.raises(UsageError, match="log: it has 4 bytes, but had 5 when the checkpoint was written"):
        cut_back(path, 5)
    with pytest.raises(UsageError, match="it has 0 bytes"):
        cut_back(tmp_path / "gone", 1)


def test_paths_are_shown_as_a_user_would_type_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shown(tmp_path / "runs" / "run") == "runs/run"
    assert shown(tmp_path.parent / "elsewhere") == str(tmp_path.parent / "elsewhere")
