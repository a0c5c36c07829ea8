"""Label smoothing: its formula, and that it is for training alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from nets import Given, apart
from soft import SoftTask, in_the_middle, observed, soft
from tiny import engine, plugin, rows

from trainer import Phase, UsageError
from trainer.config.options import build
from trainer.mxnet import gluon, mx
from trainer.testing import TinyImages
from trainer.testing.tiny import TinyWithThreshold
from trainer_plugins.label_smoothing import LabelSmoothing

STEPS = {"epochs": 100, "steps": 20, "batch_size": 5}


@hypothesis_settings(deadline=None, max_examples=25)
@given(number=st.integers(1, 9), classes=st.integers(2, 6), smoothing=st.floats(0.01, 0.99))
def test_one_hot_labels_give_a_part_to_all_classes(number, classes, smoothing):
    task = SoftTask(soft(number, classes=classes))
    (seen,) = observed(task, LabelSmoothing(smoothing=smoothing), steps=1, batch_size=number)
    expected = seen.before.labels * (1 - smoothing) + smoothing / classes
    assert set(np.unique(seen.before.labels)) == {0, 1}
    np.testing.assert_allclose(seen.after.labels, expected, atol=1e-6)
    np.testing.assert_allclose(seen.after.labels.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(seen.after.inputs[0], seen.before.inputs[0])


def test_labels_0_and_1_are_of_two_classes():
    for seen in observed(TinyWithThreshold(train_rows=13), LabelSmoothing(smoothing=0.2), **STEPS):
        assert set(np.unique(seen.before.labels)) <= {0, 1}
        np.testing.assert_allclose(seen.after.labels, np.where(seen.before.labels == 1, 0.9, 0.1), atol=1e-7)


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "recorded"])
def test_the_training_loss_is_that_of_the_smoothed_labels(compiled):
    losses = []

    def look(run):
        labels = run.batch.label.asnumpy().astype(float)
        (outputs,) = run.outputs
        scores = outputs.asnumpy().astype(float)
        logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        hard = np.eye(3)[labels.argmax(axis=1)]
        losses.append([run.loss, *(-(each * logs).sum(axis=1).mean() for each in (hard * 0.7 + 0.1, hard))])

    looking = plugin(phase=Phase.REPORT, batch_end=look)
    engine(SoftTask(soft(13)), LabelSmoothing(smoothing=0.3), looking, compiled=compiled, **STEPS).fit()
    computed, smoothed, hard = np.array(losses).T
    np.testing.assert_allclose(computed, smoothed, rtol=1e-5)
    assert (np.abs(computed - hard) > 1e-3).any()


def test_evaluations_see_labels_as_they_are():
    task = SoftTask(soft(13), soft(7, seed=1))
    run = engine(task, LabelSmoothing(smoothing=0.5), **STEPS).fit()
    np.testing.assert_array_equal(run.evaluation.labels, task.validation.labels)
    scores = run.evaluation.predictions.astype(float)
    logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    assert run.metrics["validation/loss"] == pytest.approx(-(task.validation.labels * logs).sum(axis=1).mean())


def test_the_data_stay_as_they_are_and_no_epoch_smooths_what_is_smooth():
    data = soft(12, weighted=True)
    kept = [part.copy() for part in (data.features, data.labels, data.weights)]
    task = SoftTask(data)
    for _ in range(2):
        for seen in observed(task, LabelSmoothing(), epochs=3, batch_size=4):
            assert set(np.unique(seen.before.labels)) == {0, 1}
            assert seen.after.labels.min() == pytest.approx(0.1 / 3)
    for part, before in zip((data.features, data.labels, data.weights), kept, strict=True):
        np.testing.assert_array_equal(part, before)


@pytest.mark.parametrize("devices", ["cpu:0,1", "cpu:0,1,2"])
def test_contexts_equal_one_context(devices):
    # Batches of 5 of 11 rows: the last one leaves contexts without rows.
    one, several = (
        engine(SoftTask(soft(11), soft(5, seed=1)), LabelSmoothing(), devices=each, **STEPS).fit()
        for each in ("cpu", devices)
    )
    assert apart(one, several) < 1e-6
    assert several.metrics == pytest.approx(one.metrics, rel=1e-5, abs=1e-6)


def test_a_resumed_run_comes_to_the_same_bits(tmp_path):
    whole, resumed = in_the_middle(
        tmp_path, lambda: SoftTask(soft(13), soft(5, seed=1)), lambda: [LabelSmoothing()], **STEPS
    )
    assert apart(whole, resumed) == 0
    assert resumed.metrics == whole.metrics


def test_whole_numbers_of_a_loader_are_smoothed_too():
    data = soft(12)
    labels = data.labels.astype(np.int32)

    def batchify(pairs):
        features, given = zip(*pairs, strict=True)
        return mx.nd.array(np.stack(features)), mx.nd.array(np.stack(given), dtype=np.int32)

    dataset = list(zip(data.features, labels, strict=True))
    loader = gluon.data.DataLoader(gluon.data.SimpleDataset(dataset), 4, batchify_fn=batchify)
    for seen in observed(SoftTask(loader), LabelSmoothing(smoothing=0.3)):
        assert seen.before.labels.dtype == np.int32
        np.testing.assert_allclose(seen.after.labels, seen.before.labels * 0.7 + 0.1, atol=1e-6)


def test_class_numbers_are_refused_and_the_message_says_what_to_do():
    data = rows(8)
    task = Given(data, make_net=lambda: gluon.nn.Dense(2), make_loss=gluon.loss.SoftmaxCrossEntropyLoss)
    with pytest.raises(UsageError, match="are not probabilities") as caught:
        engine(task, LabelSmoothing()).fit()
    assert "sparse_label=False" in str(caught.value)
    assert "label-smoothing" in str(caught.value)


@pytest.mark.parametrize("smoothing", [0, 1, -0.1, float("nan")])
def test_parts_that_make_no_sense_are_refused(smoothing):
    with pytest.raises(UsageError, match="smoothing"):
        build(LabelSmoothing, {"smoothing": smoothing}, where="")


def test_it_lowers_what_training_is_sure_of():
    sure = []
    for plugins in ([], [LabelSmoothing(smoothing=0.5)]):
        run = engine(TinyImages(), *plugins, epochs=40, batch_size=7, optimizer={"learning_rate": 0.5}).fit()
        assert run.metrics["validation/accuracy"] == 1
        sure.append(run.evaluation.predictions.max(axis=1).mean())
    assert sure[1] < sure[0] - 0.1
