"""Asks before something is removed."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import typer

from trainer.errors import UsageError
from trainer.terminal import say


def confirmed(lines: Iterable[str], what: str, *, where: str) -> None:
    """Shows the lines and asks whether to remove `what`, such as `this run`; ends the command if the answer is no.

    Raises UsageError if standard input is not a terminal.
    """
    if not sys.stdin.isatty():
        raise UsageError(
            "cannot ask for confirmation: standard input is not a terminal",
            where=where,
            fix="Pass --yes to remove without asking.",
        )
    for line in lines:
        say(line)
    if not typer.confirm(f"Remove {what} for good?"):
        say("nothing was removed")
        raise typer.Exit(1)
