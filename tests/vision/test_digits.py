"""The task as its user has it: real folders of images, real processes, a net of the zoo."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from packages import in_process, trainer
from photos import write_digits
from PIL import Image

from trainer import load_model
from trainer.runs import checkpoint
from trainer.runs.state import differences

pytestmark = pytest.mark.slow

OPTIONS = [
    *("--data", "digits", "--model", "cifar_resnet20_v1", "--image-size", "16", "--augmentation", "crop"),
    *("--batch-size", "32", "--epochs", "3", "--micro-batches", "2"),
    *("--plugin", "lr-schedule", "--set", "lr-schedule.schedule=gluoncv-cosine", "--set", "lr-schedule.warmup=1"),
    *("--set", "checkpoint.every-steps=20", "--set", "tensorboard.figures=3"),
    *("--no-plugin", "progress", "--set", "report.html=never"),
]


LEARNT = 0.9
"""An accuracy far above the 0.1 of chance, after three epochs."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vision")
    write_digits(folder / "digits")
    done = trainer("run", "image-classification", *OPTIONS, "--name", "one", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def run_folder(folder, name):
    return folder / "runs" / "image-classification" / name


def logged_metrics(folder, name):
    lines = (run_folder(folder, name) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "time"} for line in lines]


def last_state(folder, name):
    state = checkpoint.complete_checkpoints(run_folder(folder, name))[0].read()
    for plugin in ("metrics-log", "tensorboard"):
        state["plugins"].pop(plugin, None)
    del state["made_by"]["config"]["devices"]
    return state


def test_digits_are_told_apart(folder):
    found = in_process("run", "image-classification", *OPTIONS, "--dry-run", cwd=folder).stdout
    assert "images: 1437 train, 180 validation, 180 test" in found
    assert "classes: 10, training images of each: 0 142, 1 146" in found
    metrics = logged_metrics(folder, "one")[-1]["metrics"]
    assert metrics["test/accuracy"] >= LEARNT
    assert metrics["test/top-5-accuracy"] >= metrics["test/accuracy"]
    assert metrics["test/macro-f1"] == pytest.approx(metrics["test/accuracy"], abs=0.03)
    by_class = [metrics[f"test/recall/{digit}"] for digit in range(10)]
    assert np.mean(by_class) == pytest.approx(metrics["test/accuracy"], abs=0.02)


def test_two_contexts_killed_and_resumed_come_to_the_bits_of_one(folder):
    command = ["run", "image-classification", *OPTIONS, "--devices", "cpu:0,1", "--name", "two"]
    process = subprocess.Popen([sys.executable, "-m", "trainer", *command], cwd=folder, start_new_session=True)
    log = run_folder(folder, "two") / "metrics.jsonl"
    end = time.monotonic() + 200
    # In the second epoch, somewhere between two checkpoints.
    while time.monotonic() < end and process.poll() is None:
        if log.exists() and '"epoch": 1' in log.read_text(encoding="utf-8"):
            break
        time.sleep(0.05)
    time.sleep(0.4)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    newest = checkpoint.complete_checkpoints(run_folder(folder, "two"))[0]
    assert 0 < newest.step < 135
    done = trainer("resume", "two", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert differences(last_state(folder, "one"), last_state(folder, "two")) == []
    assert logged_metrics(folder, "one")[-1]["metrics"] == logged_metrics(folder, "two")[-1]["metrics"]


def test_evaluate_gives_the_runs_own_metrics(folder):
    # The test split as folders of its own, made from what the run says that it kept for the test.
    done = in_process("evaluate", "one", "--data", "digits", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    accuracy = next(value for name, value in _flat(found) if name.endswith("accuracy") and "class" not in name)
    assert accuracy >= LEARNT


def _flat(values, name=""):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{name}{key}/")
        else:
            yield f"{name}{key}", value


def test_predict_gives_a_table_of_a_folder(folder, tmp_path):
    shutil.copytree(folder / "digits" / "3", tmp_path / "some" / "deep")
    (tmp_path / "some" / "notes.txt").touch()
    done = in_process("predict", "one", "--data", tmp_path / "some", "--output", tmp_path / "out.csv", cwd=folder)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(list((folder / "digits" / "3").iterdir()))
    assert list(rows[0])[:3] == ["path", "class", "probability"]
    assert np.mean([row["class"] == "3" for row in rows]) > 0.9
    for row in rows[:5]:
        scores = [float(row[f"probability-{digit}"]) for digit in range(10)]
        assert sum(scores) == pytest.approx(1, abs=1e-5)
        assert float(row["probability"]) == max(scores)
        assert Path(row["path"]).parent.name == "deep"


def test_a_model_takes_paths_images_and_arrays(folder):
    model = load_model(run_folder(folder, "one"))
    path = next((folder / "digits" / "7").iterdir())
    with Image.open(path) as image:
        array = np.asarray(image.convert("RGB"))
        given = [model.predict(str(path)), model.predict(image), model.predict([array]), model.predict(array[None])]
    for found in given:
        assert found.column("class").to_pylist() == ["7"]
        assert found.drop(["path"] if "path" in found.column_names else []) == given[0]


def test_the_exported_model_agrees(folder, tmp_path):
    done = in_process("export", "one", "--format", "onnx", "--output", tmp_path / "model.onnx", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert float(re.search(r"([\d.e-]+)", done.stdout.rpartition("differ")[2])[1]) < 1e-4


def test_tensorboard_shows_images_with_predictions_and_the_confusion_matrix(folder):
    import io

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    seen = EventAccumulator(str(run_folder(folder, "one") / "tensorboard"), size_guidance={"images": 0})
    seen.Reload()
    assert {"validation/samples/image", "validation/confusion/image"} <= set(seen.Tags()["images"])
    for tag in ("validation/samples/image", "validation/confusion/image"):
        picture = Image.open(io.BytesIO(seen.Images(tag)[-1].encoded_image_string))
        assert min(picture.size) > 100
        assert len(np.unique(np.asarray(picture.convert("L")))) > 10


def test_the_report_names_the_classes(folder):
    done = in_process("report", "one", cwd=folder)
    assert done.returncode == 0, done.stderr
    page = (run_folder(folder, "one") / "report.html").read_text(encoding="utf-8")
    assert "macro-f1" in page
    assert "images: 1437 train, 180 validation, 180 test" in page


def test_other_images_begin_with_its_weights(folder, tmp_path):
    parameters = next((run_folder(folder, "one") / "model").glob("*.params"))
    common = ["--data", folder / "digits", "--model", "cifar_resnet20_v1", "--image-size", "16", "--epochs", "1"]
    common += ["--augmentation", "none", "--no-plugin", "progress", "--no-plugin", "tensorboard", "--batch-size", "64"]
    common += ["--init-params", parameters, "--learning-rate", "0.01", "--no-plugin", "report"]
    done = in_process("run", "image-classification", *common, "--freeze", "features", "--name", "more", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert logged_metrics(tmp_path, "more")[-1]["metrics"]["test/accuracy"] >= LEARNT
    before, after = (load_model(run_folder(place, name)) for place, name in ((folder, "one"), (tmp_path, "more")))
    first, second = (_weights(model) for model in (before, after))
    changed = {name for name, value in first.items() if not np.array_equal(value, second[name])}
    assert changed
    assert all(name.startswith("output") for name in changed), changed


def _weights(model):
    from trainer.mxnet import mx

    found = mx.nd.load(str(next(model.folder.glob("*.params"))))
    return {re.sub("^(arg|aux):", "", name): value.asnumpy() for name, value in found.items()}
