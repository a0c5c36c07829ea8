"""`trainer config show TASK`: the options that a run would have, and where each comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import typer

from trainer.cli.table import aligned
from trainer.cli.tasks import TaskGroup
from trainer.terminal import say

if TYPE_CHECKING:
    from trainer.config.given import Given
    from trainer.launch.launch import Launch


class ShowGroup(TaskGroup):
    """The tasks as commands of `trainer config show`."""

    def made(self, name: str) -> Any:
        """The command of a task: that of `trainer run` without what only a run needs."""
        from trainer.cli.run import task_command

        left_out = ("dry_run", "name", "runs_dir")
        example = "trainer config show {name} --config base.toml --config mine.toml"
        return task_command(name, _show, leave_out=left_out, example=example)


app = typer.Typer(no_args_is_help=True)
app.add_typer(
    typer.Typer(no_args_is_help=True),
    name="show",
    cls=ShowGroup,
    help="Shows the options that a run would have, and where each comes from. Trains nothing.\n\n"
    "Example: trainer config show TASK --config base.toml --config mine.toml",
    subcommand_metavar="TASK [OPTIONS]",
)


def _show(task: str, given: dict[str, Any]) -> None:
    from trainer.cli.run import request_of
    from trainer.launch.prepare import prepare_run

    for line in described(prepare_run(request_of(task, {**given, "runs_dir": None}))):
        say(line)


def described(launch: Launch) -> Iterator[str]:
    """The configuration as TOML, with the origin of each value as a comment."""
    from trainer.config import options
    from trainer.config.settings import kebab

    config, given = launch.config(), launch.given
    task, plugins = config.pop("task"), config.pop("plugins")
    optimizer = config.pop("optimizer")
    for name in ("schema", "secrets"):
        config.pop(name, None)
    tables: list[tuple[str, Mapping[str, Any], Mapping[str, Given], str]] = [
        ("", config, given.settings, ""),
        ("[optimizer]", {kebab(key): value for key, value in optimizer.items()}, given.optimizer, ""),
        ("[task]", task, given.task, f"task {launch.task.name!r}"),
    ]
    for plugin in launch.plugins:
        chosen = given.plugins.get(plugin.name)
        head = f"[plugins.{_key(plugin.name)}]"
        by = _origin(chosen.origin.place) if chosen is not None else "Python"
        values = {**plugins[plugin.name], **dict.fromkeys(options.secrets_of(plugin), "<secret>")}
        tables.append((head, values, chosen.options if chosen is not None else {}, by))
    rows: list[list[str]] = []
    for head, table, origins, by in tables:
        if head:
            rows += [["", ""], [head, f"# {by}" if by else ""]]
        for name, value in table.items():
            origin = origins[name].where if name in origins and origins[name].origin.source != "default" else ""
            if name in origins and not origin:
                origin = origins[name].origin.place
            said = "" if (head, name) == ("[task]", "name") else f"# {origin or 'its default'}"
            rows.append([f"{name} = {_toml(value)}", said])
    yield from aligned(rows)


def _origin(place: str) -> str:
    return place.rstrip("-. ") or "Python"


def _key(name: str) -> str:
    return name if name.replace("-", "").replace("_", "").isalnum() else f'"{name}"'


def _toml(value: Any) -> str:
    import tomli_w

    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    return tomli_w.dumps({"value": value}).removeprefix("value = ").strip()
