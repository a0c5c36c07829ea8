"""ONNX files: they compute what the model does, say what they want, and are not there where they do not."""

import datetime as dt
import json
import sys

import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from modelling import table_of, train
from nets import Given, TwoInputs, convolutions, images, regression
from tiny import Tiny, engine, settings

from trainer import Arrays, Engine, TrainerError, UsageError, fit, load_model
from trainer.decisions.calibrators import Beta, Isotonic, Platt, Temperature, VectorScaling
from trainer.model import export
from trainer.model.export import check_target, copy_folder, to_onnx
from trainer.model.predict import predict_file


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def run(folder):
    return train(folder, dropout=0.2)


@pytest.fixture
def model(run):
    return load_model(run.folder)


def session(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def test_the_file_computes_the_models_probabilities_for_any_number_of_rows(model, folder, tmp_path):
    found = to_onnx(model, tmp_path / "model.onnx")
    assert found.difference < 1e-5
    assert (found.inputs, found.outputs) == ([("data", "float32", "rows×7")], ["output", "prediction"])
    file = session(tmp_path / "model.onnx")
    table = table_of(folder / "test.csv")
    for rows in (1, 3, 200):
        part = table.slice(0, rows)
        logits, probabilities = file.run(None, {"data": model.encode(part).inputs[0]})
        expected = model.predict(part)["probability"].to_numpy()
        np.testing.assert_allclose(probabilities, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(1 / (1 + np.exp(-logits.ravel())), expected, rtol=1e-5, atol=1e-6)
    assert [each.shape for each in file.get_inputs()] == [["rows", 7]]
    assert [each.shape for each in file.get_outputs()] == [["rows", 1], ["rows"]]


@pytest.mark.parametrize(
    "calibrator",
    [
        Temperature(2.7),
        Platt(0.4, -1.0),
        Beta(0.3, 0.8, 0.2),
        Isotonic((0.1, 0.4, 0.6), (0.05, 0.05, 0.7)),
        Isotonic((0.5,), (0.3,)),
    ],
)
def test_the_file_gives_calibrated_probabilities(calibrator, model, folder, tmp_path):
    model.calibrator = calibrator
    found = to_onnx(model, tmp_path / "model.onnx")
    assert found.outputs == ["output", "prediction"]
    table = table_of(folder / "test.csv").slice(0, 50)
    probabilities = session(tmp_path / "model.onnx").run(["prediction"], {"data": model.encode(table).inputs[0]})[0]
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, model.predict(table)["probability"].to_numpy(), rtol=1e-4, atol=1e-6)
    facts = onnx.load(str(tmp_path / "model.onnx")).metadata_props
    assert {each.key: each.value for each in facts}["calibrated"] == calibrator.describe()


@pytest.mark.parametrize("calibrator", [None, Temperature(0.6), VectorScaling((0.5, 1.0, 2.0), (0.1, 0.0, -1.0))])
def test_several_classes_are_calibrated_and_without_class_weights_in_the_file(calibrator, tmp_path):
    draw = np.random.default_rng(0)
    features = draw.normal(size=(90, 4)).astype(np.float32)
    labels = np.where(features[:, 0] > 0.8, "c", np.where(features[:, 1] > 0, "b", "a"))
    table = pa.table({**dict(zip("vwxy", features.T, strict=True)), "label": labels})
    pyarrow.csv.write_csv(table, tmp_path / "some.csv")
    values = {"data": str(tmp_path / "some.csv"), "label": "label", "class_weight": "balanced", "hidden": ()}
    model = load_model(fit("logreg", epochs=1, runs_dir=tmp_path, without=["progress"], **values).folder)
    model.calibrator = calibrator
    to_onnx(model, tmp_path / "model.onnx")
    found = session(tmp_path / "model.onnx").run(["prediction"], {"data": model.encode(table).inputs[0]})[0]
    mine = model.predict(table)
    np.testing.assert_allclose(found, np.column_stack([mine[f"probability/{name}"] for name in "abc"]), rtol=1e-5)


def test_the_metadata_says_what_a_program_has_to_know(model, run, tmp_path):
    to_onnx(model, tmp_path / "model.onnx")
    told = session(tmp_path / "model.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(told["threshold"]) == run.threshold
    assert json.loads(told["classes"]) == ["no", "yes"]
    features = ["age", "size", "job=cook", "job=nurse", "job=smith, senior", "job=(missing)", "member"]
    assert json.loads(told["features"]) == features
    assert told["preprocessing"] == "inputs are the encoded features"
    columns = json.loads(told["encoding"])["table"]["columns"]
    assert columns[0]["mean"] == pytest.approx(model.interface.schema.columns[0].mean)
    file = onnx.load(tmp_path / "model.onnx")
    assert [(each.domain, each.version) for each in file.opset_import] == [("", 13)]
    assert [each.name for each in file.graph.input] == ["data"]


def test_raw_inputs_take_the_tables_numbers_with_gaps(tmp_path):
    run = train(tmp_path, ignore=("id", "job", "member"))
    model = load_model(run.folder)
    found = to_onnx(model, tmp_path / "raw.onnx", raw_inputs=True)
    assert found.inputs == [("data", "float64", "rows×2")]
    table = table_of(tmp_path / "test.csv")
    raw = np.column_stack([table[name].to_numpy() for name in ("age", "size")])
    assert np.isnan(raw).any()
    _, probabilities = session(tmp_path / "raw.onnx").run(None, {"data": raw})
    expected = model.predict(table)["probability"].to_numpy()
    np.testing.assert_allclose(probabilities, expected, rtol=1e-5, atol=1e-6)


def test_raw_inputs_of_texts_are_refused(model, tmp_path):
    with pytest.raises(UsageError, match=r"--raw-inputs: this model's encoding is not plain standardisation"):
        to_onnx(model, tmp_path / "raw.onnx", raw_inputs=True)
    assert list(tmp_path.iterdir()) == []


def test_dates_times_and_durations_are_inputs_like_all_others(tmp_path):
    number = np.arange(240)
    table = pa.table({
        "when": pa.array([dt.datetime(2024, 1, 1) + dt.timedelta(hours=int(each) * 37) for each in number])
        .cast(pa.timestamp("us", "Europe/Berlin")),
        "opens": pa.array([dt.time(int(each) % 24) if each % 11 else None for each in number]),
        "took": pa.array([dt.timedelta(minutes=int(each)) for each in number]),
        "y": ["no" if each % 24 < 12 else "yes" for each in number],
    })  # fmt: skip
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    pyarrow.csv.write_csv(table.set_column(2, "took", pa.array([f"PT{each}M" for each in number])), tmp_path / "t.csv")
    run = fit("logreg", data=tmp_path / "t.parquet", label="y", epochs=2, runs_dir=tmp_path / "runs", name="times",
              without=["progress", "tensorboard", "report", "metrics-log"])  # fmt: skip
    model = load_model(run.folder)
    found = to_onnx(model, tmp_path / "model.onnx")
    assert list(found.features[:4]) == ["when.days", "when.year", "when.month.sin", "when.month.cos"]
    encoded = model.encode(table.to_pandas()).inputs[0]
    _, probabilities = session(tmp_path / "model.onnx").run(None, {"data": encoded})
    report = predict_file(model, str(tmp_path / "t.csv"), str(tmp_path / "scores.parquet"))
    assert report.rows == 240
    written = pyarrow.parquet.read_table(tmp_path / "scores.parquet")["probability"].to_numpy()
    np.testing.assert_allclose(written, probabilities, rtol=1e-5, atol=1e-6)
    assert model.about.card["columns"] == {"when": "date", "opens": "time", "took": "duration"}


def pair(number):
    left = regression(number).features
    return Arrays((left, left[:, ::-1].copy()), left[:, :1])


@pytest.mark.parametrize(
    ("rows", "net"), [(images, convolutions), (pair, TwoInputs)], ids=["convolutions", "two inputs"]
)
def test_other_nets_are_written_too(tmp_path, rows, net):
    task = Given(rows(8), rows(4), net)
    run = Engine(task, settings(), [], run_folder=tmp_path / "run").fit()
    model = load_model(run.folder, task=task)
    to_onnx(model, tmp_path / "net.onnx")
    given = [part.astype(np.float32) for part in rows(4).inputs]
    names = [entry.name for entry in model.about.inputs]
    found = session(tmp_path / "net.onnx").run(None, dict(zip(names, given, strict=True)))
    expected = model.predict(tuple(given) if len(given) > 1 else given[0])["prediction"].to_numpy()
    np.testing.assert_allclose(found[0].ravel(), expected, rtol=1e-4, atol=1e-5)


def test_a_file_that_computes_something_else_is_not_kept(model, tmp_path, monkeypatch):
    real = export._build

    def spoiled(package, model, ids):
        built = real(package, model, ids)
        weight = next(each for each in built.graph.initializer if each.name == "0.weight")
        values = onnx.numpy_helper.to_array(weight) + np.float32(1e-2)
        weight.CopyFrom(onnx.numpy_helper.from_array(values, "0.weight"))
        return built

    monkeypatch.setattr(export, "_build", spoiled)
    (tmp_path / "model.onnx").write_text("before")
    with pytest.raises(TrainerError, match="onnxruntime and this program disagree: output of 1 rows"):
        to_onnx(model, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_text() == "before"


def test_an_operator_that_onnx_does_not_have_is_named(tmp_path):
    from trainer.mxnet import gluon

    class Odd(gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            self.layer = gluon.nn.Dense(1)

        def hybrid_forward(self, F, data):
            return F.erfinv(F.tanh(self.layer(data)) * 0.5)

    task = Tiny(make_net=Odd)
    run = engine(task, folder=tmp_path / "run").fit()
    with pytest.raises(UsageError, match=r"--format onnx: MXNet cannot write this net as ONNX: .*erfinv"):
        to_onnx(load_model(run.folder, task=task), tmp_path / "odd.onnx")
    assert not (tmp_path / "odd.onnx").exists()


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_without_the_extra_it_is_said_what_to_install(tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=r'--format onnx: .*pip install "gluon-trainer\[onnx\]"'):
        check_target(tmp_path / "model.onnx", "onnx", force=False)


def test_a_copy_of_the_folder_is_a_model(model, folder, tmp_path):
    copy_folder(model, tmp_path / "copy")
    table = table_of(folder / "test.csv")
    assert load_model(tmp_path / "copy").predict(table).equals(model.predict(table))
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]
    check_target(tmp_path / "copy", "mxnet", force=True)
    copy_folder(model, tmp_path / "copy")
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


@pytest.mark.parametrize(
    ("name", "form", "message"),
    [
        ("no/model.onnx", "onnx", "there is no folder"),
        ("folder", "onnx", "is a folder"),
        ("there.onnx", "onnx", r"there\.onnx exists\. Choose another name, or pass --force"),
        ("folder", "mxnet", "exists and is not a model folder"),
    ],
)
def test_an_output_that_cannot_be_is_refused(tmp_path, name, form, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "there.onnx").touch()
    with pytest.raises(UsageError, match=message):
        check_target(tmp_path / name, form, force=False)
    if "exists and is" in message:
        with pytest.raises(UsageError, match=message):
            check_target(tmp_path / name, form, force=True)
