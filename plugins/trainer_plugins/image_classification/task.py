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
from trainer.data import SPLIT_VERSION
from trainer.errors import listed
from trainer_plugins.image_classification.transforms import Augmentation, Transforms

if TYPE_CHECKING:
    from trainer import ModelInterface
    from trainer.metrics import Metric
    from trainer_plugins.image_classification.batches import Normalisation

Fraction = Annotated[float, Field(ge=0, lt=1)]
Channels = tuple[float, float, float]

STATISTICS: dict[str, tuple[Channels, Channels]] = {
    "cifar_": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Mean and deviation of the channels that GluonCV's weights were trained with, by the prefix of a net's name."""
MULTIPLICATIONS_PER_PIXEL = 40_000
"""In a forward pass, roughly: 41 million for cifar_resnet20 at 32 × 32, 4 billion for resnet50 at 224 × 224."""
MOST_WORKERS = 4
SHARE_OF_MIDDLE = 0.875
"""In evaluation the center 224 of 256 pixels are used, as usual for nets trained on random crops."""


@dataclass
class ImageClassification(Task):
    """Classifies images with any classification net of GluonCV's model zoo.

    The data are a folder with a folder for each class (or with such folders in `train`, `validation` and `test`), or a
    RecordIO file with its index. Images may have any size and mode. Labels are one-hot, so that label smoothing, mixup
    and cutmix can change them; the loss is the cross-entropy of the softmax.
    """

    data: Annotated[Path | None, Field(description="A folder with a folder for each class, or a .rec file.")] = None
    model: Annotated[str, Field(description="A net of GluonCV's model zoo.")] = "resnet18_v1b"
    image_size: Annotated[
        int | None, Field(ge=8, description="Height and width of the net's input; default: the net's usual size.")
    ] = None
    augmentation: Annotated[
        Augmentation,
        Field(
            description="Augmentation of training images. crop: small shifts; crop-flip: mirroring too; imagenet: "
            "crops of any size and changes of colour; auto: crop-flip for cifar nets, imagenet for others."
        ),
    ] = "auto"
    validation_data: Annotated[Path | None, Field(description="Images for validation, instead of a split.")] = None
    validation_split: Annotated[Fraction, Field(description="The fraction of the images kept for validation.")] = 0.1
    test_data: Annotated[Path | None, Field(description="Images for the test, instead of a split.")] = None
    test_split: Annotated[Fraction, Field(description="The fraction of the images kept for the test.")] = 0.1
    calibration_data: Annotated[Path | None, Field(description="Images for calibration, instead of a split.")] = None
    calibration_split: Annotated[
        Fraction,
        Field(description="The fraction of the images that nothing else uses: for calibration and guarantees."),
    ] = 0.0
    init_params: Annotated[Path | None, Field(description="A file of parameters to start from.")] = None
    pretrained: Annotated[bool, Field(description="Whether to start from GluonCV's weights (a download).")] = False
    freeze: Annotated[
        str,
        Field(description="Freezes parameters whose names start with a match of this regular expression: features."),
    ] = ""
    mean: Annotated[Channels | None, Field(description="Means of red, green and blue (0 to 1).")] = None
    deviation: Annotated[Channels | None, Field(description="Standard deviations of red, green and blue.")] = None
    workers: Annotated[
        int | None, Field(ge=0, le=256, description="Processes that load images; 0: load them in the training process.")
    ] = None
    cache_images: Annotated[
        str,
        Field(
            description="Memory for decoded images, so that each is decoded once: auto (a quarter of the free memory, "
            "at most 2 GB), off, or a size such as 500MB or 4GB."
        ),
    ] = "auto"
    skip_corrupt: Annotated[
        bool, Field(description="Whether to check all images first and leave out corrupt ones.")
    ] = False
    upscale: Annotated[bool, Field(description="Whether images may be enlarged more than 4 times.")] = False

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
        """Raises UsageError without data, for weights from two sources, and for values that cannot be used."""
        from trainer_plugins.image_classification.cache import check_limit

        if self.data is None:
            raise UsageError(
                "there are no images", where="--data", fix="Give a folder with a folder for each class, or a .rec file."
            )
        if self.pretrained and self.init_params is not None:
            raise UsageError(
                "it cannot be combined with --init-params", where="--pretrained", fix="Leave out one of them."
            )
        if self.init_params is not None and not self.init_params.is_file():
            raise UsageError(
                "it is a folder" if self.init_params.is_dir() else "there is no such file",
                where=f"--init-params {self.init_params}",
                fix="Give a file of parameters, such as RUN/model/model-0000.params.",
            )
        check_limit(self.cache_images)
        for name in ("mean", "deviation"):
            values = getattr(self, name)
            if values is not None and not all(np.isfinite(value) and (name == "mean" or value > 0) for value in values):
                raise UsageError(
                    f"{values} cannot be used",
                    where=f"--{name}",
                    fix="Give three numbers, for red, green and blue" + ("." if name == "mean" else ", above 0."),
                )

    def work(self, batch_size: int) -> float:
        """Multiplications of a forward pass, roughly: enough for oneDNN and all threads with every net."""
        from trainer_plugins.image_classification.zoo import size_of

        size = self.image_size or size_of(self.model)
        return float(batch_size * size * size * MULTIPLICATIONS_PER_PIXEL)

    @cached_property
    def _name(self) -> str:
        """The net's name, as the zoo writes it. Raises UsageError if the zoo does not have it."""
        from trainer_plugins.image_classification.zoo import find_name

        return find_name(self.model)

    # ---- the data ---------------------------------------------------------------------------------------------------

    def splits(self, run: Run) -> Splits:
        """Images of the given folders or splits; otherwise split off by the seed, with equal shares of the classes."""
        from trainer_plugins.image_classification import selection
        from trainer_plugins.image_classification.batches import ImageBatches
        from trainer_plugins.image_classification.cache import Cache
        from trainer_plugins.image_classification.pool import Pool

        _ = self._name  # before the images are read, which takes longer
        assert self.data is not None  # noqa: S101  check() has raised for that
        shares = {
            "test": self.test_split,
            "validation": self.validation_split,
            "calibration": self.calibration_split,
        }
        further = {split: getattr(self, f"{split}_data") for split in ("validation", "calibration", "test")}
        seed = run.settings.seed
        found, divided = selection.find_splits(self.data, further, shares, seed)
        self._classes = found["train"].classes
        pool, transforms = Pool(self._workers()), self._transforms()
        self._notes: list[str] = []
        if self.skip_corrupt:
            for split, images in found.items():
                found[split], line = selection.without_corrupt(images, transforms, pool)
                self._notes += [line] if line else []
            run.notes.extend(self._notes)  # shown at the end too, since there are fewer images than expected
        self._lines = [
            "images: " + ", ".join(f"{len(images.items)} {split}" for split, images in found.items()),
            selection.class_line(found["train"]),
        ]
        left_out = {path for images in found.values() for path in images.left_out}
        if left_out:
            self._notes.append(
                f"left out, since they are not images or lead to folders above: {listed(sorted(left_out), 4)}"
            )
        if not self.upscale:
            selection.check_sizes(found["train"], self._size(), self.model)
        normalisation = self._normalisation()
        cache = Cache.of_option(self.cache_images, run.processes.size)
        batches = {
            split: ImageBatches(
                images,
                transforms,
                normalisation,
                pool,
                cache,
                batch_size=run.settings.batch_size
                if split == "train"
                else self.evaluation_batch_size or run.settings.batch_size,
                contexts=run.contexts,
                seed=run.settings.seed,
                training=split == "train",
            )
            for split, images in found.items()
        }
        version = SPLIT_VERSION if divided else None
        return Splits(
            batches["train"],
            batches.get("validation"),
            batches.get("test"),
            calibration=batches.get("calibration"),
            split_version=version,
        )

    def _workers(self) -> int:
        if self.workers is not None:
            return self.workers
        from trainer.launch import cores

        return min(cores(), MOST_WORKERS)

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
        """The zoo's net for the number of classes in the data, with weights from a file if one is given."""
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
                f"{self._name} does not take images of {size} × {size}{_explained(reason)}",
                where="--image-size",
                fix=f"It was made for {zoo.size_of(self._name)} × {zoo.size_of(self._name)}.",
            ) from error
        if shapes != [(1, len(self._classes))]:
            raise UsageError(
                f"{self._name} returns {shapes} for an image, not one value for each of {len(self._classes)} classes",
                where="--model",
                fix="Choose another --image-size or another net.",
            )
        return net

    def loss(self) -> Any:
        """The cross-entropy of the softmax with one-hot or smoothed labels, (rows, classes)."""
        from trainer.mxnet import gluon

        return gluon.loss.SoftmaxCrossEntropyLoss(sparse_label=False)

    def metrics(self) -> Sequence[Metric]:
        """Accuracy, top-2 or top-5, macro F1, and up to twenty classes precision and recall of each."""
        from trainer.metrics import MulticlassClassification

        return [MulticlassClassification.of_classes(self._classes)]

    def predictions(self, outputs: Any) -> Any:
        """Probabilities, (rows, classes)."""
        return outputs.softmax()

    # ---- for other parts --------------------------------------------------------------------------------------------

    def class_names(self) -> Sequence[str]:
        """The names of the classes, by number."""
        return getattr(self, "_classes", ())

    def pictures(self, inputs: NDArray[Any]) -> NDArray[np.uint8]:
        """The inputs before normalisation, (rows, height, width, 3)."""
        from trainer_plugins.image_classification.transforms import as_pixels

        normalisation = self._normalisation()
        return as_pixels(inputs, normalisation.mean, normalisation.deviation)

    def model_info(self) -> Mapping[str, Any]:
        """The classes, and how an image is prepared."""
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
        """Lines about the images and the initial weights."""
        return [*self._lines, *self._about_weights]

    def notes(self) -> Sequence[str]:
        """The images that are left out."""
        return getattr(self, "_notes", ())


def _explained(reason: str) -> str:
    """MXNet's reason, unless it is a place in its source code."""
    text = re.sub(r"^.*Error[^:]*: *", "", reason).strip()
    return f": {text}" if text and os.sep not in text else ""
