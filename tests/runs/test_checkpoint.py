"""Checkpoints on disk: complete or absent, checked when they are read, and nothing in them is pickled."""

import io
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, scalar_dtypes
from states import whole_state

from trainer import TrainerError
from trainer.mxnet import mx
from trainer.runs import checkpoint
from trainer.runs.checkpoint import Checkpoint, CheckpointError
from trainer.runs.state import differences

ABOUT = {"step": 3, "epoch": 1, "reason": "because", "metrics": {"train/loss": 0.5, "f1": None}}
STATE = {"weights": {"0.weight": np.arange(12, dtype=np.float32).reshape(3, 4)}, "best": float("inf"), "run": {}}


def save(folder, state=STATE, name="step-00000003", **about):
    """A checkpoint in which a plugin has this state."""
    about = {**ABOUT, **about}
    return checkpoint.write(folder, name, whole_state({"mine": state}, step=about["step"]), about)


def kept(found):
    return found.read()["plugins"]["mine"]


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def usable(folder):
    """The names of the checkpoints that are whole, the newest first; every byte of them is read."""
    found = []
    for each in checkpoint.complete_checkpoints(folder):
        try:
            each.read()
        except CheckpointError:
            continue
        found.append(each.folder.name)
    return found


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | arrays(scalar_dtypes().filter(lambda dtype: dtype.kind in "fiub"), array_shapes(min_dims=0, min_side=0)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, min_size=2, max_size=3),
    max_leaves=8,
)


@given(state=st.dictionaries(st.text("abc", min_size=1), VALUES, max_size=4))
@example(state={"a": {"\0": np.ones(2), "b\0": np.zeros(2)}})
@example(state={"a": {"b": {"c": np.ones(2)}, "b/c": np.zeros(2)}})
@example(state={"a": np.ones(2), "a.npy": np.zeros(2), "array-1": np.ones(1)})
@example(state={"a": {"b" * 70_000: np.ones(2)}})
def test_a_state_comes_back_as_it_was(tmp_path_factory, state):
    folder = tmp_path_factory.mktemp("run")
    try:
        written = save(folder, state)
    except TrainerError as error:
        assert "is reserved" in str(error)  # noqa: PT017
        return
    read = {"run": {}, "plugins": kept(written)}
    assert differences({"run": {}, "plugins": state}, read) == []
    shutil.rmtree(folder)


def test_numpy_numbers_tuples_and_ndarrays_come_back_as_what_holds_their_values(tmp_path):
    state = {"flag": np.bool_(True), "whole": np.int64(7), "pair": (mx.nd.ones(2), np.float32(0.5))}
    read = kept(save(tmp_path, state))
    assert (read["flag"], read["whole"], read["pair"][1]) == (True, 7, 0.5)
    assert read["pair"][0].tolist() == [1, 1]


def test_what_a_checkpoint_is_about_can_be_read_without_its_arrays(tmp_path):
    save(tmp_path)
    (found,) = checkpoint.complete_checkpoints(tmp_path)
    assert (found.step, found.manifest["reason"], found.metrics) == (3, "because", {"train/loss": 0.5, "f1": None})
    assert names(found.folder) == ["arrays.npz", "manifest.json", "state.json"]
    assert names(tmp_path / "checkpoints") == ["step-00000003"]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": np.array([None])}, "^plugins/mine/a is an array of Python objects"),
        ({"a": {"b": [1, object()]}}, "^plugins/mine/a/b/1 is a object"),
        ({"a": {1, 2}}, "^plugins/mine/a is a set"),
        ({"a": b"bytes"}, "^plugins/mine/a is a bytes"),
        ({"a": np.complex64(1j)}, "^plugins/mine/a is a complex"),
        ({"a": np.datetime64("2020-01-01")}, "^plugins/mine/a is a date"),
        ({"a": {1: "a"}}, "^plugins/mine/a has the key 1, which is not a string"),
        ({"a": {"$array": "b"}}, r"^plugins/mine/a is \{'\$array': …\}, which is reserved"),
    ],
)
def test_a_state_that_could_not_be_read_back_is_refused_and_leaves_nothing(tmp_path, state, message):
    with pytest.raises(TrainerError, match=message):
        save(tmp_path, state)
    assert names(tmp_path / "checkpoints") == []


def test_the_newest_comes_first_and_after_an_epochs_end_is_newer_than_within_it(tmp_path):
    order = ["failed-00000012", "step-00000010-epoch-0002", "step-00000010", "failed-00000010", "step-00000009"]
    for name in reversed(order):
        save(tmp_path, name=name, step=int(name.split("-")[1]))
    (tmp_path / "checkpoints" / "notes").mkdir()
    (tmp_path / "checkpoints" / ".step-00000011.abcd").mkdir()
    assert [found.folder.name for found in checkpoint.find(tmp_path)] == order
    assert [found.is_exact for found in checkpoint.complete_checkpoints(tmp_path)] == [False, True, True, False, True]
    assert [found.is_epoch_end for found in checkpoint.complete_checkpoints(tmp_path)] == [
        False,
        True,
        False,
        False,
        False,
    ]


def test_one_of_the_same_name_takes_the_older_ones_place(tmp_path):
    save(tmp_path, {"value": 1})
    save(tmp_path, {"value": 2})
    (found,) = checkpoint.complete_checkpoints(tmp_path)
    assert kept(found) == {"value": 2}
    assert names(tmp_path / "checkpoints") == ["step-00000003"]


@pytest.mark.parametrize("broken", ["zipfile.ZipFile", "trainer.runs.checkpoint.write_atomic", "os.fsync"])
def test_a_failing_write_leaves_the_older_checkpoint_and_nothing_else(tmp_path, monkeypatch, broken):
    save(tmp_path, {"value": 1})

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(broken, fail)
        with pytest.raises(TrainerError, match="the checkpoint of step 3 cannot be written: No space left on device"):
            save(tmp_path, {"value": 2})
    (found,) = checkpoint.complete_checkpoints(tmp_path)
    assert kept(found) == {"value": 1}
    assert names(tmp_path / "checkpoints") == ["step-00000003"]


def test_a_checkpoint_that_cannot_take_the_place_of_an_older_one_leaves_that_one(tmp_path, monkeypatch):
    folder = save(tmp_path, {"value": 1}).folder
    rename = Path.rename

    def fail(path, target):
        if path.suffix != ".old" and Path(target) == folder:
            raise OSError(5, "Input/output error")
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail)
        with pytest.raises(TrainerError, match="Input/output"):
            save(tmp_path, {"value": 2})
    (found,) = checkpoint.complete_checkpoints(tmp_path)
    assert kept(found) == {"value": 1}


def test_a_read_only_folder_is_said_and_left_alone(tmp_path):
    if os.geteuid() == 0:
        blocked = tmp_path / "checkpoints"
        blocked.write_text("a file where the folder should be")
    else:
        tmp_path.chmod(0o500)
    with pytest.raises(TrainerError, match="cannot be written"):
        save(tmp_path)
    assert not any(name.startswith(".step") for name in names(tmp_path))


def test_every_truncation_is_noticed_and_the_one_before_is_used(tmp_path):
    older = save(tmp_path, {"a": np.zeros(3)}, "step-00000002", step=2)
    newest = save(tmp_path, {"a": np.arange(3000.0), "b": "text" * 500})
    for path in sorted(newest.folder.iterdir()):
        whole = path.read_bytes()
        for size in range(0, len(whole), 1000):
            path.write_bytes(whole[:size])
            assert usable(tmp_path) == [older.folder.name], (path.name, size)
        path.unlink()
        assert usable(tmp_path) == [older.folder.name]
        path.write_bytes(whole)
    assert usable(tmp_path) == [newest.folder.name, older.folder.name]


@given(
    where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), name=st.sampled_from(["arrays.npz", "state.json"])
)
def test_a_flipped_bit_is_noticed(tmp_path_factory, where, bit, name):
    folder = tmp_path_factory.mktemp("run")
    path = save(folder, {"a": np.arange(100.0), "b": "text" * 50}).folder / name
    data = bytearray(path.read_bytes())
    data[int(where * len(data))] ^= 1 << bit
    path.write_bytes(bytes(data))
    (found,) = checkpoint.complete_checkpoints(folder)
    with pytest.raises(CheckpointError, match=f"{name} is damaged: its checksum differs"):
        found.read()
    shutil.rmtree(folder)


def rewrite(written, **changes):
    path = written.folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 99}, "was written by a newer version"),
        ({"schema": "x"}, "manifest.json is damaged"),
        ({"schema": 1}, "was written by another version"),
        ({"files": {}}, "manifest.json is damaged"),
        ({"files": {"../../config.toml": {"bytes": 1, "sha256": ""}}}, "manifest.json is damaged"),
        ({"metrics": None}, "manifest.json is damaged"),
        ({"step": None}, "manifest.json is damaged"),
    ],
)
def test_a_manifest_that_does_not_fit_is_passed_over_with_the_reason(tmp_path, changes, message):
    older = save(tmp_path, name="step-00000002", step=2)
    rewrite(save(tmp_path), **changes)
    newest, *rest = checkpoint.find(tmp_path)
    assert isinstance(newest, CheckpointError)
    assert message in str(newest)
    assert [found.folder.name for found in rest] == [older.folder.name]


@pytest.mark.parametrize("text", ["", "null", "[]", "{", '"text"', "\x00"])
def test_a_manifest_that_is_invalid_is_passed_over(tmp_path, text):
    written = save(tmp_path)
    (written.folder / "manifest.json").write_text(text)
    (found,) = checkpoint.find(tmp_path)
    assert isinstance(found, CheckpointError)


class Bomb:
    """Runs something where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("place", ["array", "member", "whole file"])
def test_a_pickle_inside_runs_nothing(tmp_path, place):
    written = save(tmp_path)
    path, sign = written.folder / "arrays.npz", tmp_path / "it-ran"
    bomb = pickle.dumps(Bomb(sign))
    pickle.loads(bomb)
    assert sign.exists()
    sign.unlink()
    if place == "array":
        np.savez(path, **{"plugins/mine/weights/0.weight": np.array([Bomb(sign)], dtype=object)})
    elif place == "member":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("plugins/mine/weights/0.weight.npy", bomb)
    else:
        path.write_bytes(bomb)
    content = path.read_bytes()
    import hashlib

    files = {
        **written.manifest["files"],
        "arrays.npz": {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()},
    }
    rewrite(written, files=files)
    (found,) = checkpoint.complete_checkpoints(tmp_path)
    with pytest.raises(CheckpointError, match=r"cannot be read|holds Python objects|do not hold the same arrays"):
        found.read()
    assert not sign.exists()


def test_a_state_that_names_an_array_that_is_not_there_is_damaged(tmp_path):
    import hashlib

    written = save(tmp_path)
    text = json.dumps({"a": {"$array": "../../secret"}}).encode()
    (written.folder / "state.json").write_bytes(text)
    files = {
        **written.manifest["files"],
        "state.json": {"bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()},
    }
    rewrite(written, files=files)
    with pytest.raises(CheckpointError, match=r"do not hold the same arrays: \.\./\.\./secret"):
        checkpoint.complete_checkpoints(tmp_path)[0].read()


def test_removing_takes_away_all_of_one_and_nothing_else(tmp_path):
    older = save(tmp_path, name="step-00000002", step=2)
    checkpoint.remove_checkpoint(save(tmp_path))
    assert names(tmp_path / "checkpoints") == [older.folder.name]


def test_arrays_can_be_read_by_numpy_alone(tmp_path):
    written = save(tmp_path)
    with np.load(io.BytesIO((written.folder / "arrays.npz").read_bytes())) as file:
        assert file["plugins/mine/weights/0.weight"].tolist() == STATE["weights"]["0.weight"].tolist()
    assert isinstance(written, Checkpoint)
