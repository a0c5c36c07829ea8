"""Writes the package that a new plugin or task starts from: it installs, is listed, runs and passes its own tests."""

from __future__ import annotations

import keyword
import re
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from string import Template

from trainer.atomic import new_folder, write_atomic
from trainer.catalog import registry
from trainer.catalog.api_version import API_VERSION
from trainer.errors import UsageError

PYPROJECT = """\
[build-system]
requires = ["hatchling>=1.26"]
build-backend = "hatchling.build"

[project]
name = "$name"
version = "0.1.0"
description = "$about, for gluon-trainer"
readme = "README.md"
requires-python = ">=3.10,<3.13"
dependencies = ["gluon-trainer>=$version"]

[project.optional-dependencies]
test = ["pytest>=8"]

[project.entry-points."$group"]
$name = "$module:$cls"

[tool.hatch.build.targets.wheel]
only-include = ["$module.py"]
"""

README = """\
# $name

A $word for gluon-trainer.

    pip install .
    trainer plugins list          # $name is listed
    trainer plugins show $name    # its options
    $run

Its tests hold it to the promises of a $word (`trainer.testing`), each by its name:

    pip install ".[test]"
    pytest
    trainer plugins check $name   # the same for what is installed
"""

PLUGIN = '''\
"""$about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field
from trainer import Phase, Plugin, Run


@dataclass
class $cls(Plugin):
    """Logs a smoothed loss of the batches at the end of each epoch.

    Every loss that is looked at moves the smoothed one by a part, `weight`, of the way. Looking waits for the device.
    """

    weight: Annotated[float, Field(gt=0, le=1, description="How much of the way a new loss moves the figure.")] = 0.1
    every: Annotated[int, Field(ge=1, description="Steps between two looks.")] = 1

    phase = Phase.MEASURE
    api = "$api"

    def __post_init__(self) -> None:
        """Nothing was seen yet."""
        self._smoothed: float | None = None

    def on_batch_end(self, run: Run) -> None:
        """Looks at the loss of every so many batches."""
        if run.step % self.every == 0:
            before = run.loss if self._smoothed is None else self._smoothed
            self._smoothed = before + self.weight * (run.loss - before)

    def on_epoch_end(self, run: Run) -> None:
        """Logs the figure: it appears in the history, in every log, and where plugins monitor a metric."""
        if self._smoothed is not None:
            run.log({f"{self.name}/smoothed-loss": self._smoothed})

    def state_dict(self) -> Mapping[str, Any]:
        """What a resumed run needs to go on as if it had never stopped."""
        return {"smoothed": self._smoothed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes it back, before setup fires."""
        self._smoothed = state["smoothed"]
'''

TASK = '''\
"""$about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field
from trainer import Arrays, Defaults, Run, Splits, Task


@dataclass
class $cls(Task):
    """Tells points within a circle from points outside, by a net with one hidden layer."""

    points: Annotated[int, Field(ge=10, description="Points to train on.")] = 500
    hidden: Annotated[int, Field(ge=1, description="Neurons of the hidden layer.")] = 8

    defaults = Defaults(epochs=10, batch_size=20, optimizer="adam", learning_rate=0.01)
    headline = ("train/loss", "validation/loss", "validation/accuracy")
    api = "$api"

    def splits(self, run: Run) -> Splits:
        """Points in a square, drawn from the run's seed; label 1 within the circle of radius 1."""
        generator = np.random.default_rng(run.settings.seed)

        def draw(count: int) -> Arrays:
            points = generator.uniform(-1.5, 1.5, size=(count, 2)).astype(np.float32)
            return Arrays(points, (np.square(points).sum(axis=1) < 1).astype(np.float32))

        return Splits(train=draw(self.points), validation=draw(200), test=draw(200))

    def net(self) -> Any:
        """One output neuron, since the loss below wants one: a logit."""
        from trainer.mxnet import gluon

        net = gluon.nn.HybridSequential()
        net.add(gluon.nn.Dense(self.hidden, activation="tanh"), gluon.nn.Dense(1))
        return net

    def loss(self) -> Any:
        """For labels in {0, 1}; one value a row."""
        from trainer.mxnet import gluon

        return gluon.loss.SigmoidBinaryCrossEntropyLoss()

    def metrics(self) -> list[Any]:
        """Figures that no batch size changes."""
        from trainer.metrics import BinaryClassification

        return [BinaryClassification()]

    def predictions(self, outputs: Any) -> Any:
        """Probabilities of class 1, from logits."""
        return outputs.sigmoid().reshape(-1)
'''

TEST = '''\
"""$name keeps the promises of a $word."""

from __future__ import annotations

import pytest
from trainer.testing import Check, ${word}_checks

from $module import $cls


@pytest.mark.parametrize("check", ${word}_checks($cls))
def test_it_keeps_the_promises_of_a_$word(check: Check) -> None:
    """Each promise is a test of its own; what breaks it is told in a sentence."""
    check()
'''


def write_package(name: str, into: Path, *, is_task: bool) -> Path:
    """Writes the package `name` into a new folder of that name within `into`, complete or not at all.

    Raises UsageError for a name that is none or is taken, for a folder that exists, and where the disk refuses.
    """
    word = "task" if is_task else "plugin"
    module = name.replace("-", "_")
    _check_name(name, module, word)
    folder = into / name
    if folder.exists():
        raise UsageError(f"{folder} exists", fix="Choose another name, or another place with --into.")
    if not into.is_dir():
        raise UsageError(f"there is no folder {into}", where="--into", fix="Make it first.")
    values = {
        "name": name,
        "module": module,
        "cls": "".join(part.capitalize() for part in name.split("-")),
        "word": word,
        "about": "Tells two kinds of points apart" if is_task else "A smoothed training loss",
        "group": registry.TASKS if is_task else registry.PLUGINS,
        "version": version("gluon-trainer"),
        "api": API_VERSION,
        "run": f"trainer run {name}" if is_task else f"trainer run TASK --plugin {name}",
    }
    files = {
        "pyproject.toml": PYPROJECT,
        "README.md": README,
        f"{module}.py": TASK if is_task else PLUGIN,
        f"tests/test_{module}.py": TEST,
    }
    try:
        with new_folder(folder) as new:
            for file, template in files.items():
                path = new / file
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(path, Template(template).substitute(values))
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror or error}", where="--into") from error
    return folder


def _check_name(name: str, module: str, word: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        like = re.sub(r"[^a-z0-9]+", "-", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()).strip("-")
        fix = "It takes small letters, digits and single dashes, and begins with a letter" + (
            f": {like}." if re.match(r"[a-z]", like) else "."
        )
        raise UsageError(f"{name!r} is no name for a {word}", where="NAME", fix=fix)
    for group, known in registry.WORDS.items():
        taken = next((entry for entry in registry.installed(group) if entry.name == name), None)
        if taken is not None:
            raise UsageError(f"there is a {known} of that name already: {taken}", where="NAME", fix="Choose another.")
    wrong = registry.wrong_name(name)
    if wrong:
        raise UsageError(wrong, where="NAME", fix="Choose another.")
    found = find_spec(module)
    # Any folder beside it could be imported as an empty package, without an origin; that hides nothing.
    if keyword.iskeyword(module) or module in sys.stdlib_module_names or (found and found.origin):
        raise UsageError(
            f"a module {module} would hide Python's own, or one that is installed", where="NAME", fix="Choose another."
        )
