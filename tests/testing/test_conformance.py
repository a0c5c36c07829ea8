"""The conformance kit: all built-in plugins and tasks pass every check, and for each check an example fails it."""

import random
import tempfile
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pytest
from packages import in_process, install, trainer
from processor import needs_bfloat16
from pydantic import Field

from trainer import Arrays, Phase, Plugin, Splits, UsageError
from trainer.atomic import cut_back
from trainer.catalog import registry
from trainer.catalog.registry import PLUGINS, TASKS
from trainer.data import Slices
from trainer.testing import (
    BrokenPromiseError,
    TinyImages,
    TinyTask,
    check_plugin,
    check_task,
    plugin_checks,
    plugins,
    rows,
    task_checks,
    tasks,
)
from trainer.testing.tiny import TinyWithThreshold

NEEDED = {"gradient-clipping": {"norm": 1.0}, "gradient-accumulation": {"batches": 2}, "proximal": {"l1": 0.01}}
NEEDED["slices"] = {"min-rows": 1, "bootstrap": 3}
NEEDED["operating-points"] = {"points": "review=recall-at-precision:0.5,block=share:0.1", "min-rows": 2}
"""Options without which a plugin of ours does nothing, or is refused."""
PLACE = tempfile.TemporaryDirectory()
"""Where MLflow keeps one record of all of these runs: making a new one takes longer than a run."""
NEEDED["mlflow"] = {"tracking-uri": f"sqlite:///{PLACE.name}/mlflow.db"}
SLOW = {"mlflow"}
ON_IMAGES = {"cutmix", "label-smoothing", "mixup"}
"""Plugins that want labels which are probabilities."""


class Sliced(TinyWithThreshold):
    """Every other row is in another slice."""

    def splits(self, run):
        found = super().splits(run)
        slices = {
            split: {"group": Slices(np.arange(count, dtype=np.int32) % 2, ["a", "b"])}
            for split, count in (("validation", self.validation_rows), ("test", self.test_rows))
            if count
        }
        return replace(found, slices=slices)


TASKS_OF = {
    "slices": {"task": lambda: Sliced(21, 9, 5)},
    "conformal": {"task": lambda: TinyWithThreshold(21, 9, 5, calibration_rows=12)},
    "operating-points": {"task": lambda: TinyWithThreshold(21, 9, 5)},
}
"""Plugins that want a threshold, calibration rows or slices."""


def ours(group):
    return [entry.name for entry in registry.installed(group) if entry.is_ours]


def promises_of_ours():
    for name in ours(PLUGINS):
        marks = [pytest.mark.slow] if name in SLOW else []
        marks += [needs_bfloat16] if name == "mixed-precision" else []
        task = {"task": TinyImages} if name in ON_IMAGES else TASKS_OF.get(name, {})
        checks = plugin_checks(lambda name=name: registry.create_plugin(name, NEEDED.get(name, {}), where=""), **task)
        yield from (pytest.param(check, id=f"{name}-{check.name}", marks=marks) for check in checks)


@pytest.mark.parametrize("check", list(promises_of_ours()))
def test_every_plugin_of_ours_keeps_every_promise(check):
    check()


@pytest.mark.parametrize("check", task_checks(lambda: registry.load(TASKS, "logreg")(train_rows=60)))
def test_the_task_keeps_every_promise(check):
    check()


# ---- plugins that break one promise each -----------------------------------------------------------------------------


@dataclass
class Good(Plugin):
    """Counts batches, on disk and in a metric, and passes every check."""

    every: Annotated[int, Field(ge=1, description="Steps between two lines.")] = 1
    how: Annotated[Literal["plain", "loud"], Field(description="How it is written.")] = "plain"

    def __post_init__(self):
        self._count = self._size = 0

    def on_setup(self, run):
        if run.folder is not None and run.resumed:
            cut_back(run.folder / f"{self.name}.txt", self._size)

    def on_batch_end(self, run):
        self._count += 1
        if run.folder is not None and run.step % self.every == 0:
            with (run.folder / f"{self.name}.txt").open("a") as file:
                file.write(f"{run.step}\n")
                self._size = file.tell()

    def on_epoch_end(self, run):
        run.log({f"{self.name}/count": self._count})

    def state_dict(self):
        return {"count": self._count, "size": self._size}

    def load_state_dict(self, state):
        self._count, self._size = state["count"], state["size"]


class Deaf(Good):
    """Listens to what never happens."""

    def on_epoch_ends(self, run): ...


@dataclass
class Silent(Good):
    """Has an option without a help text."""

    mystery: int = 1


@dataclass
class Undocumented(Plugin):
    every: Annotated[int, Field(description="Something.")] = 1


@dataclass
class NoneForTOML(Good):
    """An option is None although its default is not."""

    limit: Annotated[int | None, Field(description="A limit.")] = 3


@dataclass
class Nested(Good):
    """Has an option that no flag can hold."""

    table: Annotated[dict[str, int], Field(description="A table.")] = field(default_factory=lambda: {"a": 1})


class KeepsOutputs(Good):
    """Collects predictions without a copy."""

    def __post_init__(self):
        super().__post_init__()
        self.seen = []

    def on_batch_begin(self, run):
        self.seen.append(run.outputs)


class NeedsFolder(Good):
    """Assumes that there is a folder."""

    def on_fit_end(self, run):
        (run.folder / "end").touch()


class Shared(Good):
    """Counts in the class."""

    total = 0

    def on_epoch_end(self, run):
        type(self).total += 1
        run.log({"total": type(self).total})


class Dice(Good):
    """Draws from an unseeded generator."""

    def on_epoch_end(self, run):
        run.log({"dice": random.SystemRandom().random()})


class Forgets(Good):
    """Does not load its state."""

    def load_state_dict(self, state):
        pass


class StartsAfresh(Good):
    """Loads its state, and resets it in setup."""

    def on_setup(self, run):
        super().on_setup(run)
        self._count = 0


class Odd(Good):
    """Has a state that no checkpoint can hold."""

    def state_dict(self):
        return {"count": {1, 2}}


class Hoards(Good):
    """Does not say that it needs its counter."""

    def state_dict(self):
        return {"size": self._size}

    def load_state_dict(self, state):
        self._size = state["size"]

    def on_epoch_end(self, run): ...


class Appends(Plugin):
    """Does not truncate its file."""

    def on_batch_end(self, run):
        if run.folder is not None:
            with (run.folder / "appends.txt").open("a") as file:
                file.write(f"{run.step}\n")


class Careless(Good):
    """Closes what only setup has opened."""

    def on_setup(self, run):
        super().on_setup(run)
        self._file = Path("/dev/null").open()  # noqa: SIM115

    def on_teardown(self, run):
        self._file.close()


class Confident(Good):
    """Assumes that an epoch has been evaluated."""

    def on_fit_end(self, run):
        run.log({"best": run.history[0]["validation/loss"]})


class NeedsEvaluation(Good):
    """Reads what only an evaluation leaves."""

    def on_epoch_end(self, run):
        run.log({"mean": run.evaluation.predictions.mean()})


class NeedsAMinute(Good):
    """Fails in a run that ends at once."""

    def on_fit_end(self, run):
        assert run.step > 1


class FirstContextOnly(Good):
    """Changes the weights on one context."""

    phase = Phase.TRANSFORM

    def on_batch_end(self, run):
        super().on_batch_end(run)
        for parameter in run.net.collect_params().values():
            parameter.data(run.contexts[0])[:] *= 0.5


class ReadsFirstShard(Good):
    """Needs rows on every context."""

    def on_batch_end(self, run):
        super().on_batch_end(run)
        for shard in run.batch.shards:
            shard.label.asnumpy()


@dataclass
class Twins(Good):
    """Keeps its list where the other instance keeps its own."""

    seen = []  # noqa: RUF012

    def on_batch_end(self, run):
        super().on_batch_end(run)
        self.found = self.seen
        if len(self.found) < 1:
            self.found.append("something")


class Alone(Good):
    """Cannot be there twice."""

    def on_setup(self, run):
        super().on_setup(run)
        (run.folder or Path("/nowhere")).parent.mkdir(exist_ok=True)
        if run.folder:
            (run.folder / "alone").mkdir(exist_ok=run.resumed)


BREAKERS = [
    (Deaf, "its-class-is-declared-correctly", "Did you mean 'on_epoch_end'"),
    (Silent, "its-class-is-declared-correctly", "the options mystery have no help text"),
    (Undocumented, "its-class-is-declared-correctly", "has no docstring"),
    (lambda: NoneForTOML(limit=None), "options-go-through-toml-and-flags", "limit was None and is 3"),
    (Nested, "options-go-through-toml-and-flags", "the option table refuses its own value from --set"),
    (KeepsOutputs, "a-whole-run-works", "seen keeps .* arrays of run.outputs, which later batches overwrite"),
    (NeedsFolder, "a-whole-run-works", "run.folder is None.*on_fit_end raised TypeError"),
    (Shared, "two-runs-are-the-same", "run/metrics/total"),
    (Dice, "two-runs-are-the-same", "run/metrics/dice"),
    (Forgets, "state-survives-a-save-and-a-load", "its state 'count' was 2 .* and is 0 after setup"),
    (StartsAfresh, "state-survives-a-save-and-a-load", "on_setup must not reset it"),
    (Odd, "state-survives-a-save-and-a-load", "no checkpoint could be written|state_dict raised"),
    (Forgets, "a-resumed-run-equals-an-uninterrupted-one", "killed at step 2 and resumed"),
    (Hoards, "a-resumed-run-equals-an-uninterrupted-one", "ends with _count = 16, .* with 18"),
    (Dice, "a-resumed-run-equals-an-uninterrupted-one", "run/metrics/dice"),
    (Appends, "a-resumed-run-equals-an-uninterrupted-one", "lines in appends.txt"),
    (Careless, "it-survives-an-exception-elsewhere", "fails in on_setup: on_teardown raised AttributeError"),
    (Confident, "it-survives-an-exception-elsewhere", "another plugin fails in on_setup: on_fit_end raised IndexError"),
    (Confident, "it-survives-an-interrupt", "at an interrupt within a batch: on_fit_end raised IndexError"),
    (NeedsAMinute, "it-survives-a-stop-in-the-first-batch", "stopped in its first batch: on_fit_end"),
    (NeedsEvaluation, "it-survives-an-epoch-without-evaluation", "without a validation split: on_epoch_end raised At"),
    (FirstContextOnly, "it-survives-several-devices", "weights 0.weight differ by|weights weight differ by"),
    (ReadsFirstShard, "it-survives-several-devices", "on three contexts: on_batch_end raised AttributeError"),
    (Twins, "two-instances-work-side-by-side", "both instances share the same list in found"),
    (Alone, "two-instances-work-side-by-side", "one of two instances: on_setup raised FileExistsError"),
]


def check_of(checks, name):
    return next(check for check in checks if check.name == name)


@pytest.mark.parametrize(("make", "name", "message"), BREAKERS)
def test_a_plugin_that_breaks_a_promise_is_told_which(make, name, message):
    with pytest.raises(BrokenPromiseError, match=f"(?s){message}"):
        check_of(plugin_checks(make), name)()


def test_each_promise_of_a_plugin_has_an_example_that_breaks_it():
    names = {check.name for check in plugin_checks(Good)}
    told, measured = "importing-it-does-not-import-mxnet", "its-cost-is-known"
    assert {name for _, name, _ in BREAKERS} | {told, measured} == names


def test_a_plugin_that_keeps_them_all_is_told_its_cost():
    notes = check_plugin(Good, files=["good.txt"])
    assert "µs per batch (over 300 steps)" in notes["its-cost-is-known"]


def test_a_file_that_is_named_has_to_be_the_same_to_the_byte():
    class Stamped(Good):
        def on_fit_end(self, run):
            if run.folder is not None:
                (run.folder / "stamp.bin").write_text(str(run.resumed))

    with pytest.raises(BrokenPromiseError, match="has written a different stamp"):
        check_of(plugin_checks(Stamped, files=["stamp.bin"]), "a-resumed-run-equals-an-uninterrupted-one")()
    with pytest.raises(BrokenPromiseError, match="has not written other"):
        check_of(plugin_checks(Stamped, files=["other.bin"]), "a-resumed-run-equals-an-uninterrupted-one")()


def test_what_may_differ_can_be_ignored():
    numbers = count()

    class Numbered(Good):
        """Logs something else in every run."""

        def on_epoch_end(self, run):
            super().on_epoch_end(run)
            run.log({"speed/rows": next(numbers)})

    with pytest.raises(BrokenPromiseError, match="speed/rows"):
        check_plugin(Numbered)
    check_plugin(Numbered, ignore=["speed/*"])
    Numbered.varying = ("speed/*",)
    check_plugin(Numbered)


def test_a_refusal_that_tells_the_user_what_to_do_is_not_a_broken_promise():
    class Asks(Good):
        """Says what it needs."""

        def on_setup(self, run):
            super().on_setup(run)
            others = [each for each in run.plugins if isinstance(each, Asks)]
            if run.validation is None or run.folder is None or len(others) > 1:
                raise UsageError("it needs more than that", fix="Give it more.")

    check_plugin(Asks)


def test_all_broken_promises_are_told_at_once():
    with pytest.raises(BrokenPromiseError) as caught:
        check_plugin(Forgets)
    assert len(str(caught.value).splitlines()) == 2


def test_the_plugin_can_be_tried_on_a_task_of_its_own():
    class NeedsWeights(Good):
        """Wants rows with weights."""

        def on_batch_end(self, run):
            assert run.batch.shards[0].weight is not None

    with pytest.raises(BrokenPromiseError):
        check_plugin(NeedsWeights)
    weighted = check_plugin(NeedsWeights, task=lambda: TinyTask(21, 9, 5, weighted=True))
    assert weighted["its-cost-is-known"]


# ---- tasks that break one promise each -------------------------------------------------------------------------------


@dataclass
class Base(TinyTask):
    """Two classes and a linear net."""

    train_rows: Annotated[int, Field(ge=0, description="Rows to train on.")] = 20
    validation_rows: Annotated[int, Field(ge=0, description="Rows of the validation split.")] = 30


class TwoNeurons(Base):
    """Two outputs for one label."""

    def net(self):
        from trainer.mxnet import gluon

        return gluon.nn.Dense(2)


class OneForSoftmax(Base):
    """A softmax over one output, which is 1."""

    def loss(self):
        from trainer.mxnet import gluon

        return gluon.loss.SoftmaxCrossEntropyLoss()


class MinusOne(Base):
    """Labels in {-1, 1} for a loss that wants {0, 1}."""

    def splits(self, run):
        return Splits(*(Arrays(part.features, 2 * part.labels - 1) for part in (rows(20), rows(30, seed=1))))


class FromOne(Base):
    """Classes counted from 1."""

    def splits(self, run):
        return Splits(*(Arrays(part.features, part.labels + 1) for part in (rows(20), rows(30, seed=1))))

    def net(self):
        from trainer.mxnet import gluon

        return gluon.nn.Dense(2)

    def loss(self):
        from trainer.mxnet import gluon

        return gluon.loss.SoftmaxCrossEntropyLoss()

    def metrics(self):
        return []

    def predictions(self, outputs):
        return outputs.softmax()


class Unseeded(Base):
    """Other rows every time."""

    def splits(self, run):
        return Splits(rows(20, seed=random.SystemRandom().randrange(10**6)), rows(30, seed=1))


class TwoFacedTask(Base):
    """A net that is not the same when it is bound."""

    def net(self):
        from nets import TwoFaced

        return TwoFaced()


class AveragesOverBatches(Base):
    """MXNet's F1, as it is."""

    def metrics(self):
        from trainer.mxnet import mx

        return [mx.metric.F1(average="macro")]

    def predictions(self, outputs):
        from trainer.mxnet import mx

        p = outputs.sigmoid().reshape((-1, 1))
        return mx.nd.concat(1 - p, p, dim=1)


class PairsOnly(Base):
    """A net that cannot be trained on one row."""

    def net(self):
        from nets import NeedsTwoRows

        return NeedsTwoRows()


class DropsRows(Base):
    """Predictions of half of the rows."""

    def predictions(self, outputs):
        return outputs.sigmoid().reshape(-1)[:1]

    def metrics(self):
        return []


class MeanOverRows(Base):
    """A loss that weights a row by the size of its shard."""

    def loss(self):
        from trainer.mxnet import gluon

        loss = gluon.loss.SigmoidBinaryCrossEntropyLoss()

        def per_shard(outputs, labels):
            return loss(outputs, labels) * len(labels)

        return per_shard

    def metrics(self):
        return []


TASK_BREAKERS = [
    (TwoNeurons, "the-net-has-the-outputs-that-the-loss-needs", r"the net has 2 outputs per row, but a row has 1"),
    (OneForSoftmax, "the-net-has-the-outputs-that-the-loss-needs", "over one output is always 0"),
    (MinusOne, "labels-are-what-the-loss-needs", r"needs labels in \{0, 1\}, but the data have \{-1, 1\}"),
    (FromOne, "labels-are-what-the-loss-needs", r"needs labels in 0 to 1, .* but the data have \{1, 2\}"),
    (Unseeded, "two-runs-are-the-same", "a different result the second time: run/metrics"),
    (TwoFacedTask, "compiled-and-recorded-steps-agree", "differ by"),
    (AveragesOverBatches, "metrics-do-not-depend-on-the-batch-size", r"validation/f1 is .* in batches of 7"),
    (PairsOnly, "any-batch-size-trains", "batch_size = 1.*two rows at least"),
    (DropsRows, "predictions-have-a-row-for-each-row", "for 30 rows of labels"),
    (Unseeded, "a-resumed-run-equals-an-uninterrupted-one", "killed at step 6 and resumed"),
    (MeanOverRows, "several-devices-equal-one", "on two contexts the gradients differ"),
]


@pytest.mark.parametrize(("make", "name", "message"), TASK_BREAKERS)
def test_a_task_that_breaks_a_promise_is_told_which(make, name, message):
    with pytest.raises(BrokenPromiseError, match=f"(?s){message}"):
        check_of(task_checks(make), name)()


def test_each_promise_of_a_task_has_an_example_that_breaks_it():
    shared = {name for name in (check.name for check in plugin_checks(Good)) if "declared" in name or "toml" in name}
    names = {check.name for check in task_checks(Base)} - shared - {"importing-it-does-not-import-mxnet"}
    assert {name for _, name, _ in TASK_BREAKERS} == names


def test_a_task_that_keeps_them_all_passes():
    check_task(Base, batch_size=8)


def test_the_promises_are_told_in_sentences():
    for check in [*plugin_checks(Good), *task_checks(Base)]:
        assert check.promise.endswith(".")
        assert check.__name__.replace("_", "-") == check.name
    assert len(plugins.PROMISES) == len(plugin_checks(Good))
    assert len(tasks.PROMISES) == len(task_checks(Base))


# ---- the command -----------------------------------------------------------------------------------------------------

IMPORTS_MXNET = '''
"""A plugin that takes its time to be imported."""
import numpy as np

np.bool = bool
import mxnet
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from trainer import Plugin


@dataclass
class Slow(Plugin):
    """Does nothing, slowly."""

    every: Annotated[int, Field(gt=0, description="Steps.")] = 1

    def on_fit_end(self, run):
        assert run.step > self.every
'''


@pytest.fixture
def site(tmp_path):
    install(tmp_path / "site", "slowly", {PLUGINS: {"slow": "slowly:Slow"}}, slowly=IMPORTS_MXNET)
    return tmp_path / "site"


def test_the_command_tells_what_is_kept_and_what_is_broken(site):
    done = trainer("plugins", "check", "slow", "--set", "slow.every=3", path=[site])
    assert done.returncode == 1
    assert "FAILED  importing it does not import mxnet: importing slowly imports MXNet" in done.stdout
    assert "FAILED  it survives a stop in the first batch: " in done.stdout
    assert "passed  options go through toml and flags" in done.stdout
    assert "passed  its cost is known: " in done.stdout
    assert done.stderr.endswith(" checks, see above\n")
    assert "Traceback" not in done.stderr


def test_the_command_knows_tasks_too():
    done = in_process("plugins", "check", "logreg", "--set", "logreg.train-rows=50")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("passed  ") == len(tasks.PROMISES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["progres"], "there is no plugin or task 'progres'"),
        (["gradient-clipping"], "neither norm nor value is given"),
        (["progress", "--set", "progress.bar=1"], "Did you mean 'bars'?"),
        (["progress", "--set", "bars=1"], "Write progress.OPTION=VALUE"),
        (["logreg", "--set", "logreg.data=nowhere.csv"], "nowhere.csv"),
    ],
)
def test_a_mistake_in_the_command_is_one_line(arguments, message):
    done = in_process("plugins", "check", *arguments)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert message in done.stderr


@pytest.mark.parametrize("rows", [2, 5, 40])
def test_a_plugin_that_does_nothing_passes_on_any_task(rows):
    class Nothing(Plugin):
        """Does nothing."""

    for check in plugin_checks(Nothing, task=lambda: TinyTask(train_rows=rows)):
        if "state" in check.name or "resumed" in check.name:
            check()
