"""`trainer tune TASK`: the options of `trainer run TASK`, and those of the study."""

from __future__ import annotations

import inspect
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from trainer.cli import TaskGroup, metric_names, say

if TYPE_CHECKING:
    from collections.abc import Iterator

PANEL = "The study"


class Sampler(str, Enum):
    """How the next values are chosen."""

    tpe = "tpe"
    random = "random"
    grid = "grid"


class Pruner(str, Enum):
    """How unpromising trials are found."""

    median = "median"
    halving = "halving"
    hyperband = "hyperband"
    none = "none"


class Direction(str, Enum):
    """Whether a higher or a lower value is better."""

    auto = "auto"
    max = "max"
    min = "min"


class TuneGroup(TaskGroup):
    """The tasks as commands of `trainer tune`."""

    def made(self, name: str) -> Any:
        """The command of a task."""
        from trainer.cli import task_command

        return task_command(
            name,
            _tune,
            more=list(_parameters()),
            leave_out={"name", "dry_run"},
            example="trainer tune {name} --trials 20 --search learning-rate=log:1e-3..1",
        )


app = typer.Typer(
    cls=TuneGroup,
    no_args_is_help=True,
    subcommand_metavar="TASK [OPTIONS]",
    help="Searches for a task's best settings. Uses Optuna; every trial is a run.\n\n"
    "Example: trainer tune TASK --trials 20 --search learning-rate=log:1e-3..1 --search batch-size=16|32|64",
)


def _parameters() -> Iterator[inspect.Parameter]:
    """The options of the study; samplers and pruners are named as in Optuna."""
    options: list[tuple[str, Any, Any, str, Optional[str]]] = [  # noqa: UP045  one form for all of them
        (
            "search",
            Optional[list[str]],  # noqa: UP045  Typer reads the annotation at run time, on Python 3.10 too
            None,
            "What to vary: KEY=LOW..HIGH, KEY=log:LOW..HIGH, KEY=LOW..HIGH:STEP or KEY=A|B; may be repeated. "
            "KEY is an option's name, or a full name as in --set.",
            "KEY=WHAT",
        ),
        ("trials", Optional[int], None, "The total number of trials in the study. [default: 20]", "INTEGER"),  # noqa: UP045
        ("monitor", str, "validation/loss", "The metric to optimize, by its value at the end of a run.", "METRIC"),
        ("direction", Direction, Direction.auto, "Which value is better; auto: as the metric says.", None),
        ("sampler", Sampler, Sampler.tpe, "How values are chosen; grid: every combination once.", None),
        ("pruner", Pruner, Pruner.median, "How unpromising trials are found; they are stopped early.", None),
        ("study", str, "tune", "The study's name; the same command continues an existing study.", "NAME"),
        (
            "storage",
            Optional[str],  # noqa: UP045
            None,
            "Where Optuna keeps the study, as a database URL. [default: tune.db in the study's folder]",
            "URL",
        ),
        ("minutes", Optional[float], None, "Start no trial after this many minutes.", "NUMBER"),  # noqa: UP045
    ]
    for name, kind, default, text, metavar in options:
        info = typer.Option(
            f"--{name}",
            help=text,
            metavar=metavar,
            rich_help_panel=PANEL,
            autocompletion=metric_names if name == "monitor" else None,
            min=1 if name == "trials" else 0 if name == "minutes" else None,
        )
        annotation = Annotated[kind, info]  # type: ignore[valid-type]
        yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _tune(task: str, given: dict[str, Any]) -> None:
    from trainer.cli import request_of
    from trainer_plugins.tune import search
    from trainer_plugins.tune.options import StudyOptions
    from trainer_plugins.tune.running import StudyError, tune

    named = {parameter.name: given.pop(parameter.name) for parameter in _parameters()}
    options = StudyOptions(
        request=request_of(task, given),
        dimensions=search.parse(named["search"] or ()),
        trials=named["trials"],
        monitor=named["monitor"],
        direction=named["direction"].value,
        sampler=named["sampler"].value,
        pruner=named["pruner"].value,
        name=named["study"],
        storage=named["storage"],
        minutes=named["minutes"],
    )
    try:
        tune(options, say)
    except StudyError as error:
        say(f"error: {error}", err=True)
        raise typer.Exit(1) from error
