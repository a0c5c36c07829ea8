"""The report on many classes: a table that can be read, what is confused, and pictures of the worst mistakes."""

import base64
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import mutations
from photos import SMALL_NET, write_colours
from PIL import Image
from sklearn.metrics import precision_recall_fscore_support

from trainer import fit
from trainer.runs import entry_of
from trainer_plugins.report.classes import by_class, rows_of
from trainer_plugins.report.document import read
from trainer_plugins.report.page import page

QUIET = ("progress", "tensorboard", "checkpoint", "metrics-log")


@given(seed=st.integers(0, 50), classes=st.integers(2, 9), weighted=st.booleans())
def test_precision_recall_and_support_are_those_of_scikit_learn(seed, classes, weighted):
    generator = np.random.default_rng(seed)
    predictions, labels = generator.random((60, classes)), generator.integers(0, classes, 60)
    weights = generator.integers(1, 4, 60) if weighted else None
    found = by_class(predictions, labels, weights)
    precision, recall, _, support = precision_recall_fscore_support(
        labels, predictions.argmax(axis=1), labels=range(classes), sample_weight=weights, zero_division=np.nan
    )
    for name, wanted in (("precision", precision), ("recall", recall), ("support", support)):
        np.testing.assert_allclose([np.nan if each is None else each for each in found[name]], wanted)
    wrong = (predictions.argmax(axis=1) != labels) * (1 if weights is None else weights)
    assert sum(count for *_, count in found["confused"]) <= wrong.sum()


def test_the_worst_class_comes_first_and_one_without_rows_last():
    found = {"precision": [1.0, 0.5, None], "recall": [0.9, 0.2, None], "support": [10.0, 5.0, 0.0]}
    assert [row.name for row in rows_of(found, ["a", "b", "c"])] == ["b", "a", "c"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    images = write_colours(folder / "data", 10)
    options = {"epochs": 1, "batch_size": 8, "workers": 0, "runs_dir": folder, "name": "one", "without": QUIET}
    return fit("image-classification", data=images, test_split=0.5, seed=3, **SMALL_NET, **options)


def test_mistakes_are_the_most_certain_ones_with_their_pictures(run):
    data = json.loads((run.folder / "report.json").read_text())["splits"]["test"]
    mistakes = data["mistakes"]
    confused = sum(count for *_, count in data["by_class"]["confused"])
    assert 0 < len(mistakes) == min(confused, 8)
    certain = [each["probability"] for each in mistakes]
    assert certain == sorted(certain, reverse=True)
    for each in mistakes:
        assert each["actual"] != each["predicted"]
        image = np.asarray(Image.open(io.BytesIO(base64.b64decode(each["picture"]))))
        assert image.shape == (16, 16, 3)
        assert image.mean(axis=(0, 1)).argmax() == 2 - each["actual"]  # the colour that the class is of
    text = page(read(run.folder))
    assert text.count("data:image/png;base64,") == sum(
        len(each["mistakes"]) for each in json.loads((run.folder / "report.json").read_text())["splits"].values()
    )


def test_two_hundred_classes_have_a_table_and_no_matrix(run):
    path = run.folder / "report.json"
    whole = path.read_text()
    data = json.loads(whole)
    generator = np.random.default_rng(0)
    predictions, labels = generator.random((2000, 200)), generator.integers(0, 200, 2000)
    data["splits"]["test"] |= {
        "names": [f"class <{number}>" for number in range(200)],
        "by_class": by_class(predictions, labels, None),
        "mistakes": [],
    }
    del data["splits"]["test"]["classes"]
    path.write_text(json.dumps(data))
    text = page(read(run.folder))
    path.write_text(whole)
    assert text.count('<th scope="row">class &lt;') == 200
    assert "predicted class &lt;" not in text
    assert "Most often confused" in text


def test_every_field_of_the_reports_data(run, monkeypatch, capsys, tmp_path):
    from trainer_plugins.report.command import report

    monkeypatch.chdir(tmp_path)
    path = run.folder / "report.json"
    given = json.loads(path.read_text())
    given["splits"].pop("validation")
    for number, (what, value) in enumerate(mutations(given)):
        if number % 157 == 0:  # a page takes a while
            path.write_text(value if isinstance(value, str) else json.dumps(value))
            report(str(run.folder), tmp_path / "report.html", force=True, runs_dir=tmp_path)
            assert "<html" in (tmp_path / "report.html").read_text(), what
    assert entry_of(run.folder).status == "finished"
