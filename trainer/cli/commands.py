"""The commands of `trainer`: the built-in ones, and those that packages add through entry points."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from trainer.cli.help import broken, escaped, markup
from trainer.errors import UsageError


class Commands(TyperGroup):
    """The built-in commands, then those of the group `trainer.commands`: functions and Typer apps.

    An added command's module is imported when it or the list of all commands is needed, so it should import little.
    The names of built-in commands cannot be taken. A command that cannot be loaded shows its error in the list.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        """The built-in commands in their order, then the others by name, from metadata."""
        from trainer.catalog import registry

        own = super().list_commands(ctx)
        added = {entry.name for entry in registry.installed(registry.COMMANDS)}
        return [*own, *sorted(added.difference(own))]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, or None."""
        from trainer.catalog import registry

        own = super().get_command(ctx, cmd_name)
        if own is not None or all(entry.name != cmd_name for entry in registry.installed(registry.COMMANDS)):
            return own
        try:
            return _made(cmd_name)
        except UsageError as error:
            return broken(cmd_name, str(error))


def _made(name: str) -> Any:
    """The command that an entry point names. Raises UsageError if it cannot be loaded or is neither."""
    from trainer.catalog import registry

    entry = registry.find(registry.COMMANDS, name)
    found = registry.imported(entry)
    app = typer.Typer(add_completion=False, rich_markup_mode=markup())
    try:
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name)
            built = typer.main.get_group(app).commands[name]
        else:
            app.command(name)(found)
            built = typer.main.get_command(app)
    except Exception as error:  # a package's annotations may be anything
        raise UsageError(
            f"{entry.value} cannot be a command: {type(error).__name__}: {error}",
            where=str(entry),
            fix=f"Fix or uninstall {entry.distribution}.",
        ) from error
    built.name = name
    return escaped(built)
