"""Files of a run that somebody else wrote: every field, changed in every way, gives a reason, never another error."""

import hashlib
import json
import struct
import zipfile
from contextlib import suppress

import pytest
from mutations import mutations
from tiny import engine, plugin

from trainer import TrainerError
from trainer.runs import archive, checkpoint
from trainer.runs.checkpoint import Checkpoint, CheckpointError
from trainer.runs.listing import entry_of

FILES = {"state": "state.json", "arrays": "arrays.npz"}


def train(folder, **values):
    """A run of Adam with a checkpoint within an epoch."""
    saving = plugin("saving", batch_end=lambda run: run.save("now") if run.step == 2 else None)
    return engine(None, saving, folder=folder, optimizer={"name": "adam"}, epochs=2, **values).fit()


@pytest.fixture
def written(tmp_path):
    """The run's checkpoint."""
    train(tmp_path / "tiny" / "one")
    (found,) = checkpoint.complete_checkpoints(tmp_path / "tiny" / "one")
    return found


def sealed(folder, **contents):
    """Writes files of a checkpoint, with sizes and checksums made right."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, content in contents.items():
        (folder / FILES[name]).write_bytes(content)
        manifest["files"][FILES[name]] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return Checkpoint(folder, manifest)


def refusal(folder):
    """Why the only checkpoint of a run is passed over, or cannot be resumed from; empty if it is resumed from."""
    (found,) = checkpoint.find(folder.parent.parent)
    if isinstance(found, CheckpointError):
        return str(found)
    try:
        found.check()
    except CheckpointError as error:
        return str(error)
    try:
        engine(resume_from=found, optimizer={"name": "adam"}, epochs=2, steps=3).fit()
    except TrainerError as error:
        return str(error)
    return ""


def as_text(value):
    return value if isinstance(value, str) else json.dumps(value)


def test_every_field_of_a_checkpoints_manifest(written):
    path = written.folder / "manifest.json"
    given = json.loads(path.read_text())
    found = {}
    for what, value in mutations(given):
        path.write_text(as_text(value))
        found[what] = refusal(written.folder)
    needed = [f"{name} without" for name in given if name != "plugins"]
    assert [what for what in (*needed, "nested", "cut", "empty", "metrics = deep") if not found[what]] == []


def test_every_field_of_a_checkpoints_state(written):
    given = json.loads((written.folder / "state.json").read_text())
    found = {}
    for what, value in mutations(given):
        sealed(written.folder, state=as_text(value).encode())
        found[what] = refusal(written.folder)
    needed = [f"{name} without" for name in given] + [f"run.{name} without" for name in given["run"]]
    needed += [f"run.{name} = {wrong}" for name in given["run"] for wrong in ("'text'", "[None]", "deep")]
    needed.remove("run.threshold_reason = 'text'")  # it is one
    assert [what for what in (*needed, "nested", "cut", "empty") if not found[what]] == []


def test_every_byte_of_an_archives_headers(written):
    path = written.folder / "arrays.npz"
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        members = file.infolist()
        places = {place for member in members[:2] for place in range(member.header_offset, member.header_offset + 190)}
        places |= set(range(file.start_dir, file.start_dir + 150)) | set(range(len(whole) - 22, len(whole)))
    for place in sorted(places):
        for value in (0, 255, whole[place] ^ 1):
            sealed(written.folder, arrays=whole[:place] + bytes([value]) + whole[place + 1 :])
            with suppress(CheckpointError):
                checkpoint.complete_checkpoints(written.folder.parent.parent)[0].read()


@pytest.mark.parametrize("begin", [b"\x93NUMPY", b"PK\x03\x04"])
def test_a_damaged_header_is_told_in_a_short_line_without_its_bytes(written, begin):
    """Of an array, and of a member of the archive with a name of 300 bytes."""
    content = bytearray((written.folder / "arrays.npz").read_bytes())
    place = content.index(begin)
    if begin.startswith(b"PK"):
        content[place + 26 : place + 28] = struct.pack("<H", 300)
    else:
        content[place + 12 : place + 80] = bytes(range(1, 69))
    why = refusal(sealed(written.folder, arrays=bytes(content)).folder)
    reason = why.removeprefix(f"{written.folder}: ")
    assert "arrays.npz cannot be read: " in reason
    assert len(reason) < 180
    assert reason.isprintable()
    assert "\\x" not in reason


@pytest.mark.parametrize("kind", ["nothing refers to it", "larger than the file", "compressed", "twice"])
def test_an_array_that_would_take_memory_for_nothing_is_refused_before_it_is_read(written, monkeypatch, kind):
    path = written.folder / "arrays.npz"
    with zipfile.ZipFile(path) as file:
        arrays = {name: file.read(name) for name in file.namelist()}
    header = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118)
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (%d,), }"
    first = next(iter(arrays))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if kind == "compressed" else zipfile.ZIP_STORED) as file:
        for name, content in arrays.items():
            large = header + (text % 10**10).ljust(117).encode() + b"\n" + b"\0" * 4
            file.writestr(name, large if kind == "larger than the file" and name == first else content)
        if kind == "nothing refers to it":
            file.writestr("more.npy", header + (text % 1).ljust(117).encode() + b"\n" + b"\0" * 4)
        if kind == "twice":
            with pytest.warns(UserWarning, match="Duplicate"):
                file.writestr(first, arrays[first])
    found = sealed(written.folder, arrays=path.read_bytes())
    monkeypatch.setattr(archive.StoredArrays, "load", lambda _: pytest.fail("the arrays were read"))
    reason = "do not hold the same|not have the size|not an array of its own"
    with pytest.raises(CheckpointError, match=reason):
        found.read()


def test_a_net_that_is_not_the_checkpoints_is_noticed_before_its_arrays_are_read(written, monkeypatch):
    monkeypatch.setattr(archive.StoredArrays, "load", lambda _: pytest.fail("the arrays were read"))
    with pytest.raises(TrainerError, match="the optimizer is sgd"):
        engine(resume_from=written, epochs=2)


def test_a_checkpoint_that_is_larger_than_the_memory_is_refused(written, monkeypatch):
    monkeypatch.setattr("trainer.reading.free_memory", lambda: 10)
    with pytest.raises(CheckpointError, match=r"its arrays would take 48 bytes, and 10 bytes are free"):
        written.read()


# ---- the command line ------------------------------------------------------------------------------------------------


COMMANDS = [
    ("runs", "list", "--runs-dir", "."),
    ("runs", "list", "--runs-dir", ".", "--sort", "started", "--json"),
    ("runs", "show", "tiny/one", "--runs-dir", "."),
    ("runs", "show", "tiny/one", "--runs-dir", ".", "--json"),
    ("runs", "compare", "tiny/one", "tiny/one", "--runs-dir", "."),
    ("report", "tiny/one", "--runs-dir", "."),
    ("predict", "tiny/one", "--runs-dir", ".", "--data", "none.csv"),
]


@pytest.mark.parametrize("name", ["run.json", "plugins.json"])
def test_every_field_of_a_runs_records(tmp_path, written, command, name):
    path = tmp_path / "tiny" / "one" / name
    (path.parent / "config.toml").write_text('[task]\nname = "tiny"\n')
    for number, (what, value) in enumerate(mutations(json.loads(path.read_text()))):
        path.write_text(as_text(value))
        if name == "run.json" and number % 20 and entry_of(path.parent).status == "unreadable":
            continue  # all commands treat them the same
        arguments = COMMANDS[number % len(COMMANDS)]
        code, _, err = command(*arguments)
        assert code in (0, 2), (what, arguments, err)
        assert "Traceback" not in err, (what, arguments)


@pytest.mark.parametrize(
    "text", ["task = 3", "plugins = 3", "[plugins]\na = 1", "a = " + "[" * 5000, "\0", "x = 1" + "0" * 9999]
)
def test_a_configuration_that_is_invalid(tmp_path, written, command, text):
    (tmp_path / "tiny" / "one" / "config.toml").write_text(text)
    for arguments in (*COMMANDS[2:], ("resume", "tiny/one", "--runs-dir", ".")):
        code, _, err = command(*arguments)
        assert (code, "Traceback" in err) in ((0, False), (2, False)), (arguments, err)
