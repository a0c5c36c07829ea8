"""Training on a folder of small images: the task, and a loop over a DataLoader as GluonCV's users write it.

All train `cifar_resnet20_v1` with the same optimizer on the same PNG files, each moved by up to four pixels and
mirrored at random. The first epoch, in which workers start and executors are bound, is the warm-up; the last one
includes the last checkpoint and closing the logs.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.competitors.ours import Timer
from benchmark.worker import Clock, cores, threads

NET, SIZE, BATCH, RATE = "cifar_resnet20_v1", 32, 64, 0.05
MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
OURS, OURS_BARE = "trainer run, default plugins", "trainer run, no plugins"
LOOPS = {
    "GluonCV's loop, no worker": {"workers": 0, "threads": 0},
    "GluonCV's loop, 1 worker": {"workers": 1, "threads": 0},
    "GluonCV's loop, 2 workers": {"workers": 2, "threads": 0},
    "GluonCV's loop, 2 workers, one thread per core": {"workers": 2, "threads": cores()},
}
"""By default MXNet computes with half as many threads as processors; the last competitor overrides that."""
QUICK = ("GluonCV's loop, no worker", "GluonCV's loop, 2 workers, one thread per core")
"""The loops of a quick round: the others differ from these in a number only."""


def write(folder: Path, number: int) -> None:
    """Writes `number` images of ten classes, 32 × 32, into one folder per class."""
    from PIL import Image

    generator = np.random.default_rng(0)
    for row in range(number):
        pixels = generator.integers(0, 160, size=(SIZE, SIZE, 3), dtype=np.uint8)
        label = row % 10
        pixels[label * 3 : label * 3 + 4] += 90
        place = folder / str(label)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{row:05d}.png")


def ours(job: Mapping[str, Any], clock: Clock) -> float:
    """Trains like the command line; returns the last epoch's mean loss."""
    from trainer.launch.prepare import Request, prepare_run

    options: dict[str, object] = {
        "data": job["photos"],
        "model": NET,
        "augmentation": "crop-flip",
        "batch-size": job["batch"],
    }
    options |= {"epochs": job["epochs"], "validation-split": 0.0, "test-split": 0.0, "learning-rate": RATE}
    request = Request(
        "image-classification",
        options,
        plugins=[Timer(clock)],
        without=() if job["plugins"] else ("progress", "metrics-log", "checkpoint", "tensorboard", "report"),
        runs_dir=Path(job["folder"]) if job["plugins"] else None,
    )
    launch = prepare_run(request)
    launch.choose_computing()
    run = launch.train()
    return run.history[-1]["train/loss"]


def loop(job: Mapping[str, Any], clock: Clock) -> float:
    """A plain loop: DataLoader, hybridized net, autograd, gluon.Trainer; returns the last epoch's mean loss."""
    np.bool = bool  # type: ignore[attr-defined]  what MXNet needs of a newer numpy
    import mxnet as mx
    from gluoncv.data.transforms.block import RandomCrop
    from gluoncv.model_zoo import get_model
    from mxnet import autograd, gluon

    vision = gluon.data.vision
    transforms = vision.transforms.Compose(
        [
            RandomCrop(SIZE, pad=4),
            vision.transforms.RandomFlipLeftRight(),
            vision.transforms.ToTensor(),
            vision.transforms.Normalize(MEAN, DEVIATION),
        ]
    )
    dataset = vision.ImageFolderDataset(job["photos"]).transform_first(transforms)
    loader = gluon.data.DataLoader(dataset, job["batch"], shuffle=True, last_batch="keep", num_workers=job["workers"])
    net = get_model(NET, classes=10)
    net.initialize(mx.init.Xavier())
    net.hybridize(static_alloc=True, static_shape=True)
    loss_of = gluon.loss.SoftmaxCrossEntropyLoss()
    optimizer = {"learning_rate": RATE, "wd": 1e-4, "momentum": 0.9}
    trainer = gluon.Trainer(net.collect_params(), "nag", optimizer)
    total = 0.0
    for _ in range(job["epochs"]):
        clock.epoch()
        total = 0.0
        for data, label in loader:
            images, labels = data.as_in_context(mx.cpu()), label.as_in_context(mx.cpu())
            with autograd.record():
                losses = loss_of(net(images), labels)
            losses.backward()
            trainer.step(len(images))
            total += float(losses.sum().asscalar())
    mx.nd.waitall()
    clock.end()
    return total / len(dataset)


def main(path: str) -> None:
    """Runs the job in the file at `path`; `seconds` is the time per image."""
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    if job.get("threads"):
        os.environ["OMP_NUM_THREADS"] = str(job["threads"])
    clock = Clock()
    loss = ours(job, clock) if "plugins" in job else loop(job, clock)
    seconds = (clock.times[-1] - clock.times[1]) / ((job["epochs"] - 1) * job["number"])
    answer = {"seconds": seconds, "loss": loss, "threads": threads(), "rate": 1 / seconds}
    Path(job["answer"]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
