"""A batch in micro-batches comes to the same bits on any number of devices, with nets that measure their rows too."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from nets import BothHeads, Given, Plain, TwoOutputs, apart, convolutions, dense, images, regression
from tiny import Tiny, plugin, settings

from trainer import Engine, UsageError
from trainer.data.batches import Batch, Shard, Share, split_rows
from trainer.metrics import Regression
from trainer.mxnet import gluon, mx
from trainer.runs import checkpoint
from trainer.step.micro_batches import parts_on

MOMENTUM = {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9}
PATHS = pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "recorded"])


def on(devices, task, *plugins, parts, batch_size=6, compiled=True, steps=20, **values):
    chosen = settings(
        epochs=100,
        steps=steps,
        batch_size=batch_size,
        devices=devices,
        optimizer=MOMENTUM,
        micro_batches=parts,
        **values,
    )
    return Engine(task, chosen, plugins, compiled=compiled).fit()


def assert_same_bits(one, several):
    assert apart(one, several) == 0
    assert several.metrics == one.metrics
    assert several.history == one.history


@PATHS
@pytest.mark.parametrize("devices", ["cpu:0,1", "cpu:0,1,2"])
@pytest.mark.parametrize(
    "net", [convolutions, lambda: dense(6, norm=True), lambda: dense(6), Plain], ids=["conv", "norm", "dense", "plain"]
)
def test_devices_come_to_the_bits_of_one_device(devices, net, compiled):
    def task():
        data = [images(number, seed=number) for number in (25, 11)]
        return Given(*data, make_net=net, make_metrics=lambda: [Regression()])

    assert_same_bits(*(on(each, task(), parts=6, compiled=compiled) for each in ("cpu", devices)))


@hypothesis_settings(deadline=None, max_examples=15)
@given(rows=st.integers(6, 30), batch_size=st.integers(1, 12), contexts=st.integers(1, 3), each=st.integers(1, 3))
def test_whatever_the_sizes(rows, batch_size, contexts, each):
    def run(devices):
        task = Given(regression(rows), regression(7, seed=1), make_net=lambda: dense(4, norm=True))
        return on(devices, task, parts=contexts * each, batch_size=batch_size, steps=6)

    devices = "cpu:" + ",".join(map(str, range(contexts)))
    assert_same_bits(run("cpu"), run(devices))


@PATHS
def test_they_come_to_what_a_whole_batch_comes_to(compiled):
    def task():
        return Given(regression(23, weighted=True), regression(9, seed=1, weighted=True), make_net=lambda: dense(6))

    whole, parts = (on("cpu", task(), parts=count, compiled=compiled) for count in (None, 3))
    assert apart(whole, parts) < 1e-6
    assert parts.metrics == pytest.approx(whole.metrics, rel=1e-5, abs=1e-6)


def test_losses_and_outputs_are_of_every_part():
    seen = []

    def look(run):
        losses = np.concatenate([part.asnumpy() for part in run.losses])
        outputs = np.concatenate([part.asnumpy() for part in run.outputs])
        labels = np.concatenate([shard.label.asnumpy() for shard in run.batch.shards if shard.rows])
        seen.append((run.loss, losses, ((outputs - labels) ** 2 / 2).ravel()))

    on("cpu:0,1", Given(regression(23)), plugin(batch_end=look), parts=4, steps=8)
    assert len(seen) == 8
    for mean, losses, computed in seen:
        assert losses == pytest.approx(computed, rel=1e-5)
        assert mean == pytest.approx(computed.mean(), rel=1e-5)


def test_nets_with_several_outputs():
    def task():
        data = regression(13)
        return Given(data, make_net=TwoOutputs, make_loss=BothHeads)

    assert_same_bits(*(on(devices, task(), parts=2) for devices in ("cpu", "cpu:0,1")))


def test_running_statistics_move_once_by_the_mean_over_the_parts():
    def net():
        made = gluon.nn.HybridSequential()
        made.add(gluon.nn.BatchNorm(), gluon.nn.Dense(1))
        return made

    data, parts = regression(25), []
    looking = plugin(batch_begin=lambda run: parts.extend(shard.inputs[0].asnumpy() for shard in run.batch.shards))
    run = on("cpu", Given(data, make_net=net), looking, steps=1, batch_size=25, parts=3)
    held = {name.rpartition("_")[2]: value for name, value in run.copy_weights().items() if "running" in name}
    assert [len(part) for part in parts] == [9, 8, 8]
    assert np.abs(held["mean"] - 0.1 * data.features.mean(axis=0)).max() < 1e-6
    within = sum(len(part) * part.var(axis=0) for part in parts) / 25
    assert np.abs(held["var"] - (0.9 + 0.1 * within)).max() < 1e-6


class OneShard:
    """Batches of a task's own, which knows neither of devices nor of parts."""

    weighted = False
    rows, batches_per_epoch = 23, 4

    def __init__(self, shards=1):
        self.data = images(self.rows)
        self.shards = shards

    def sample(self):
        return (mx.nd.array(self.data.features[:1]),)

    def epoch(self, epoch, skip=0):
        for start in range(skip * 6, 23, 6):
            features, labels = self.data.features[start : start + 6], self.data.labels[start : start + 6]
            shards, first = [], 0
            for number, count in enumerate(split_rows(len(features), self.shards)):
                part = slice(first, first + count)
                first += count
                shards.append(
                    Shard(mx.cpu(number), (mx.nd.array(features[part]),), mx.nd.array(labels[part]), None, count)
                )
            yield Batch(tuple(shards), len(features), np.arange(start, start + len(features)))


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_a_tasks_own_batches_and_a_loader_are_cut_into_the_same_parts(shards):
    def task(source):
        return Given(source, make_net=convolutions)

    first = on("cpu", task(OneShard()), parts=4, batch_size=6)
    assert_same_bits(first, on("cpu:0,1", task(OneShard(shards)), parts=4, batch_size=6))
    data = OneShard().data
    dataset = gluon.data.ArrayDataset(data.features, data.labels)
    loader = gluon.data.DataLoader(dataset, batch_size=6)
    assert_same_bits(first, on("cpu:0,1", task(loader), parts=4, batch_size=6))


def test_a_run_continues_with_other_devices_to_the_same_bits(tmp_path):
    def task():
        return Given(regression(23), regression(9, seed=1), make_net=lambda: dense(6, norm=True))

    whole = on("cpu", task(), parts=4, steps=15)
    saving = plugin(batch_end=lambda run: run.step == 7 and run.save("here"))
    chosen = {"epochs": 100, "batch_size": 6, "optimizer": MOMENTUM, "micro_batches": 4}
    folder = tmp_path / "run"
    folder.mkdir()
    Engine(task(), settings(devices="cpu:0,1", steps=9, **chosen), [saving], run_folder=folder).fit()
    saved = checkpoint.complete_checkpoints(folder)[0]
    assert saved.step == 7
    resumed = Engine(task(), settings(devices="cpu", steps=15, **chosen), [saving], resume_from=saved).fit()
    assert apart(whole, resumed) == 0
    assert resumed.metrics == whole.metrics


@pytest.mark.parametrize(
    ("devices", "parts", "fix"), [("cpu:0,1", 3, "a multiple of 2"), ("cpu:0,1,2", 2, "a multiple of 3")]
)
def test_parts_that_cannot_be_shared_out_are_refused(devices, parts, fix):
    with pytest.raises(UsageError, match=fix) as caught:
        Engine(Tiny(), settings(devices=devices, micro_batches=parts), [])
    assert "--micro-batches" in str(caught.value)


def test_parts_take_turns_on_the_devices():
    assert parts_on(["a", "b"], 8, 2) == ["a", "b", "a", "b"]


@given(rows=st.integers(0, 200), processes=st.integers(1, 5), contexts=st.integers(1, 4))
def test_the_parts_of_a_batch_do_not_depend_on_the_processes(rows, processes, contexts):
    shares = [Share(contexts, rank, processes, fixed=True).of(rows) for rank in range(processes)]
    begins, counts = zip(*shares, strict=True)
    assert [count for part in counts for count in part] == split_rows(rows, processes * contexts)
    assert list(begins) == [sum(map(sum, counts[:rank])) for rank in range(processes)]


def test_it_says_how_one_device_computes_the_same(caplog):
    data = regression(12)
    Engine(Given(data, make_net=lambda: dense(4, norm=True)), settings(devices="cpu:0,1"), [])
    assert "with --micro-batches 2 one device computes the same" in caplog.text
    caplog.clear()
    Engine(Given(data, make_net=lambda: dense(4, norm=True)), settings(devices="cpu:0,1", micro_batches=2), [])
    assert not caplog.text
