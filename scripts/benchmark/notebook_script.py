"""What the tutorial notebook does, as a program: generated data, four dense layers, ten epochs with validation."""

from __future__ import annotations

import warnings

import numpy as np

if "bool" not in vars(np):
    np.bool = bool  # MXNet 1.9.1 needs it

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import mxnet as mx
    from mxnet import autograd, gluon, nd

ROWS, VALIDATION_ROWS, BATCH, EPOCHS, THRESHOLD = 1000, 100, 10, 10, 0.5


def loader(rows):
    """A shuffling DataLoader over rows of ten normal features, labelled by whether their sum is above 3."""
    features = nd.random.normal(0, 1, shape=(rows, 10))
    dataset = gluon.data.ArrayDataset(features, features.sum(axis=1) > 3)
    return gluon.data.DataLoader(dataset, batch_size=BATCH, shuffle=True)


def main():
    """Trains, and prints a line per epoch."""
    mx.random.seed(12345)
    training, validation = loader(ROWS), loader(VALIDATION_ROWS)
    net = gluon.nn.HybridSequential()
    for _ in range(3):
        net.add(gluon.nn.Dense(10, activation="relu"))
    net.add(gluon.nn.Dense(1))
    net.initialize(mx.init.Xavier())
    loss = gluon.loss.SigmoidBinaryCrossEntropyLoss()
    updater = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
    accuracy, f1 = mx.metric.Accuracy(), mx.metric.F1()
    for epoch in range(EPOCHS):
        total = 0.0
        for data, label in training:
            with autograd.record():
                losses = loss(net(data), label)
            losses.backward()
            updater.step(BATCH)
            total += nd.sum(losses).asscalar()
        validation_total = 0.0
        for data, label in validation:
            validation_total += nd.sum(loss(net(data), label)).asscalar()
            positive = net(data).sigmoid()
            accuracy.update(label, nd.ceil(positive - THRESHOLD).reshape(-1))
            positive = positive.reshape(-1)
            f1.update(label, nd.stack(1 - positive, positive, axis=1))
        print(
            f"epoch {epoch}: training loss {total / ROWS:.2f}, "
            f"validation loss {validation_total / VALIDATION_ROWS:.2f}, "
            f"accuracy {accuracy.get()[1]:.2f}, F1 {f1.get()[1]:.2f}"
        )
        accuracy.reset()


if __name__ == "__main__":
    main()
