"""Evaluations whose rows take more than --memory: metrics, thresholds and charts as in memory, or a clear error."""

import numpy as np
import pytest
from tiny import Tiny, engine, plugin, rows

from trainer import Splits, UsageError
from trainer.decisions.thresholds import OBJECTIVES, Partitions, Resamples
from trainer.evaluation import of_state, state_of
from trainer.metrics import Memory, MulticlassClassification, Ranked
from trainer.metrics.ranked import Part
from trainer.metrics.sorted_rows import SortedRows
from trainer.mxnet import mx
from trainer_plugins.report.curves import binary_curves, binary_ranking, class_rows, of_newest
from trainer_plugins.threshold_tuner import ThresholdTuner

DEMANDS = {"beta": 2.0, "false_positive_cost": 1.0, "false_negative_cost": 3.0, "min_precision": 0.6, "min_recall": 0.6}
DEMANDS["max_fpr"] = 0.4


class Judged(Tiny):
    """Enough rows to tune on, and a test split."""

    threshold = 0.5

    def splits(self, run):
        return Splits(rows(40, seed=0), rows(300, seed=1), rows(90, seed=2))


def trained(*plugins, memory, task=None):
    return engine(task or Judged(), *plugins, epochs=2, memory=memory).fit()


def test_a_run_logs_the_same_metrics_and_thresholds_however_little_memory_there_is():
    runs = [trained(ThresholdTuner(min_rows=2, keep_unless_better=False), memory=memory) for memory in ("1GB", "1kB")]
    assert runs[0].evaluation.kept
    assert not runs[1].evaluation.kept
    assert runs[0].history == runs[1].history
    assert repr(runs[0].metrics) == repr(runs[1].metrics)
    assert runs[0].threshold == runs[1].threshold != 0.5
    assert runs[0].evaluation.rows == runs[1].evaluation.rows == 90


@pytest.mark.parametrize("column", ["predictions", "labels", "weights"])
def test_a_plugin_that_reads_rows_which_are_not_kept_is_named_with_what_to_do(column):
    reading = plugin("reads", evaluate_end=lambda run: getattr(run.evaluation, column))
    with pytest.raises(UsageError) as raised:
        trained(reading, memory="1kB")
    said = str(raised.value)
    assert "plugin 'reads'" in said
    assert "all 300 validation rows" in said
    assert "--memory 1MB" in said
    assert "--no-plugin reads" in said


def test_outside_plugins_there_is_none_to_leave_out():
    run = trained(memory="1kB")
    with pytest.raises(UsageError, match=r"^run.evaluation: it reads the predictions of all 90 test rows") as raised:
        _ = run.evaluation.predictions
    assert "--no-plugin" not in str(raised.value)


def test_a_bootstrap_needs_the_rows():
    with pytest.raises(UsageError, match="all 300 validation rows"):
        trained(ThresholdTuner(bootstrap=2), memory="1kB")


def test_a_task_that_collects_nothing_is_tuned_all_the_same():
    class Streaming(Judged):
        collect = False

    run = trained(ThresholdTuner(), memory="1GB", task=Streaming())
    assert run.threshold == trained(ThresholdTuner(), memory="1GB").threshold
    assert run.evaluation.kept
    assert run.evaluation.labels.size == 0
    with pytest.raises(UsageError, match="bootstrap needs the rows, which the task 'tiny' does not collect"):
        trained(ThresholdTuner(bootstrap=1), memory="1GB", task=Streaming())


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_a_threshold_from_files_is_the_one_from_memory(objective, monkeypatch):
    generator = np.random.default_rng(0)
    scores = np.round(generator.random(3000), 2)
    labels, weights = generator.random(3000) < scores, generator.random(3000)
    stored = SortedRows(Memory(96 * 100))
    for start in range(0, 3000, 50):
        part = slice(start, start + 50)
        stored.add(Part(scores[part], labels[part], weights[part]))
    expected = Partitions(Ranked(scores, labels, weights)).best(objective, DEMANDS)
    # Small blocks, and the objective computed twice.
    monkeypatch.setattr("trainer.metrics.ranked.POINTS", 7)
    monkeypatch.setattr("trainer.metrics.sorted_rows.POINTS", 7)
    monkeypatch.setattr("trainer.decisions.thresholds.KEPT", 0)
    assert Partitions(stored.ranked()).best(objective, DEMANDS) == expected
    resampled = Resamples(scores, labels).thresholds(np.array([weights]), objective, DEMANDS)
    assert resampled[0] == pytest.approx(expected.threshold)


def test_charts_of_two_classes_are_those_of_all_rows():
    runs = [trained(memory=memory) for memory in ("1GB", "1kB")]
    first, second = (binary_curves(binary_ranking(run), {"given": 0.5}) for run in runs)
    assert first == second


def test_charts_of_several_classes_are_of_a_sample():
    class Classes(Tiny):
        def metrics(self):
            return [MulticlassClassification(roc_auc=True)]

        def predictions(self, outputs):
            positive = outputs.sigmoid()
            return mx.nd.concat(1 - positive, positive, dim=1)

    kept, sampled = (trained(memory=memory, task=Classes(validation_rows=300)) for memory in ("1GB", "1kB"))
    assert kept.history == sampled.history
    predictions, labels, weights = class_rows(sampled)
    assert predictions.shape == (len(labels), 2)
    assert 0 < len(labels) < 100
    assert weights is None
    assert of_newest(sampled)["sampled"] == len(labels)
    assert len(class_rows(kept)[1]) == 300
    assert "sampled" not in of_newest(kept)


def test_a_checkpoint_keeps_the_sample_and_the_reason():
    run = trained(memory="1kB")
    again = of_state(state_of(run.evaluation), lambda: "reads")
    assert (again.rows, again.loss, again.kept) == (run.evaluation.rows, run.evaluation.loss, False)
    np.testing.assert_array_equal(again.sample[0], run.evaluation.sample[0])
    with pytest.raises(UsageError, match="--no-plugin reads"):
        _ = again.labels


def test_several_processes_of_a_machine_share_the_memory(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "trainer.config.settings.Settings.memory_bytes", lambda _, processes=1: asked.append(processes) or 10**6
    )
    run = engine(Judged(), epochs=1, memory="4MB")
    run.run.processes.local_size = 3
    # The order of the rows was decided before.
    asked.clear()
    run.fit()
    assert set(asked) == {3}
