"""How the command line's help looks, and what stands in it for a command that cannot be loaded."""

from __future__ import annotations

import sys
from typing import Any, Literal

import typer

from trainer.errors import UsageError


def markup() -> Literal["rich"] | None:
    """Typer's markup mode for help: boxes on a terminal; plain text in a pipe or a file, where boxes would be noise."""
    return "rich" if sys.stdout.isatty() else None


def broken(name: str, message: str) -> Any:
    """A command that says why it cannot be used, both in the list of commands and when it is called."""
    app = typer.Typer(add_completion=False)

    @app.command(name, help=f"Cannot be used: {message}")
    def command() -> None:
        raise UsageError(message)

    return typer.main.get_command(app)
