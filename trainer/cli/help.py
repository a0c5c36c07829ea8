"""How the command line's help looks, and what stands in it for a command that cannot be loaded."""

from __future__ import annotations

import sys
from typing import Any, Literal

import typer

from trainer.errors import UsageError
from trainer.terminal import safe


def markup() -> Literal["rich"] | None:
    """Typer's markup mode for help: boxes on a terminal; plain text in a pipe or a file, where boxes would be noise."""
    return "rich" if sys.stdout.isatty() else None


def escaped(command: Any) -> Any:
    """The command of a package, with the control characters in its help and in that of its parts written out."""
    for part in (command, *command.params):
        for field in ("help", "short_help", "epilog", "metavar", "rich_help_panel"):
            text = getattr(part, field, None)
            if isinstance(text, str):
                setattr(part, field, _escaped(text))
    for inner in getattr(command, "commands", {}).values():
        escaped(inner)
    return command


def _escaped(text: str) -> str:
    # A line with a backspace alone marks a paragraph that is not wrapped, and a form feed ends the help.
    lines = text.partition("\f")[0].split("\n")
    return "\n".join(line if line.strip(" ") == "\b" else safe(line) for line in lines)


def broken(name: str, message: str) -> Any:
    """A command that says why it cannot be used, both in the list of commands and when it is called."""
    app = typer.Typer(add_completion=False)

    @app.command(name, help=f"Cannot be used: {message}")
    def command() -> None:
        raise UsageError(message)

    return escaped(typer.main.get_command(app))
