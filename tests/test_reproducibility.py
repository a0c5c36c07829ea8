"""A run is a function of its seed: bit by bit, in one process and in another."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from nets import Given, apart, convolutions, dense, images, regression, values
from tiny import Tiny, engine, plugin

from trainer.mxnet import gluon, mx

SUPPORT = Path(__file__).parent / "support"
PATHS = pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "recorded"])

NETS = {
    "dense": (lambda: dense(8, 6), regression(40), 60),
    "dropout": (lambda: dense(16, 8, dropout=0.5), regression(40), 300),
    "norm and dropout": (lambda: dense(16, dropout=0.5, norm=True), regression(40), 60),
    "convolutions": (convolutions, images(40), 30),
}


def trained(name="dense", *plugins, seed=7, compiled=True, **settings):
    net, data, steps = NETS[name]
    validation = type(data)(data.features[:11], data.labels[:11])
    made = engine(
        Given(data, validation, make_net=net),
        *plugins,
        seed=seed,
        epochs=1000,
        steps=steps,
        batch_size=8,
        compiled=compiled,
        **settings,
    )
    return made.fit()


def outcome(run):
    """Parameters, metrics and history as text that is equal only for equal bits."""
    digest = hashlib.sha256(b"".join(value.tobytes() for value in values(run).values())).hexdigest()
    return json.dumps([digest, run.metrics, run.history])


@PATHS
@pytest.mark.parametrize("name", NETS)
def test_the_same_seed_gives_the_same_bits_twice(name, compiled):
    assert outcome(trained(name, compiled=compiled)) == outcome(trained(name, compiled=compiled))


@pytest.mark.parametrize("name", NETS)
def test_another_seed_gives_another_training(name):
    first, second = trained(name), trained(name, seed=8)
    assert apart(first, second) > 1e-3
    assert first.history != second.history


def test_another_seed_gives_other_dropout_masks():
    def masks(seed):
        seen = []

        class Still(Given):
            """Initial weights of one value, so that nothing but the masks depends on the seed."""

            def initializer(self):
                return mx.init.Constant(0.1)

        data = regression(8)
        task = Still(data, make_net=lambda: dense(16, dropout=0.5))
        looking = plugin(batch_end=lambda run: seen.append(sorted(run.outputs[0].asnumpy().ravel().tolist())))
        engine(task, looking, seed=seed, batch_size=8, optimizer={"learning_rate": 0.0}).fit()
        return seen

    assert masks(1) == masks(1)
    assert masks(1) != masks(2)
    assert masks(1)[0] != masks(1)[1]


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
sys.path.insert(0, sys.argv[2])
import test_reproducibility as tests
for name in tests.NETS:
    print("outcome", tests.outcome(tests.trained(name)))
"""


@pytest.mark.slow
def test_another_process_gives_the_same_bits():
    command = [sys.executable, "-c", SCRIPT, str(SUPPORT), str(SUPPORT.parent)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    there = [line.removeprefix("outcome ") for line in result.stdout.splitlines() if line.startswith("outcome ")]
    assert there == [outcome(trained(name)) for name in NETS]


def draw(seed):
    """Random numbers from every generator there is, drawn by other code."""
    mx.random.seed(seed)
    mx.nd.random.uniform(shape=(3,)).wait_to_read()
    np.random.seed(seed)
    np.random.uniform(size=3)


@pytest.mark.parametrize("in_units", [0, 5], ids=["shapes from the data", "shapes given"])
@pytest.mark.parametrize(
    "initializer",
    [mx.init.Xavier, mx.init.Normal, mx.init.Uniform, mx.init.Orthogonal, mx.init.MSRAPrelu],
    ids=lambda cls: cls.__name__,
)
def test_initial_weights_do_not_depend_on_what_was_drawn_before(initializer, in_units):
    class Task(Given):
        def initializer(self):
            return initializer()

    def initial(number):
        draw(number)
        task = Task(regression(9), make_net=lambda: gluon.nn.Dense(4, in_units=in_units))
        return values(engine(task).run).values()

    first, second = initial(1), initial(2)
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    assert any(np.abs(a).max() > 0 for a in first)


def test_initial_weights_depend_on_the_seed_alone_not_on_the_number_of_rows():
    few, many = (values(engine(Given(regression(rows), make_net=lambda: dense(6))).run) for rows in (4, 400))
    assert all((a == b).all() for a, b in zip(few.values(), many.values(), strict=True))


@pytest.mark.parametrize("name", ["dense", "dropout"])
def test_what_is_drawn_between_construction_and_training_does_not_matter(name):
    def run(number):
        drawing = plugin(
            setup=lambda run: draw(number), fit_begin=lambda run: draw(number + 1), epoch_end=lambda run: None
        )
        return trained(name, drawing)

    assert apart(run(1), run(100)) == 0


def test_two_engines_side_by_side_do_not_disturb_each_other():
    alone = engine(Tiny(train_rows=20)).fit()
    first, second = engine(Tiny(train_rows=20)), engine(Tiny(train_rows=20), seed=8)
    second.fit()
    assert apart(alone, first.fit()) == 0


def test_what_plugins_draw_from_numpy_does_not_disturb_training():
    drawing = plugin(batch_begin=lambda run: np.random.uniform(size=run.step))
    assert apart(trained("dropout"), trained("dropout", drawing)) == 0


def test_a_plugin_that_draws_in_every_batch_is_repeatable_itself():
    def run():
        drawn = []
        drawing = plugin(batch_end=lambda run: drawn.append(float(mx.nd.random.uniform(shape=1).asscalar())))
        return trained("dropout", drawing), drawn

    (first, drawn), (second, again) = run(), run()
    assert drawn == again
    assert apart(first, second) == 0
