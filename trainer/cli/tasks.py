"""The tasks as commands of `trainer run`; a task is imported only when it is needed."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

from trainer.cli.help import broken, escaped
from trainer.errors import UsageError


class TaskGroup(TyperGroup):
    """The tasks as commands. A task's module is imported when its command, or the list of all, is needed."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Every task's name, from metadata."""
        from trainer.catalog import registry

        return sorted({entry.name for entry in registry.installed(registry.TASKS)})

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a task; a task that cannot be loaded shows its error in the list."""
        try:
            return escaped(self.made(cmd_name))
        except UsageError as error:
            return broken(cmd_name, str(error))

    def made(self, name: str) -> Any:
        """The command of a task; overridden by groups with other commands for tasks."""
        from trainer.cli.run import task_command

        return task_command(name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command of that name. Raises UsageError for a task that is unknown or cannot be loaded."""
        from trainer.catalog import registry

        if args and not args[0].startswith("-"):
            registry.load(registry.TASKS, args[0])
        return super().resolve_command(ctx, args)
