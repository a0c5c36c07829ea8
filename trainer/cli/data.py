"""`trainer data show`: what a run would make of a table; and the commands on caches of tables."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from trainer.cli.help import escaped, markup
from trainer.terminal import say

NOT_OPTIONS = ("data",)
"""Options of a table that are arguments here."""
HELP = """Shows every column of a table as a run would see it. Trains nothing.

Prints kind, missing and distinct values, range or commonest values, the inputs of the net, and what looks wrong.
Without --label, nothing is split, and all rows count as training rows.

Example: trainer data show train.csv --label y --ignore id"""


class DataGroup(TyperGroup):
    """The commands about tables. What they need is imported when one of them is."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names."""
        return ["cache", "show"]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, or None."""
        if cmd_name == "cache":
            return _cache_group()
        return escaped(_show_command()) if cmd_name == "show" else None


app = typer.Typer(no_args_is_help=True, cls=DataGroup)


def _cache_group() -> Any:
    """The commands on caches."""
    from trainer.cli import data_cache

    outer = typer.Typer(add_completion=False, rich_markup_mode=markup())
    outer.add_typer(data_cache.app, name="cache", help="Lists and removes caches of tables.")
    # Typer makes a group of a single group, from which this one is taken.
    outer.callback()(lambda: None)
    return typer.main.get_command(outer).commands["cache"]  # type: ignore[attr-defined]


def _show_command() -> Any:
    """The command with the options of every task that learns from tables."""
    from trainer.cli.flags import option_flag
    from trainer.config.options import options_of
    from trainer.data.tables.options import AnyTable

    def show(**given: Any) -> None:
        _show(**given)

    files = typer.Argument(help="The table: files, folders or patterns.", metavar="FILE...")
    seed = typer.Option(help="The seed by which rows are split; a run's own seed gives its splits.", metavar="INTEGER")
    as_json = typer.Option("--json", help="Print one JSON object.")
    parameters = [
        _parameter("files", Annotated[list[str], files]),
        *(
            option_flag(option, "Options of a table")
            for option in options_of(AnyTable)
            if option.field not in NOT_OPTIONS
        ),
        _parameter("seed", Annotated[int, seed], 0),
        _parameter("as_json", Annotated[bool, as_json], default=False),
    ]
    show.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    show.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    made = typer.Typer(add_completion=False, rich_markup_mode=markup())
    made.command("show", help=HELP)(show)
    built = typer.main.get_command(made)
    built.name = "show"
    return built


def _parameter(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _show(files: list[str], seed: int, as_json: bool, **given: Any) -> None:
    import json

    from trainer.cli.data_text import described
    from trainer.cli.flags import once
    from trainer.config.options import options_of
    from trainer.data.tables.options import AnyTable
    from trainer.data.tables.overview import look

    values = {
        option.field: option.parse(once(given[option.field]), where="--")
        for option in options_of(AnyTable)
        if given.get(option.field) not in (None, [])
    }
    overview = look(AnyTable(data=tuple(map(Path, files)), **values), seed=seed)
    if as_json:
        say(json.dumps(overview.to_json(), indent=2, ensure_ascii=False), block=True)
        return
    for line in described(overview):
        say(line)
