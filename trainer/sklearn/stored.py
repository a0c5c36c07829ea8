"""A fitted estimator's model: the files of a model folder, which is what is copied and pickled."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.atomic import new_folder
from trainer.catalog import registry
from trainer.config import options
from trainer.model import manifest
from trainer.model.interface import Encoded
from trainer.model.load import load_from
from trainer.model.model import Model

BLOCK = 64
"""Rows are computed by so many."""


class StoredModel:
    """The files of a model folder in memory; the net is built when it is first used.

    `network` makes the net if the folder does not describe it.
    """

    def __init__(self, files: Mapping[str, bytes], network: Callable[..., Any] | None = None) -> None:
        self.files = dict(files)
        self._network = network
        self._model: Model | None = None

    @classmethod
    def of_folder(cls, folder: Path, network: Callable[..., Any] | None) -> StoredModel:
        """The model in a folder, which is no longer needed."""
        stored = cls({path.name: path.read_bytes() for path in sorted(folder.iterdir())})
        if not manifest.read(folder).symbol:
            stored._network = network
        stored._model = stored._load(folder)
        return stored

    def __getstate__(self) -> dict[str, Any]:
        return {"files": self.files, "network": self._network}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.files, self._network, self._model = state["files"], state["network"], None

    @property
    def model(self) -> Model:
        """The model, ready to predict."""
        if self._model is None:
            with tempfile.TemporaryDirectory(prefix="gluon-") as temporary:
                self.save(Path(temporary, manifest.FOLDER))
                self._model = self._load(Path(temporary, manifest.FOLDER))
        return self._model

    def save(self, folder: Path) -> None:
        """Writes the model folder, completely or not at all. Raises OSError if it cannot be written."""
        with new_folder(folder) as new:
            for name, content in self.files.items():
                Path(new, name).write_bytes(content)

    def _load(self, folder: Path) -> Model:
        if self._network is None:
            return load_from(folder)
        about = manifest.read(folder)
        task: Any = options.build(registry.load(registry.TASKS, about.task.name), about.task.options, where=str(folder))
        task.name, task.network = about.task.name, self._network
        return load_from(folder, task=task)

    def compute(self, data: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The task's predictions, (rows, …), and the net's outputs, (rows, outputs), for rows as it takes them."""
        encoded = self.model.encode(data)
        rows = encoded.rows
        # A matrix product computes the last rows in another way than the others; so a row would depend on the rest.
        blocks = -(-rows // BLOCK) * BLOCK
        inputs = tuple(np.concatenate([part, np.zeros((blocks - rows, *part.shape[1:]), part.dtype)])
                       for part in encoded.inputs)  # fmt: skip
        scores, outputs = self.model.compute(Encoded(inputs, blocks), lambda outputs, _: outputs)
        return scores[:rows].astype(np.float64), outputs[:rows].reshape(rows, -1).astype(np.float64)
