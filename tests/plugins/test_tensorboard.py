"""tensorboard: what TensorBoard's own reader finds in the file."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nets import Given, dense, regression
from packages import environment
from tiny import Tiny, engine, plugin
from tiny import rows as tiny_rows

from trainer import PluginError, UsageError, fit
from trainer.catalog.registry import create_plugin
from trainer.metrics import Ranked
from trainer.runs import checkpoint
from trainer_plugins.tensorboard.events import encoded_scalars
from trainer_plugins.tensorboard.tags import KINDS, tag_of


def read(folder):
    """What TensorBoard sees of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder), size_guidance=dict.fromkeys(["scalars", "images", "histograms"], 0))
    accumulator.Reload()
    return accumulator


def scalars(folder):
    seen = read(folder)
    return {tag: [(point.step, point.value) for point in seen.Scalars(tag)] for tag in seen.Tags()["scalars"]}


def made(name="tensorboard", **options):
    return create_plugin(name, {key.replace("_", "-"): value for key, value in options.items()}, where="here")


class Deciding(Tiny):
    """Has a decision threshold."""

    threshold = 0.5


def trained(tmp_path, *plugins, task=None, **values):
    task = task or Deciding(train_rows=12, validation_rows=40, test_rows=20)
    return engine(task, *plugins, folder=tmp_path / "run", **{"epochs": 3, "batch_size": 4, **values}).fit()


def test_the_metrics_of_each_epoch_are_recorded_at_its_last_step(tmp_path):
    run = trained(tmp_path, made())
    seen = scalars(run.folder / "tensorboard")
    for name in ("train/loss", "validation/loss", "validation/f1", "validation/roc-auc"):
        tag = tag_of("scalar", name)
        assert [step for step, _ in seen[tag]] == [3, 6, 9]
        values = [entry[name] for entry in run.history]
        assert [value for _, value in seen[tag]] == pytest.approx(values, rel=1e-6, nan_ok=True)
    assert seen["run/epoch"] == [(3, 1), (6, 2), (9, 3)]
    assert seen["run/learning-rate"] == [(step, pytest.approx(0.1)) for step in (3, 6, 9)]
    assert seen["loss/test"] == [(9, pytest.approx(run.metrics["test/loss"], rel=1e-6))]


def test_the_loss_and_the_rate_are_there_every_so_many_steps(tmp_path):
    losses = {}
    looking = plugin("look", batch_end=lambda run: losses.setdefault(run.step, run.loss))
    run = trained(tmp_path, looking, made(every=2))
    seen = scalars(run.folder / "tensorboard")["loss/train-batch"]
    assert seen == [(step, pytest.approx(losses[step], rel=1e-6)) for step in (2, 4, 6, 8)]


def test_what_others_log_in_a_batch_is_there_at_its_step(tmp_path):
    logging = plugin("log", batch_end=lambda run: run.log({"mine": run.step * 10}) if run.step % 2 else None)
    run = trained(tmp_path, logging, made(every=0))
    seen = scalars(run.folder / "tensorboard")
    assert seen["mine"] == [(1, 10), (3, 30), (5, 50), (7, 70), (9, 90)]
    assert "loss/train-batch" not in seen


def test_histograms_hold_weights_and_gradients_of_every_so_many_epochs(tmp_path):
    run = trained(tmp_path, made(histograms=2), epochs=4)
    seen = read(run.folder / "tensorboard")
    assert sorted(seen.Tags()["histograms"]) == [
        f"{kind}/{name}/histogram" for kind in ("weight-gradients", "weights") for name in ("bias", "weight")
    ]
    for tag in seen.Tags()["histograms"]:
        assert [entry.step for entry in seen.Histograms(tag)] == [6, 12]
    newest = seen.Histograms("weights/weight/histogram")[-1].histogram_value
    assert newest.sum == pytest.approx(run.copy_weights()["weight"].sum(), rel=1e-5)
    assert read(trained(tmp_path / "without", made()).folder / "tensorboard").Tags()["histograms"] == []


def test_charts_of_a_binary_task(tmp_path):
    tuner = create_plugin("threshold-tuner", {"keep-unless-better": False}, where="here")
    run = trained(tmp_path, tuner, made(figures=2))
    seen = read(run.folder / "tensorboard")
    names = [
        "roc",
        "precision-recall",
        "calibration",
        "scores",
        "threshold-curve",
        "confusion-given",
        "confusion-tuned",
    ]
    assert set(seen.Tags()["images"]) == {f"validation/{name}/image" for name in names}
    for tag in seen.Tags()["images"]:
        (image,) = seen.Images(tag)
        assert image.step == 6
        assert image.encoded_image_string.startswith(b"\x89PNG")
        assert image.width > 200


def test_the_precision_recall_curve_is_there_at_the_end(tmp_path):
    run = trained(tmp_path, made())
    seen = read(run.folder / "tensorboard")
    assert seen.summary_metadata["validation/pr-curve"].plugin_data.plugin_name == "pr_curves"
    (event,) = seen.Tensors("validation/pr-curve")
    from tensorboard.util.tensor_util import make_ndarray

    true, false = make_ndarray(event.tensor_proto)[:2]
    labels = run.task.splits(run).validation.labels
    assert (true[0], false[0]) == (labels.sum(), len(labels) - labels.sum())


@pytest.mark.parametrize(
    "task",
    [
        Tiny(train_rows=12, validation_rows=0),
        Given(regression(12), regression(5, seed=1), make_net=lambda: dense(3)),
    ],
    ids=["no validation", "no classes"],
)
def test_a_task_without_classes_has_curves_and_no_charts(tmp_path, task):
    run = trained(tmp_path, made(figures=1), task=task)
    seen = read(run.folder / "tensorboard")
    assert len(seen.Scalars("loss/train")) == 3
    assert seen.Tags()["images"] == []


def test_validation_rows_of_one_class_and_scores_that_are_no_numbers_draw_nothing(tmp_path):
    class OneClass(Deciding):
        def splits(self, run):
            splits = super().splits(run)
            splits.validation.labels[:] = 1
            return splits

    class Broken(Deciding):
        def predictions(self, outputs):
            return super().predictions(outputs) * float("nan")

    for number, task in enumerate((OneClass, Broken)):
        run = trained(tmp_path / str(number), made(figures=1), task=task(train_rows=12, validation_rows=10))
        assert run.status == "finished"
        assert [each for each in run.decisions if each.action == "disable"] == []
        seen = read(run.folder / "tensorboard")
        assert seen.Tags()["images"] == []
        assert "validation/pr-curve" not in seen.Tags()["tensors"]


def test_several_classes_have_a_confusion_matrix(tmp_path):
    class Classes(Given):
        def predictions(self, outputs):
            return outputs.softmax()

    def data(seed):
        given = regression(30, seed=seed)
        return type(given)(given.features, np.arange(30) % 3)

    from trainer.mxnet import gluon

    task = Classes(data(0), data(1), make_net=lambda: gluon.nn.Dense(3), make_loss=gluon.loss.SoftmaxCrossEntropyLoss)
    run = trained(tmp_path, made(figures=1), task=task)
    assert [image.step for image in read(run.folder / "tensorboard").Images("validation/confusion/image")] == [
        8,
        16,
        24,
    ]


NAMES = st.lists(st.sampled_from([*KINDS, "train", "test", "loss", "train-batch", "batch-loss", "epoch", "run", ""]))


@given(
    st.lists(
        st.tuples(st.sampled_from(KINDS), NAMES.map("/".join) | st.just("_hparams_/session_start_info")), unique=True
    )
)
def test_no_tag_serves_two_values(values):
    tags = [tag_of(*value) for value in values]
    assert len(set(tags)) == len(tags)
    assert not {"_hparams_/session_start_info", "_hparams_/session_end_info"} & set(tags)


def test_hyperparameters_are_recorded_with_the_final_metrics(tmp_path):
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    run = fit("logreg", epochs=2, hidden=(4, 3), plugins=["tensorboard"], without=["progress"], runs_dir=tmp_path)
    metadata = read(run.folder / "tensorboard").summary_metadata
    start = HParamsPluginData.FromString(metadata["_hparams_/session_start_info"].plugin_data.content)
    values = start.session_start_info.hparams
    assert values["epochs"].number_value == 2
    assert values["optimizer.learning-rate"].number_value == pytest.approx(0.1)
    assert values["optimizer.name"].string_value == "sgd"
    assert values["task.hidden"].string_value == "4,3"
    assert values["task.standardize"].bool_value is run.task.standardize
    assert values["threshold-tuner.objective"].string_value == "f1"
    assert "threshold-tuner" in values["plugins"].string_value.split(",")
    assert "_hparams_/session_end_info" in metadata


def test_the_configuration_and_the_graph_are_there(tmp_path):
    run = fit("logreg", epochs=1, plugins=["tensorboard"], without=["progress"], runs_dir=tmp_path)
    seen = read(run.folder / "tensorboard")
    text = seen.Tensors("config/text")[0].tensor_proto.string_val[0].decode()
    lines = (run.folder / "config.toml").read_text().splitlines()
    assert [line.removeprefix("    ") for line in text.splitlines()] == lines
    nodes = {node.name: node for node in _graph(seen).node}
    layers = [node for node in nodes.values() if node.op == "FullyConnected"]
    assert len(layers) == 4
    assert all(name in nodes for node in nodes.values() for name in node.input)


def _graph(accumulator):
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    return GraphDef.FromString(accumulator.Graph().SerializeToString())


@pytest.mark.parametrize("compiled", [True, False])
def test_a_net_that_is_not_compiled_has_no_graph(tmp_path, compiled):
    run = trained(tmp_path, made(), compiled=compiled)
    assert bool(read(run.folder / "tensorboard").Tags()["graph"]) is compiled


def test_two_of_them_write_side_by_side(tmp_path):
    run = trained(tmp_path, made("tensorboard@a", every=1), made("tensorboard@b", every=0))
    assert len(scalars(run.folder / "tensorboard-a")["loss/train-batch"]) == 9
    assert "loss/train-batch" not in scalars(run.folder / "tensorboard-b")


def test_a_run_without_a_folder_records_nothing(tmp_path):
    assert engine(Deciding(), made(figures=1)).fit().status == "finished"


def test_values_that_are_not_finite_are_recorded_as_such(tmp_path):
    values = [float("nan"), float("inf"), 1.0]
    logging = plugin("log", epoch_end=lambda run: run.log({"odd": values[run.epoch - 1]}))
    run = trained(tmp_path, logging, made())
    seen = [value for _, value in scalars(run.folder / "tensorboard")["odd"]]
    assert seen == pytest.approx(values, nan_ok=True)


# ---- resuming --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [2, 6, 7])
def test_after_a_resume_the_curves_continue_without_a_gap_or_a_doubled_point(tmp_path, at):
    def plugins():
        return [made(every=1, histograms=1)]

    def stop(run):
        if run.step == at + 1:
            raise ValueError("killed")

    whole = trained(tmp_path / "whole", *plugins())
    saving = plugin("save", batch_end=lambda run: run.save("now") if run.step == at else None)
    with pytest.raises(PluginError, match="killed"):
        trained(tmp_path, saving, *plugins(), plugin("stop", batch_end=stop))
    (saved,) = checkpoint.complete_checkpoints(tmp_path / "run")
    run = trained(tmp_path, *plugins(), resume_from=saved)
    assert len(list((run.folder / "tensorboard").iterdir())) == 1
    assert scalars(run.folder / "tensorboard") == scalars(whole.folder / "tensorboard")
    once, again = (read(each.folder / "tensorboard") for each in (whole, run))
    assert {tag: [entry.step for entry in once.Histograms(tag)] for tag in once.Tags()["histograms"]} == {
        tag: [entry.step for entry in again.Histograms(tag)] for tag in again.Tags()["histograms"]
    }
    assert [[tag for tag in seen.summary_metadata if tag.startswith("_hparams_/")] for seen in (once, again)] == [
        ["_hparams_/session_start_info", "_hparams_/session_end_info"]
    ] * 2


def test_a_file_that_was_begun_after_the_checkpoint_is_not_read_twice(tmp_path):
    saving = plugin("save", epoch_end=lambda run: run.save("now") if run.epoch == 1 else None)
    first = trained(tmp_path, saving, made(every=1))
    saved = checkpoint.complete_checkpoints(first.folder)[0]
    extra = first.folder / "tensorboard" / "events.out.tfevents.9999999999.elsewhere.1"
    extra.write_bytes(next((first.folder / "tensorboard").iterdir()).read_bytes())
    run = trained(tmp_path, made(every=1), resume_from=saved)
    assert [step for step, _ in scalars(run.folder / "tensorboard")["loss/train-batch"]] == list(range(1, 10))


# ---- what goes wrong -------------------------------------------------------------------------------------------------


def test_a_place_that_cannot_be_written_is_said_before_training(tmp_path):
    blocked = plugin("block", setup=lambda run: (run.folder / "tensorboard").write_text("a file"))
    with pytest.raises(UsageError, match=r"plugin 'tensorboard': .*tensorboard cannot be written"):
        trained(tmp_path, blocked, made())
    assert not (tmp_path / "run").exists()


FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
from trainer import fit
run = fit("logreg", epochs=40, train_rows=100, name="run", plugins=["tensorboard"],
          without=["progress", "checkpoint", "metrics-log", "report"])
print(run.status, [each.plugin for each in run.decisions if each.action == "disable"])
"""


def test_a_full_disk_switches_it_off_with_a_warning_and_the_run_continues(tmp_path):
    env = {**environment(), "PYTHONWARNINGS": "default"}
    done = subprocess.run(
        [sys.executable, "-c", FULL], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "finished ['tensorboard']"
    assert "File too large. It is switched off, the run continues." in done.stderr
    points = scalars(tmp_path / "runs" / "logreg" / "run" / "tensorboard")["loss/train"]
    assert [step for step, _ in points] == list(range(10, 10 * len(points) + 1, 10))
    assert 5 < len(points) < 40


# ---- curves ----------------------------------------------------------------------------------------------------------


def test_the_calibration_curve_is_that_of_scikit_learn():
    from sklearn.calibration import calibration_curve as reference

    from trainer_plugins.report.curves import binary_curves

    generator = np.random.default_rng(0)
    scores, labels = generator.uniform(size=500), generator.integers(0, 2, size=500)
    rates, means = reference(labels, scores, n_bins=10)
    ours = binary_curves(Ranked(scores, labels), {}).calibration
    assert ours["mean"] == pytest.approx(means)
    assert ours["rate"] == pytest.approx(rates)
    assert sum(ours["share"]) == pytest.approx(1)


def test_the_curves_are_those_of_scikit_learn():
    from sklearn.metrics import precision_recall_curve, roc_curve

    from trainer_plugins.report.charts import precision_recall, roc
    from trainer_plugins.report.curves import binary_curves

    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, size=300)
    scores = np.round(np.clip(labels * 0.3 + generator.uniform(size=300) * 0.7, 0, 1), 2)
    weights = generator.uniform(0.5, 2, size=300)
    curves = binary_curves(Ranked(scores, labels, weights), {})
    false, true, _ = roc_curve(labels, scores, sample_weight=weights, drop_intermediate=False)
    drawn = roc(curves).axes[0].lines[0].get_xydata()
    assert drawn[:, 0] == pytest.approx(false)
    assert drawn[:, 1] == pytest.approx(true)
    precision, recall, _ = precision_recall_curve(labels, scores, sample_weight=weights)
    drawn = precision_recall(curves).axes[0].lines[0].get_xydata()
    assert drawn[:, 0] == pytest.approx(recall[:-1][::-1])
    assert drawn[:, 1] == pytest.approx(precision[:-1][::-1])


def test_many_rows_make_no_giant_chart():
    from trainer_plugins.report.charts import binary_charts
    from trainer_plugins.report.curves import binary_curves
    from trainer_plugins.report.points import POINTS

    generator = np.random.default_rng(0)
    curves = binary_curves(Ranked(generator.uniform(size=20_000), generator.integers(0, 2, 20_000)), {"a": 0.5})
    charts = binary_charts(curves)
    for name in ("roc", "precision-recall", "threshold-curve"):
        assert max(len(line.get_xdata()) for line in charts[name].axes[0].lines) <= POINTS


def test_nothing_heavy_is_imported_before_it_is_used(tmp_path):
    script = (
        "import sys\nfrom trainer import fit\n"
        "fit('logreg', epochs=1, plugins=['tensorboard'], without=['progress'])\n"
        "print([name for name in ('matplotlib', 'sklearn', 'tensorboard') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env=os.environ,
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert json.loads((next(tmp_path.glob("runs/*/*")) / "run.json").read_text())["status"] == "finished"
    assert len(tiny_rows(3)) == 3


@given(
    st.dictionaries(st.text(min_size=1, max_size=200), st.floats() | st.integers(0, 1000), min_size=1, max_size=3),
    st.integers(0, 2**62),
)
def test_scalars_are_the_bytes_that_protobuf_writes(values, step):
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary

    value = [Summary.Value(tag=tag_of("scalar", name), simple_value=number) for name, number in values.items()]
    expected = Event(wall_time=1.5, step=step, summary=Summary(value=value)).SerializeToString()
    assert encoded_scalars(values, step, wall_time=1.5) == expected


def test_a_task_without_images_is_asked_for_them_once(tmp_path):
    asked = []

    class Numbers(Deciding):
        def pictures(self, inputs):
            asked.append(len(inputs))

    trained(tmp_path, made(), task=Numbers(train_rows=12, validation_rows=40))
    assert len(asked) == 1
