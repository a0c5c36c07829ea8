"""Image classification: a net of GluonCV's model zoo on images in folders or RecordIO files."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainer import Defaults, Run, Splits, Task, UsageError
from trainer.errors import listed
from trainer_plugins.image_classification.transforms import Augmentation, Transforms

if TYPE_CHECKING:
    from trainer import ModelInterface
    from trainer.metrics import Metric
    from trainer_plugins.image_classification.batches import Normalisation
    from trainer_plugins.image_classification.files import Images
    from trainer_plugins.image_classification.pool import Pool

Fraction = Annotated[float, Field(ge=0, lt=1)]
Channels = tuple[float, float, float]

STATISTICS: dict[str, tuple[Channels, Channels]] = {
    "cifar_": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Mean and deviation of the channels that GluonCV's own weights were trained with, by how a net's name begins."""
MULTIPLICATIONS_PER_PIXEL = 40_000
"""Of a forward pass, roughly: 41 million for cifar_resnet20 at 32 × 32, 4 billion for resnet50 at 224 × 224."""
MOST_WORKERS = 4
ENLARGED_AT_MOST = 4
"""How many times larger than the images the net's input may be before somebody has to want that."""
SHOWN_CLASSES = 10
CLASSES_IN_METRICS = 20
"""With more classes no figure is logged for each of them."""
SHARE_OF_MIDDLE = 0.875
"""In evaluation the middle of 224 is cut from 256 pixels, as it is usual for nets trained on random cuts."""


@dataclass
class ImageClassification(Task):
    """Tells images apart, with any classification net of GluonCV's model zoo.

    The data are a folder with a folder for each class (or with such folders in `train`, `validation` and `test`), or a
    RecordIO file with its index. Images may have any size and mode. Labels are one-hot, so that label smoothing, mixup
    and cutmix can change them; the loss is the cross-entropy of the softmax.
    """

    data: Annotated[Path | None, Field(description="A folder with a folder for each class, or a .rec file.")] = None
    model: Annotated[str, Field(description="A net of GluonCV's model zoo.")] = "resnet18_v1b"
    image_size: Annotated[
        int | None, Field(ge=8, description="Height and width of the net's input; what the net was made for.")
    ] = None
    augmentation: Annotated[
        Augmentation,
        Field(
            description="What is done to training images: crop moves them a little, crop-flip mirrors them too, "
            "imagenet cuts out parts of any size and changes colours. auto: crop-flip for cifar nets, imagenet else."
        ),
    ] = "auto"
    validation_data: Annotated[Path | None, Field(description="Images for validation, in place of a split.")] = None
    validation_split: Annotated[Fraction, Field(description="The part of the images kept for validation.")] = 0.1
    test_data: Annotated[Path | None, Field(description="Images for the test, in place of a split.")] = None
    test_split: Annotated[Fraction, Field(description="The part of the images kept for the test.")] = 0.1
    init_params: Annotated[Path | None, Field(description="A file of parameters to begin with.")] = None
    pretrained: Annotated[bool, Field(description="Whether to begin with GluonCV's own weights (a download).")] = False
    freeze: Annotated[
        str, Field(description="A regular expression; parameters whose names begin like it are not trained: features.")
    ] = ""
    mean: Annotated[Channels | None, Field(description="Taken from red, green and blue (0 to 1).")] = None
    deviation: Annotated[Channels | None, Field(description="What they are divided by.")] = None
    workers: Annotated[
        int | None, Field(ge=0, le=256, description="Processes that load images; 0: none but the training's own.")
    ] = None
    skip_corrupt: Annotated[
        bool, Field(description="Whether to look at all images first, and go on without those that are damaged.")
    ] = False
    upscale: Annotated[
        bool, Field(description=f"Whether images may be enlarged more than {ENLARGED_AT_MOST} times.")
    ] = False

    defaults = Defaults(
        epochs=20,
        batch_size=64,
        optimizer="nag",
        learning_rate=0.05,
        optimizer_arguments={"momentum": 0.9},
        weight_decay=1e-4,
        plugins=("progress", "metrics-log", "checkpoint", "tensorboard", "report"),
    )
    headline = ("train/loss", "validation/loss", "validation/accuracy")

    def check(self) -> None:
        """There are data; and weights from one place."""
        if self.data is None:
            raise UsageError(
                "there are no images", where="--data", fix="Give a folder with a folder for each class, or a .rec file."
            )
        if self.pretrained and self.init_params is not None:
            raise UsageError("the weights come from a file already", where="--pretrained", fix="Leave out one of them.")
        if self.init_params is not None and not self.init_params.is_file():
            raise UsageError(
                "it is a folder" if self.init_params.is_dir() else "there is no such file",
                where=f"--init-params {self.init_params}",
                fix="Give a file of parameters, such as RUN/model/model-0000.params.",
            )
        for name in ("mean", "deviation"):
            values = getattr(self, name)
            if values is not None and not all(np.isfinite(value) and (name == "mean" or value > 0) for value in values):
                raise UsageError(
                    f"{values} cannot be used",
                    where=f"--{name}",
                    fix="Give three numbers, for red, green and blue" + ("." if name == "mean" else ", above 0."),
                )

    def work(self, batch_size: int) -> float:
        """Convolutions, whatever the net: enough for oneDNN and for all threads."""
        from trainer_plugins.image_classification.zoo import size_of

        size = self.image_size or size_of(self.model)
        return float(batch_size * size * size * MULTIPLICATIONS_PER_PIXEL)

    @cached_property
    def _name(self) -> str:
        """The net's, as the zoo writes it; UsageError for one that it does not have."""
        from trainer_plugins.image_classification.zoo import find_name

        return find_name(self.model)

    # ---- the data ---------------------------------------------------------------------------------------------------

    def splits(self, run: Run) -> Splits:
        """Images in the folders or splits where they are; otherwise split by the seed, with equal shares of classes."""
        from trainer_plugins.image_classification.batches import ImageBatches
        from trainer_plugins.image_classification.pool import Pool

        _ = self._name  # before the images are looked at, which takes longer
        found = self._found(run.settings.seed)
        self._classes = found["train"].classes
        pool = Pool(self._workers())
        self._lines: list[str] = []
        if self.skip_corrupt:
            found = {split: self._sound(images, pool) for split, images in found.items()}
            run.notes.extend(self._lines)  # told at the end too: fewer images than somebody thinks
        self._lines[:0] = [
            "images: " + ", ".join(f"{len(images.items)} {split}" for split, images in found.items()),
            _class_line(found["train"]),
        ]
        left_out = {path for images in found.values() for path in images.left_out}  # parts of a folder have all of it
        if left_out:
            self._lines.append(f"left out, as they are no images: {listed(sorted(left_out), 4)}")
        self._check_sizes(found["train"])
        transforms, normalisation = self._transforms(), self._normalisation()
        batches = {
            split: ImageBatches(
                images,
                transforms,
                normalisation,
                pool,
                batch_size=run.settings.batch_size
                if split == "train"
                else self.evaluation_batch_size or run.settings.batch_size,
                contexts=run.contexts,
                seed=run.settings.seed,
                training=split == "train",
            )
            for split, images in found.items()
        }
        return Splits(batches["train"], batches.get("validation"), batches.get("test"))

    def _found(self, seed: int) -> dict[str, Images]:
        from trainer_plugins.image_classification.files import find, split_off

        assert self.data is not None  # noqa: S101  check() saw to it
        found = find(self.data)
        classes = found["train"].classes
        for split, further in (("validation", self.validation_data), ("test", self.test_data)):
            if further is not None:
                own = find(further, classes)
                found[split] = own.get(split, own["train"])
        # Of what is left, the parts are of all images, not of each other's rest.
        total = len(found["train"].items)
        for split, part in (("test", self.test_split), ("validation", self.validation_split)):
            if part and split not in found and total:
                share = min(part * total / len(found["train"].items), 1 - 1e-9)
                found["train"], found[split] = split_off(found["train"], share, seed, split)
        return {split: found[split] for split in ("train", "validation", "test") if split in found}

    def _workers(self) -> int:
        if self.workers is not None:
            return self.workers
        from trainer.cpu import cores

        return min(cores(), MOST_WORKERS)

    def _sound(self, images: Images, pool: Pool) -> Images:
        """Without those that cannot be decoded, which are told."""
        from trainer_plugins.image_classification.loading import Job
        from trainer_plugins.image_classification.pool import load_all

        size, record = 256, None if images.record is None else str(images.record)
        starts = range(0, len(images.items), size)
        jobs = [
            Job(images.items[start : start + size], record, self._transforms(), only_check=True) for start in starts
        ]
        corrupt = [
            (start + row, reason)
            for start, answers in zip(starts, load_all(pool, jobs), strict=True)
            for row, reason in answers
        ]
        if not corrupt:
            return images
        first, reason = corrupt[0]
        more = f", and {len(corrupt) - 1} more" if len(corrupt) > 1 else ""
        self._lines.append(f"corrupt images left out: {len(corrupt)} ({images.name(first)}: {reason}{more})")
        kept = sorted(set(range(len(images.items))) - {row for row, _ in corrupt})
        sound = images.take(kept)
        missing = sorted(set(images.labels.tolist()) - set(sound.labels.tolist()))
        if missing:
            raise UsageError(f"all images of the class {images.classes[missing[0]]!r} are corrupt", where=images.where)
        return sound

    def _check_sizes(self, images: Images) -> None:
        """Raises UsageError where most images are far smaller than the net's input."""
        from trainer_plugins.image_classification import decode
        from trainer_plugins.image_classification.files import some
        from trainer_plugins.image_classification.loading import Files

        files, sides = Files(), []
        for row in some(images):
            try:
                source = files.source(images.items[row], None if images.record is None else str(images.record))
                sides.append(min(decode.size(source)))
            except decode.CorruptImageError:
                continue  # told when its turn comes, with what to do about it
        if not sides or self.upscale:
            return
        typical, size = int(np.median(sides)), self._size()
        if typical * ENLARGED_AT_MOST < size:
            raise UsageError(
                f"the net's input is {size} × {size}, and the images' shorter side is {typical}: they would be "
                f"enlarged {size / typical:.0f} times",
                where=f"--model {self.model}",
                fix=f"Use --image-size {max(32, typical)} or a net for small images (cifar_resnet20_v1), or pass "
                "--upscale.",
            )

    def _size(self) -> int:
        from trainer_plugins.image_classification.zoo import size_of

        return self.image_size or size_of(self._name)

    def _transforms(self) -> Transforms:
        size, chosen = self._size(), self.augmentation
        if chosen == "auto":
            chosen = "crop-flip" if self._name.startswith("cifar_") else "imagenet"
        return Transforms(size, chosen, round(size / SHARE_OF_MIDDLE) if chosen == "imagenet" else size)

    def _normalisation(self) -> Normalisation:
        from trainer_plugins.image_classification.batches import Normalisation

        mean, deviation = next(found for start, found in STATISTICS.items() if self._name.startswith(start))
        return Normalisation(self.mean or mean, self.deviation or deviation)

    # ---- the net ----------------------------------------------------------------------------------------------------

    def net(self) -> Any:
        """The zoo's net for as many classes as there are, with weights from a file where one is given."""
        from trainer.mxnet import COMPUTING, autograd, mx
        from trainer_plugins.image_classification import zoo

        if self._name in zoo.NOT_BY_ONEDNN and COMPUTING.onednn:
            raise UsageError(f"oneDNN cannot compute {self._name}", where="--model", fix="Add --onednn off.")
        weights = zoo.pretrained_file(self._name) if self.pretrained else self.init_params
        net, lines = zoo.build(self._name, len(self._classes), weights=weights, freeze=self.freeze)
        self._about_weights = lines
        size = self._size()
        try:
            with autograd.predict_mode():
                _, shapes, _ = net(mx.sym.var("data")).infer_shape(data=(1, 3, size, size))
        except (mx.MXNetError, AttributeError, TypeError) as error:
            reason = next((line for line in str(error).splitlines() if "Error" in line), "")
            raise UsageError(
                f"{self._name} does not take images of {size} × {size}{_told(reason)}",
                where="--image-size",
                fix=f"It was made for {zoo.size_of(self._name)} × {zoo.size_of(self._name)}.",
            ) from error
        if shapes != [(1, len(self._classes))]:
            raise UsageError(
                f"{self._name} gives {shapes} for an image, not one figure for each of {len(self._classes)} classes",
                where="--model",
                fix="At this size of the images, or at all: choose another --image-size or net.",
            )
        return net

    def loss(self) -> Any:
        """The cross-entropy of the softmax with one-hot or smoothed labels, (rows, classes)."""
        from trainer.mxnet import gluon

        return gluon.loss.SoftmaxCrossEntropyLoss(sparse_label=False)

    def metrics(self) -> Sequence[Metric]:
        """Accuracy, top-5 where there are more than five classes, macro F1, and each class's accuracy."""
        from trainer.metrics import MulticlassClassification

        few = len(self._classes) <= CLASSES_IN_METRICS
        return [
            MulticlassClassification(
                top_k=(1, 5) if len(self._classes) > 5 else (1,),
                macro_f1=True,
                classes=self._classes if few else (),
            )
        ]

    def predictions(self, outputs: Any) -> Any:
        """Probabilities, (rows, classes)."""
        return outputs.softmax()

    # ---- what others ask --------------------------------------------------------------------------------------------

    def class_names(self) -> Sequence[str]:
        """As the folders are called."""
        return getattr(self, "_classes", ())

    def pictures(self, inputs: NDArray[Any]) -> NDArray[np.uint8]:
        """The inputs as they were before they were normalised."""
        from trainer_plugins.image_classification.transforms import as_pixels

        normalisation = self._normalisation()
        return as_pixels(inputs, normalisation.mean, normalisation.deviation)

    def model_info(self) -> Mapping[str, Any]:
        """Classes, and what is done to an image."""
        transforms, normalisation = self._transforms(), self._normalisation()
        return {
            "classes": list(self._classes),
            "size": transforms.size,
            "resize": transforms.resize,
            "mean": list(normalisation.mean),
            "deviation": list(normalisation.deviation),
        }

    def model_interface(self, info: Mapping[str, Any]) -> ModelInterface:
        """Images in, classes and probabilities out."""
        from trainer_plugins.image_classification.interface import ImageModel

        if not info:
            return super().model_interface(info)
        interface = ImageModel.from_info(info)
        self._classes = tuple(info["classes"])
        return interface

    def describe(self) -> Sequence[str]:
        """What was found, and where the weights are from."""
        return [*self._lines, *self._about_weights]


def _class_line(images: Images) -> str:
    from trainer_plugins.image_classification.files import counts

    found = counts(images)
    shown = ", ".join(f"{name} {count}" for name, count in list(found.items())[:SHOWN_CLASSES])
    more = f" and {len(found) - SHOWN_CLASSES} more" if len(found) > SHOWN_CLASSES else ""
    return f"classes: {len(found)}, training images of each: {shown}{more}"


def _told(reason: str) -> str:
    """What MXNet says of it, without the place in its source."""
    said = re.sub(r"^.*Error[^:]*: *", "", reason).strip()
    return f": {said}" if said and os.sep not in said else ""
