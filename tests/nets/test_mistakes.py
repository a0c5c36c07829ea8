"""Mistakes in a call of `fit(net, …)`: one line that says what is wrong and what to do."""

import numpy as np
import pytest

from trainer import Arrays, UsageError, fit
from trainer.mxnet import gluon, mx

X = np.random.default_rng(0).normal(size=(90, 4))
Y = (X[:, 0] > 0).astype(int)
CE = "softmax-cross-entropy"


def trained(net=None, **values):
    given = {"train": (X, Y), "loss": CE, "epochs": 2, "progress": False}
    return fit(gluon.nn.Dense(2) if net is None else net, **{**given, **values})


class Again:
    def __iter__(self):
        return iter([(X[:40], Y[:40]), (X[40:], Y[40:])])


BAD = X.copy()
BAD[5, 2] = np.nan


LOADER = gluon.data.DataLoader(gluon.data.ArrayDataset(X.astype("float32"), Y.astype("float32")), batch_size=10)
CAST = gluon.nn.Dense(2)
CAST.cast("float64")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train": None}, "no rows to train on"),
        ({"loss": None}, "no loss is given. Give a name"),
        ({"loss": "softmax-crosentropy"}, "Did you mean 'softmax-cross-entropy'"),
        ({"metrics": "acuracy"}, "Did you mean 'accuracy'"),
        ({"metrics": "r2"}, "does not go with the loss"),
        ({"train": (X, Y[:50])}, "X has 90, y has 50"),
        ({"train": (X[:0], Y[:0])}, "X has 0 rows"),
        ({"train": (BAD, Y)}, "X holds nan in row 5"),
        ({"train": (X, Y + 1)}, "a label is 2, and the net gives 2"),
        ({"train": (X, ["cat"] * 90)}, "numpy.unique(y, return_inverse=True)"),
        ({"train": ([[1, 2], [3]], [0, 1])}, "rows have different lengths"),
        ({"train": ((row for row in X), Y)}, "not an array of rows"),
        ({"train": (row for row in X)}, "a generator can be iterated only once"),
        ({"train": [X, Y]}, "Write a tuple"),
        ({"train": X}, "not rows with labels"),
        ({"validation": 1.5}, "1.5 is not a part of the training rows"),
        ({"validation": True}, "True is not a part"),
        ({"validation": (X[:, :3], Y)}, "the rows of X have shape (3,)"),
        ({"validation": (X, Y, np.ones(90))}, "the validation rows have weights, the others have none"),
        ({"train": Again(), "validation": 0.2}, "can be taken from arrays only"),
        ({"loss": lambda outputs, labels: (outputs - 1).mean()}, "It has to give one value per row"),
        ({"loss": "l2"}, "y has shape (90,), and the net gives (90, 2)"),
        ({"loss": "sigmoid-binary-cross-entropy"}, "Dense(1), or use loss='softmax-cross-entropy'"),
        ({"epoch": 3}, "Did you mean 'epochs'"),
        ({"name": "a"}, "Add runs_dir='runs'"),
        ({"train": Arrays(BAD, Y)}, "X holds nan in row 5"),
        ({"train": LOADER, "batch_size": 7}, "batch_size: the training rows come in batches of 10, so 7 has no effect"),
        ({"metrics": "accuracy"}, "metrics: they are computed on validation rows, and there are none"),
        ({"metrics": "acc", "validation": 0.2}, "there is no metric 'acc'. Did you mean 'accuracy'?"),
        ({"metrics": ["accuracy", mx.metric.Accuracy()], "validation": 0.2}, "two values are called 'accuracy'"),
        ({"metrics": [mx.metric.Loss()], "validation": 0.2}, "two values are called 'loss'"),
        ({"batches": 100}, "Did you mean 'steps'?"),
        ({"net": CAST}, "the net has parameters of type float64, and rows come as float32"),
        ({"train": (X, Y, Y)}, "of the class '0' have weight 0"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(values, message):
    with pytest.raises(UsageError) as caught:
        trained(**values)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_loss_that_broadcasts_labels_is_refused():
    with pytest.raises(UsageError, match="changes with the labels of other rows"):
        trained(gluon.nn.Dense(1), loss=lambda outputs, labels: ((outputs - labels) ** 2).mean(axis=1))


def test_batches_that_cannot_be_started_again_are_refused():
    class Once:
        def __init__(self):
            self.batches = iter([(X, Y), (X, Y)])

        def __iter__(self):
            return (batch for batch in self.batches)

    with pytest.raises(UsageError, match="it gave no batch when it was iterated again"):
        trained(train=Once(), epochs=3)


def test_missing_values_of_a_data_frame_are_named_by_column():
    import pandas as pd

    frame = pd.DataFrame(X[:4], columns=list("abcd")).assign(c=pd.array([1, None, 3, 4], dtype="Int64").astype(object))
    with pytest.raises(UsageError, match="its column 'c' holds missing values"):
        trained(train=(frame, Y[:4]))


def test_a_batch_size_that_the_loader_has_is_accepted():
    assert trained(train=LOADER, batch_size=10, epochs=1).step == 9


def test_a_number_of_steps_is_trained_whatever_the_default_number_of_epochs():
    run = fit(gluon.nn.Dense(2), train=(X, Y), loss=CE, steps=40, progress=False)
    assert (run.step, run.epoch, run.status) == (40, 14, "stopped")
    run = fit(gluon.nn.Dense(2), train=(X, Y), loss=CE, steps=40, epochs=2, progress=False)
    assert (run.step, run.epoch, run.status) == (6, 2, "finished")
