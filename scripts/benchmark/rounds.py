"""One round of each workload: each competitor once, in an order that changes between rounds."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmark import calibration, categorical_rounds, large_rounds, report
from benchmark.categorical_data import QUICK_ROWS, ROWS, SWEPT_ROWS
from benchmark.competitors import CATEGORICAL, Competitor
from benchmark.processes import Failed, Surroundings, answer_of, run
from benchmark.workloads import TRAINING, Training, save

Answers = dict[str, dict[str, Any]]
NOTEBOOK = Path(__file__).parent / "notebook_script.py"
IMPORT_MXNET = "import numpy, warnings; warnings.simplefilter('ignore'); numpy.bool = bool; import mxnet"
START_UPS = {
    "python": ("own", "pass"),
    "import trainer": ("own", "import trainer"),
    "trainer --help": ("own", None),
    "import mxnet": ("own", IMPORT_MXNET),
    "import torch": ("peers", "import torch"),
    "import pytorch_lightning": ("peers", "import pytorch_lightning"),
    "import ignite.engine": ("peers", "import ignite.engine"),
    "import skorch": ("peers", "import skorch"),
    "import keras": ("peers", "import os; os.environ['KERAS_BACKEND'] = 'jax'; import keras"),
    "import jax": ("peers", "import jax"),
    "import sklearn.neural_network": ("peers", "import sklearn.neural_network"),
}


@dataclass(frozen=True)
class Plan:
    """What to measure, and where."""

    surroundings: Surroundings
    competitors: Sequence[Competitor]
    quick: bool
    patience: int
    """How often a measurement is repeated if something else keeps the machine busy."""
    say: Callable[[str], None]
    calibrate: Callable[[], float] = calibration.seconds
    """Times the calibration loop."""
    rows: int | None = None
    """Of the tables with many categories; None: the workload's own number."""
    calibrations: dict[str, tuple[float, float]] = field(default_factory=dict, init=False)
    """The loop's times before and after each measurement of this round."""

    def round(self, workload: str, number: int) -> dict[str, Any]:
        """One round of a workload: the answers, and how steadily the machine computed."""
        self.calibrations.clear()
        answers = self._answers(workload, number)
        return {
            "number": number,
            "calibration": {name: list(times) for name, times in self.calibrations.items()},
            "spread": calibration.spread([time for times in self.calibrations.values() for time in times]),
            "answers": answers,
        }

    def _answers(self, workload: str, number: int) -> Answers:
        if workload in TRAINING:
            training = TRAINING[workload]
            return self._training(training.quick() if self.quick else training, number)
        if workload in CATEGORICAL:
            return self._categorical(workload, number)
        others = {"e": self._processes, "f": self._start_ups, "g": self._plugins, "h": self._growth, "i": self._saving}
        others |= {"j": self._exchange, "k": self._images, "t": self._large}
        return others[workload](number)

    def _training(self, training: Training, number: int) -> Answers:
        with tempfile.TemporaryDirectory(prefix="bench-data-") as name:
            paths = save(training, Path(name))
            frequency = float(np.load(paths["y"]).mean())
            answers: Answers = {}
            mine = [one for one in self.competitors if one.takes_part(training.key)]
            for competitor in _shuffled(mine, number):
                function = competitor.whole if training.validation else competitor.function
                job = {**asdict(training), **paths, "module": competitor.module, "function": function}
                measure = partial(
                    answer_of,
                    "worker",
                    job,
                    replace(self.surroundings, paths=tuple(competitor.paths)),
                    environment=competitor.environment,
                )
                answers[competitor.name] = self._measured(competitor.name, measure)
        chance = -frequency * np.log(frequency) - (1 - frequency) * np.log(1 - frequency)
        # After the few steps of a quick round, losses differ by chance.
        report.mark_learning(answers, "" if self.quick else report.REFERENCE[training.key], float(chance))
        return {competitor.name: answers[competitor.name] for competitor in mine}

    def _processes(self, number: int) -> Answers:
        trainer = [str(self.surroundings.own.parent / "trainer"), "run", "logreg"]
        notebook = [str(self.surroundings.own), str(NOTEBOOK)]
        return self._commands({"trainer run logreg": trainer, "the notebook as a script": notebook}, number)

    def _start_ups(self, number: int) -> Answers:
        commands = {}
        for name, (environment, code) in START_UPS.items():
            commands[name] = [self.surroundings.python(environment), "-c", code or ""]
            if code is None:
                commands[name] = [str(self.surroundings.own.parent / "trainer"), "--help"]
        return self._commands(commands, number)

    def _commands(self, commands: Mapping[str, Sequence[str]], number: int) -> Answers:
        answers = {}
        for name in _shuffled(list(commands), number):
            with tempfile.TemporaryDirectory(prefix="bench-") as folder:
                measure = partial(run, commands[name], self.surroundings, cwd=Path(folder))
                answers[name] = self._measured(name, measure)
        return {name: answers[name] for name in commands}

    def _plugins(self, number: int) -> Answers:
        job = {"repeats": 1, "epochs": 2} if self.quick else {"repeats": 5, "epochs": 21}
        answer = self._measured("all sets of plugins", partial(answer_of, "plugin_costs", job, self.surroundings))
        return answer.get("sets", {"no plugins": answer})

    def _growth(self, number: int) -> Answers:
        exponents = (3, 4) if self.quick else (4, 5, 6, 7)
        jobs: dict[str, dict[str, Any]] = {f"10^{exponent} rows": {"rows": 10**exponent} for exponent in exponents}
        epochs = 20 if self.quick else 500
        jobs[f"metrics-log over {epochs} epochs, per step"] = {"epochs": epochs}
        return {
            name: self._measured(name, partial(answer_of, "growth", job, self.surroundings))
            for name, job in jobs.items()
        }

    def _saving(self, number: int) -> Answers:
        with tempfile.TemporaryDirectory(prefix=".bench-", dir=Path.cwd()) as place:
            job = {"megabytes": 1 if self.quick else 100, "repeats": 2 if self.quick else 7, "place": place}
            answer = self._measured("both ways of saving", partial(answer_of, "saving", job, self.surroundings))
        return answer.get("sets", {"a plain write and flush": answer})

    def _exchange(self, number: int) -> Answers:
        mpirun = str(self.surroundings.own.parent / "mpirun")
        together = [mpirun, "--allow-run-as-root", "--oversubscribe", "-n", "2"]
        answers = {}
        for exponent in (3,) if self.quick else (3, 6, 7):
            job = {
                "parameters": 10**exponent,
                "batch": 256,
                "steps": 5 if self.quick else 2000 if exponent == 3 else 30,
            }
            for how, launcher in (("two processes", together), ("one process", [])):
                name = f"10^{exponent} parameters, {how}"
                measure = partial(answer_of, "exchange", job, self.surroundings, launcher=launcher)
                answers[name] = self._measured(name, measure)
        return answers

    def _images(self, number: int) -> Answers:
        from benchmark import images

        with tempfile.TemporaryDirectory(prefix="bench-photos-") as photos:
            rows, epochs, batch = (32, 2, 16) if self.quick else (1792, 4, images.BATCH)
            images.write(Path(photos), rows)
            kinds: dict[str, dict[str, Any]] = {images.OURS: {"plugins": True}, images.OURS_BARE: {"plugins": False}}
            kinds |= {name: images.LOOPS[name] for name in images.QUICK} if self.quick else images.LOOPS
            answers: Answers = {}
            for name in _shuffled(list(kinds), number):
                job = {**kinds[name], "photos": photos, "number": rows, "epochs": epochs, "batch": batch}
                measure = partial(answer_of, "images", job, self.surroundings)
                answers[name] = self._measured(name, measure)
        report.mark_learning(answers, "" if self.quick else images.OURS, float(np.log(10)))
        return {name: answers[name] for name in kinds}

    def _categorical(self, workload: str, number: int) -> Answers:
        rows = self.rows or (QUICK_ROWS if self.quick else ROWS if workload == "m" else SWEPT_ROWS)
        mine = [one for one in self.competitors if one.takes_part(workload)]
        answers: Answers = {}
        with tempfile.TemporaryDirectory(prefix="bench-data-") as folder:
            data = categorical_rounds.save(mine, rows, Path(folder), workload=workload, quick=self.quick)
            jobs = categorical_rounds.jobs(workload, mine, data)
            for name in _shuffled(list(jobs), number):
                competitor, job = jobs[name]
                measure = partial(answer_of, "categorical", job, self.surroundings, environment=competitor.environment)
                answers[name] = self._measured(name, measure)
        # Little is learned in the few steps of a quick round.
        report.mark_learning(answers, "" if self.quick else report.REFERENCE["m"], data["chance"])
        if workload == "n":
            categorical_rounds.compare(answers)
        return {name: answers[name] for name in jobs}

    def _large(self, number: int) -> Answers:
        sizes = large_rounds.QUICK_SIZES if self.quick else (self.rows,) if self.rows else large_rounds.SIZES
        jobs = large_rounds.jobs(sizes, with_peers=any(one.environment == "peers" for one in self.competitors))
        mpirun = str(self.surroundings.own.parent / "mpirun")
        answers: Answers = {}
        for name, one in jobs.items():
            together = [mpirun, "--allow-run-as-root", "--oversubscribe", "-n", str(one.processes)]
            launcher = together if one.processes > 1 else []
            measure = partial(
                answer_of, "large", one.job, self.surroundings, environment=one.environment, launcher=launcher
            )
            answers[name] = self._measured(name, measure)
        large_rounds.compare(answers, sizes)
        return answers

    def _measured(self, name: str, measure: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """The measurement, or the error. If other processes kept the machine busy, or the calibration loop varied, it
        is repeated, and the least disturbed one counts."""
        found: list[tuple[dict[str, Any], tuple[float, float]]] = []
        before = self.calibrate()
        for _ in range(1 + self.patience):
            try:
                answer = dict(measure())
            except Failed as error:
                answer = {"error": str(error), "others": 0.0}
            after = self.calibrate()
            found.append((answer, (before, after)))
            before = after
            if not _disturbance(*found[-1]):
                break
        answer, self.calibrations[name] = min(found, key=lambda one: ("error" in one[0], _disturbance(*one)))
        shown = report.show(answer["seconds"]) if "seconds" in answer else answer["error"]
        disturbed = f" ({answer['others']:.1f} cores were busy)" if answer["others"] > report.DISTURBED else ""
        varied = calibration.spread(self.calibrations[name])
        if varied >= calibration.LIMIT:
            disturbed += f" (the calibration loop varied by {varied:.1%})"
        self.say(f"  {name}: {shown}{disturbed}")
        return answer


def _disturbance(answer: Mapping[str, Any], times: tuple[float, float]) -> float:
    """How far a measurement is beyond what is accepted; 0 for one that is not disturbed."""
    varied = calibration.spread(times) / calibration.LIMIT
    return max(varied if varied >= 1 else 0.0, answer["others"] if answer["others"] > report.DISTURBED else 0.0)


def _shuffled(items: Sequence[Any], number: int) -> Iterator[Any]:
    order = list(items)
    random.Random(number).shuffle(order)
    return iter(order)
