"""Mixup and CutMix: what they make of a batch, and that it is a function of seed, name and step."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from nets import Given, apart
from soft import SoftTask, in_the_middle, observed, soft
from tiny import engine, plugin, rows

from trainer import Arrays, Phase, UsageError
from trainer.config.options import build
from trainer.mxnet import gluon, mx
from trainer.seeds import derive
from trainer_plugins.label_smoothing import LabelSmoothing
from trainer_plugins.mixing import BLOCK, CutMix, Mixup

BOTH = pytest.mark.parametrize("mixing", [Mixup, CutMix])
DEVICES = {1: "cpu", 2: "cpu:0,1", 3: "cpu:0,1,2"}
IMAGE = (2, 5, 4)
STEPS = {"epochs": 100, "steps": 20, "batch_size": 5}


def images(number=13, **values):
    return soft(number, **{"shape": IMAGE, **values})


def task(number=13, **values):
    return SoftTask(images(number, **values), images(7, seed=1, **values))


def share_and_partners(seen):
    """What the labels say, where each row has a class of its own: the share that stays, and each row's partner.

    A share of None: every row is its own partner, so that nothing shows which one it was.
    """
    own = seen.before.labels.argmax(axis=1)
    rest = seen.after.labels.copy()
    stays = rest[np.arange(len(own)), own].copy()
    rest[np.arange(len(own)), own] = -1
    row_of = {int(number): row for row, number in enumerate(own)}
    partners = [row_of[int(other.argmax())] if other.max() > 0 else row for row, other in enumerate(rest)]
    other = [row for row, partner in enumerate(partners) if partner != row]
    if not other:
        return None, np.array(partners)
    share = float(stays[other[0]])
    np.testing.assert_allclose(stays[other], share, atol=1e-6)
    return share, np.array(partners)


@hypothesis_settings(deadline=None, max_examples=40)
@given(
    number=st.integers(1, 9),
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    alpha=st.floats(0.05, 8),
    seed=st.integers(0, 1000),
    contexts=st.integers(1, 3),
    weighted=st.booleans(),
)
def test_mixup_takes_weighted_means_of_rows_labels_and_weights(number, shape, alpha, seed, contexts, weighted):
    number = max(number, contexts)
    data = soft(number, shape=shape, classes=max(number, 2), weighted=weighted)
    values = {"batch_size": number, "steps": 1, "seed": seed, "devices": DEVICES[contexts]}
    (seen,) = observed(SoftTask(data), Mixup(alpha=alpha), **values)
    share, partners = share_and_partners(seen)
    if share is None:
        share = 1.0
    else:
        # A share of nearly 1 leaves nothing of a partner in float32; otherwise they are a permutation.
        assert sorted(partners) == list(range(number))
    assert 0 <= share <= 1
    for before, after in zip(seen.before.arrays, seen.after.arrays, strict=True):
        expected = share * before.astype(float) + (1 - share) * before[partners].astype(float)
        np.testing.assert_allclose(after, expected, atol=2e-6)


@hypothesis_settings(deadline=None, max_examples=40)
@given(
    number=st.integers(2, 7),
    channels=st.integers(1, 3),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    alpha=st.floats(0.05, 8),
    seed=st.integers(0, 1000),
    contexts=st.integers(1, 2),
)
def test_cutmix_puts_one_rectangle_of_a_partner_and_its_share_of_the_label(
    number, channels, height, width, alpha, seed, contexts
):
    data = soft(number, shape=(channels, height, width), classes=number, weighted=True)
    values = {"batch_size": number, "steps": 1, "seed": seed, "devices": DEVICES[contexts]}
    (seen,) = observed(SoftTask(data), CutMix(alpha=alpha), **values)
    share, partners = share_and_partners(seen)
    if share is None:
        for before, after in zip(seen.before.arrays, seen.after.arrays, strict=True):
            np.testing.assert_allclose(after, before, atol=2e-6)
        return
    assert sorted(partners) == list(range(number))
    (before,), (after,) = seen.before.inputs, seen.after.inputs
    moved = [row for row, partner in enumerate(partners) if partner != row]
    changed = (after != before)[moved]
    # Pixels are drawn from a normal distribution: no two are equal.
    mask = changed[0, 0]
    assert (changed == mask).all()
    np.testing.assert_array_equal(after, np.where(mask, before[partners], before))
    height_of, width_of = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    for places in (height_of, width_of):
        assert (np.diff(places) == 1).all()
    assert mask.sum() == len(height_of) * len(width_of)
    assert share == pytest.approx(1 - mask.sum() / mask.size, abs=1e-6)
    weights = seen.before.weights
    np.testing.assert_allclose(seen.after.weights, share * weights + (1 - share) * weights[partners], atol=2e-6)


def test_a_rectangle_has_the_area_that_was_drawn_where_nothing_is_cut_off():
    # Beta(alpha, alpha) with a large alpha is nearly always one half.
    data = soft(6, shape=(1, 40, 20), classes=6)
    shapes = []
    for seen in observed(SoftTask(data), CutMix(alpha=1e6), epochs=60, batch_size=6):
        if not seen.is_changed:
            continue  # every row is its own partner, once in 6! batches
        changed = (seen.after.inputs[0] != seen.before.inputs[0]).any(axis=(0, 1))
        shapes.append((int(changed.any(axis=1).sum()), int(changed.any(axis=0).sum())))
    assert len(shapes) >= 59
    heights, widths = np.array(shapes).T
    # The image's sides times the root of one half.
    assert heights.max() == pytest.approx(40 * np.sqrt(0.5), abs=1)
    assert widths.max() == pytest.approx(20 * np.sqrt(0.5), abs=1)
    # Around any point: half of a side can be cut off, and no more.
    assert 14 <= heights.min() < 20
    assert 7 <= widths.min() < 10


def test_the_shares_of_mixup_come_from_the_beta_distribution():
    def shares(alpha):
        every = observed(SoftTask(soft(8, classes=8)), Mixup(alpha=alpha), epochs=300, batch_size=8)
        found = [share_and_partners(seen)[0] for seen in every]
        return np.array([1.0 if share is None else share for share in found])

    for alpha in (0.2, 1.0, 4.0):
        drawn = shares(alpha)
        # Mean 1/2, variance 1/4(2 alpha + 1); within four standard errors, and always the same draws.
        assert drawn.mean() == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / (2 * alpha + 1) / 300))
        assert drawn.var() == pytest.approx(0.25 / (2 * alpha + 1), rel=0.3)


@BOTH
def test_every_step_has_partners_and_a_share_of_its_own(mixing):
    every = observed(SoftTask(images(6, classes=6)), mixing(alpha=4.0), epochs=12, batch_size=6)
    drawn = [share_and_partners(seen) for seen in every]
    assert len({tuple(partners) for _, partners in drawn}) > 10
    # The small images have room for a few rectangles only.
    assert len({share for share, _ in drawn}) > 3


@BOTH
@pytest.mark.parametrize("contexts", [2, 3])
def test_contexts_mix_to_the_same_bits_and_train_the_same(mixing, contexts):
    # 13 rows in batches of 5: uneven shards. Batches of 1 leave contexts without rows.
    for size in (5, 1, 32):
        values = {**STEPS, "batch_size": size}
        one, several = (
            observed(task(weighted=True), mixing(), devices=DEVICES[each], **values) for each in (1, contexts)
        )
        for first, second in zip(one, several, strict=True):
            for ours, theirs in zip(first.after.arrays, second.after.arrays, strict=True):
                np.testing.assert_array_equal(ours, theirs)
        trained = [engine(task(), mixing(), devices=DEVICES[each], **values).fit() for each in (1, contexts)]
        assert apart(*trained) < 1e-6


@BOTH
def test_micro_batches_have_partners_in_the_whole_batch(mixing):
    # With classes of their own, and partners in the same part alone, no row of the first part had one of the second.
    data = SoftTask(images(12, classes=12))
    whole, parts = (observed(data, mixing(), epochs=5, batch_size=12, micro_batches=each) for each in (None, 3))
    for first, second in zip(whole, parts, strict=True):
        for ours, theirs in zip(first.after.arrays, second.after.arrays, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    trained = [engine(data, mixing(), devices=each, micro_batches=4, **STEPS).fit() for each in ("cpu", "cpu:0,1")]
    assert apart(*trained) == 0


@BOTH
def test_a_resumed_run_comes_to_the_same_bits(mixing, tmp_path):
    plugins = lambda: [mixing(probability=0.7)]  # noqa: E731
    whole, resumed = in_the_middle(tmp_path, task, plugins, **STEPS)
    assert apart(whole, resumed) == 0
    assert resumed.metrics == whole.metrics


def drawn(mixing, name=None, **values):
    made = mixing(alpha=2.0)
    made.name = name
    every = observed(SoftTask(images(6, classes=6)), made, epochs=4, batch_size=6, **values)
    return [share_and_partners(seen) for seen in every]


@BOTH
def test_seed_and_name_give_the_draw(mixing):
    first, again, other_seed, other_name = (
        drawn(mixing, **values) for values in ({}, {}, {"seed": 8}, {"name": "another"})
    )
    shares = [[share for share, _ in each] for each in (first, again, other_seed, other_name)]
    assert shares[0] == shares[1]
    assert shares[0] != shares[2]
    assert shares[0] != shares[3]


@BOTH
def test_two_instances_mix_one_after_the_other(mixing):
    def twice(*names):
        made = [mixing(alpha=2.0) for _ in names]
        for each, name in zip(made, names, strict=True):
            each.name = name
        return observed(SoftTask(images(6, classes=6)), *made, epochs=10, batch_size=6)

    parts = [(seen.after.labels > 1e-6).sum(axis=1).max() for seen in twice("one", "two")]
    assert max(parts) == 4
    assert max((seen.after.labels > 1e-6).sum(axis=1).max() for seen in twice("one")) == 2
    for seen in twice("one", "two"):
        np.testing.assert_allclose(seen.after.labels.sum(axis=1), 1, atol=1e-6)


@BOTH
def test_the_seed_says_which_batches_are_mixed(mixing):
    made = mixing(alpha=2.0, probability=0.5)
    every = observed(task(12), made, epochs=50, batch_size=3)
    mixed = {seen.step for seen in every if seen.is_changed}
    drawn = [np.random.default_rng(derive(7, made.name, block)).random(BLOCK) for block in range(200 // BLOCK + 1)]
    chosen = {step for step in range(1, 201) if drawn[step // BLOCK][step % BLOCK] < 0.5}
    # A batch that was chosen can come out as it was: no rectangle, or every row its own partner.
    assert mixed <= chosen
    assert len(mixed) > 0.7 * len(chosen)
    assert 70 < len(chosen) < 130


@BOTH
def test_all_are_mixed_unless_another_part_is_asked_for(mixing):
    every = observed(SoftTask(images(13, classes=13)), mixing(alpha=20.0), epochs=5, batch_size=13)
    assert all(seen.is_changed for seen in every)


@BOTH
@pytest.mark.parametrize("last", [0, 1, 3, 5])
def test_the_last_epochs_are_left_as_they_are(mixing, last):
    every = observed(SoftTask(images(13, classes=13)), mixing(alpha=20.0, last_epochs=last), epochs=4, batch_size=13)
    assert [seen.is_changed for seen in every] == [epoch <= 4 - last for epoch in range(1, 5)]


@BOTH
def test_evaluations_see_rows_as_they_are(mixing):
    made = task()
    run = engine(made, mixing(), **STEPS).fit()
    np.testing.assert_array_equal(run.evaluation.labels, made.validation.labels)
    weight, bias = (each.astype(float) for each in run.copy_weights().values())
    scores = made.validation.features.reshape(7, -1) @ weight.T + bias
    logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    expected = -(made.validation.labels * logs).sum(axis=1).mean()
    assert run.metrics["validation/loss"] == pytest.approx(expected, rel=1e-5)


@BOTH
@pytest.mark.parametrize("devices", ["cpu", "cpu:0,1"])
def test_the_data_stay_as_they_are(mixing, devices):
    data = images(12, weighted=True)
    kept = [part.copy() for part in (data.features, data.labels, data.weights)]
    seen = observed(SoftTask(data), mixing(alpha=2.0), epochs=4, batch_size=4, devices=devices)
    # Every epoch has the rows that were given, whatever was made of them in the one before.
    for epoch in range(1, 5):
        labels = np.concatenate([each.before.labels for each in seen if each.epoch == epoch])
        pixels = np.concatenate([each.before.inputs[0] for each in seen if each.epoch == epoch])
        assert labels.sum(axis=0).tolist() == [4, 4, 4]
        assert sorted(pixels[:, 0, 0, 0]) == sorted(kept[0][:, 0, 0, 0])
    for part, before in zip((data.features, data.labels, data.weights), kept, strict=True):
        np.testing.assert_array_equal(part, before)


@BOTH
def test_the_training_loss_is_that_of_what_was_mixed(mixing):
    losses = []

    def look(run):
        (outputs,) = run.outputs
        scores = outputs.asnumpy().astype(float)
        logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        losses.append((run.loss, -(run.batch.label.asnumpy() * logs).sum(axis=1).mean()))

    engine(task(), mixing(), plugin(phase=Phase.REPORT, batch_end=look), **STEPS).fit()
    computed, expected = np.array(losses).T
    np.testing.assert_allclose(computed, expected, rtol=3e-5)


@BOTH
def test_smoothing_comes_first_in_whatever_order_they_are_given(mixing):
    runs = [
        engine(task(), *given, **STEPS).fit() for given in ((mixing(), LabelSmoothing()), (LabelSmoothing(), mixing()))
    ]
    assert apart(*runs) == 0
    order = [each.name for each in runs[0].plugins]
    assert order.index("label-smoothing") < order.index("mixup" if mixing is Mixup else "cutmix")


def test_labels_0_and_1_of_one_column_are_mixed_for_a_task_with_a_threshold():
    from trainer.testing.tiny import TinyWithThreshold

    every = observed(TinyWithThreshold(train_rows=12), Mixup(alpha=4.0), epochs=2, batch_size=12)
    assert any(((seen.after.labels > 0.01) & (seen.after.labels < 0.99)).any() for seen in every)


def test_several_inputs_are_mixed_with_the_same_share_and_partners():
    data = soft(6, classes=6)
    more = Arrays((data.features, data.features * 2 + 1), data.labels)

    class Added(gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.out = gluon.nn.Dense(6)

        def hybrid_forward(self, F, left, right):
            return self.out(left + right)

    for seen in observed(SoftTask(more, make_net=Added), Mixup(alpha=2.0), epochs=4, batch_size=6):
        first, second = seen.after.inputs
        np.testing.assert_allclose(second, first * 2 + 1, atol=1e-5)


@pytest.mark.parametrize("devices", ["cpu", "cpu:0,1"])
def test_whole_numbers_as_labels_of_a_loader_are_mixed_too(devices):
    data = images(12)
    kind = np.int32

    def batchify(pairs):
        features, labels = zip(*pairs, strict=True)
        return mx.nd.array(np.stack(features)), mx.nd.array(np.stack(labels), dtype=kind)

    def observing(of):
        nonlocal kind
        kind = of
        loader = gluon.data.DataLoader(
            gluon.data.SimpleDataset(list(zip(data.features, data.labels, strict=True))), 4, batchify_fn=batchify
        )
        losses = []
        looking = plugin(batch_end=lambda run: losses.append(run.loss))
        # Some batches stay as they are: a step is bound for the type of the first one that it sees.
        seen = observed(SoftTask(loader), Mixup(alpha=4.0, probability=0.5), looking, epochs=4, devices=devices)
        return seen, losses

    (whole, losses), (real, expected) = observing(np.int32), observing(np.float32)
    assert whole[0].before.labels.dtype == np.int32
    assert any(seen.is_changed for seen in whole)
    assert not all(seen.is_changed for seen in whole)
    for ours, theirs in zip(whole, real, strict=True):
        np.testing.assert_array_equal(ours.after.labels, theirs.after.labels)
    assert losses == expected


class Wide:
    """A task's own batches of float64, on two contexts."""

    weighted = False
    rows, batches_per_epoch = 8, 2

    def __init__(self, kind=np.float64):
        data = images(8)
        self.features, self.labels = data.features.astype(kind), data.labels.astype(kind)

    def sample(self):
        return (mx.nd.array(self.features[:1], dtype=self.features.dtype),)

    def epoch(self, epoch, skip=0):
        from trainer.data.batches import Batch, Shard

        for start in range(skip * 4, 8, 4):
            shards = []
            for number in range(2):
                part = slice(start + 2 * number, start + 2 * number + 2)
                columns = [
                    mx.nd.array(each[part], ctx=mx.cpu(number), dtype=each.dtype)
                    for each in (self.features, self.labels)
                ]
                shards.append(Shard(mx.cpu(number), (columns[0],), columns[1], None, 2))
            yield Batch(tuple(shards), 4, None)


@BOTH
def test_other_floating_types_stay_what_they_are(mixing):
    def net():
        made = gluon.nn.Dense(3)
        made.cast("float64")
        return made

    for seen in observed(SoftTask(Wide(), make_net=net), mixing(), epochs=3, devices="cpu:0,1"):
        assert [part.dtype for part in seen.after.arrays] == [np.float64, np.float64]


@BOTH
def test_class_numbers_are_refused_and_the_message_says_what_to_do(mixing):
    data = replace(images(8), labels=np.arange(8) % 3)
    given = Given(data, make_net=lambda: gluon.nn.Dense(3), make_loss=gluon.loss.SoftmaxCrossEntropyLoss)
    with pytest.raises(UsageError, match="are not probabilities") as caught:
        engine(given, mixing()).fit()
    assert "sparse_label=False" in str(caught.value)
    assert mixing().name is None or mixing().name in str(caught.value)


def test_cutmix_refuses_rows_that_are_no_images_and_names_mixup():
    with pytest.raises(UsageError, match=r"not a batch of images \(rows, channels, height, width\)") as caught:
        engine(SoftTask(soft(8)), CutMix()).fit()
    assert "mixup" in str(caught.value)


def test_cutmix_refuses_two_images_of_different_sizes_in_a_row():
    with pytest.raises(UsageError, match="images of several sizes: 5×4, 8×8"):
        CutMix().check([mx.nd.ones((3, *IMAGE)), mx.nd.ones((3, 1, 8, 8))])


@BOTH
@pytest.mark.parametrize("kind", [np.int32, np.uint8])
def test_whole_numbers_as_inputs_are_refused(mixing, kind):
    data = replace(images(8), features=np.ones((8, *IMAGE), kind))

    class Cast(gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.out = gluon.nn.Dense(3)

        def hybrid_forward(self, F, x):
            return self.out(F.cast(x, "float32"))

    with pytest.raises(UsageError, match=f"inputs of {kind.__name__} cannot be mixed"):
        engine(SoftTask(data, make_net=Cast), mixing()).fit()


@BOTH
@pytest.mark.parametrize(
    "options", [{"alpha": 0}, {"alpha": -1}, {"probability": 0}, {"probability": 1.5}, {"last-epochs": -1}]
)
def test_options_that_make_no_sense_are_refused(mixing, options):
    with pytest.raises(UsageError, match=next(iter(options))):
        build(mixing, options, where="")


def test_labels_that_are_class_numbers_are_refused_before_the_first_batch_that_is_mixed():
    made = Mixup(probability=1e-9)
    with pytest.raises(UsageError, match="are not probabilities"):
        engine(Given(rows(8)), made).fit()
