"""trainer data cache list and remove."""

import json
import os
import re
import sys
import time

import pexpect
import pytest
from caches import ROWS, Process, built, key_of, made

HALF = """
with store.build(key_of(path)) as writer:
    say("begun")
    listen()
"""


@pytest.fixture
def three(tmp_path, monkeypatch):
    """Three caches of a table, last used 1, 20 and 40 days ago; the newest one first."""
    monkeypatch.setenv("TRAINER_CACHE_DIR", str(tmp_path / "cache"))
    store, path, _ = made(tmp_path)
    found = []
    for days in (1, 20, 40):
        folder = built(store, key_of(path, days=days)).folder
        used = time.time() - days * 86_400
        os.utime(folder / "used", (used, used))
        found.append(folder)
    return found


def test_list_shows_every_cache_the_one_used_last_at_the_end(command, three, tmp_path):
    code, out, err = command("data", "cache", "list")
    assert (code, err) == (0, "")
    head, *lines = (re.split(r"\s{2,}", line) for line in out.splitlines())
    assert head == ["id", "size", "rows", "state", "last used (UTC)", "files"]
    assert [line[0] for line in lines] == [folder.name for folder in reversed(three)]
    assert lines[0][2:4] == [f"{ROWS:,} train", "complete"]
    assert lines[0][5] == str(tmp_path / "t.csv")


def test_list_as_json_says_what_is_in_use_damaged_or_left(command, three, tmp_path):
    store, path, _ = made(tmp_path)
    with Process(tmp_path, HALF) as process:
        process.hear()
    (three[2] / "train.arrow").write_bytes(b"")
    kept = store.find(key_of(path, days=1))
    assert kept is not None
    code, out, _ = command("data", "cache", "list", "--json")
    values = {value["id"]: value for value in map(json.loads, out.splitlines())}
    states = {value.pop("state"): name for name, value in values.items()}
    assert code == 0
    assert set(states) == {"damaged", "complete", "in use", "leftover"}
    assert states["in use"] == three[0].name
    assert states["damaged"] == three[2].name
    assert values[three[1].name] == {
        "id": three[1].name,
        "folder": str(three[1]),
        "bytes": sum(each.stat().st_size for each in three[1].rglob("*") if each.is_file()),
        "rows": {"train": ROWS},
        "files": [str(path)],
        "used": (three[1] / "used").stat().st_mtime,
    }
    code, out, _ = command("data", "cache", "remove", "--all", "--yes")
    assert code == 0
    assert f"kept {three[0]}: it is in use" in out
    assert [each.name for each in store.folder.iterdir()] == [three[0].name]


def test_caches_are_removed_by_the_start_of_their_ids_or_their_age(command, three):
    code, out, _ = command("data", "cache", "remove", "--older-than", "30d", "--yes")
    assert (code, out) == (0, f"removed {three[2]}\n")
    code, out, _ = command("data", "cache", "remove", three[0].name[:6], "--yes")
    assert (code, out) == (0, f"removed {three[0]}\n")
    assert [folder.exists() for folder in three] == [False, True, False]
    code, out, _ = command("data", "cache", "remove", "--older-than", "30d", "--yes")
    assert (code, out) == (0, f"nothing to remove in {three[1].parent}\n")


def test_one_that_is_in_use_is_kept_and_the_exit_code_says_so(command, three, tmp_path):
    store, path, _ = made(tmp_path)
    entry = store.find(key_of(path, days=1))
    code, out, _ = command("data", "cache", "remove", entry.id, "--yes")
    assert (code, out) == (1, f"kept {three[0]}: it is in use\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [],
            "data cache remove: it is not clear which caches to remove. Give either their IDs, --all or --older-than.",
        ),
        (["--all", "--older-than", "3d"], "data cache remove: it is not clear which caches to remove."),
        (["--older-than", "3 years"], "--older-than: '3 years' is not a time. Use a number and a unit, such as 30d."),
        (["zzz"], "ID: there is no cache 'zzz' in "),
        (["--all"], "data cache remove: cannot ask for confirmation: standard input is not a terminal. Pass --yes"),
    ],
)
def test_mistakes_are_named_and_nothing_is_removed(arguments, message, command, three, monkeypatch):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    code, _, err = command("data", "cache", "remove", *arguments)
    assert code == 2
    assert message in err
    assert all(folder.is_dir() for folder in three)


def test_remove_asks_first(three, tmp_path):
    arguments = ["-m", "trainer", "data", "cache", "remove", "--all", "--cache-dir", str(tmp_path / "cache")]
    with pexpect.spawn(sys.executable, arguments, timeout=60) as terminal:
        terminal.expect("Remove these 3 caches for good")
        terminal.sendline("n")
        terminal.expect("nothing was removed")
    assert all(folder.is_dir() for folder in three)


def test_the_ids_are_completed(three, monkeypatch):
    from types import SimpleNamespace

    from trainer.cli.data_cache import cache_ids

    context = SimpleNamespace(params={})
    assert cache_ids(context, three[0].name[:4]) == [three[0].name]
    assert len(cache_ids(context, "")) == 3


def test_a_folder_without_caches_has_none(command, tmp_path):
    code, out, _ = command("data", "cache", "list", "--cache-dir", tmp_path / "none")
    assert (code, out) == (0, f"no caches in {tmp_path / 'none' / 'tables'}\n")
