"""Flags for the options of a dataclass. Their values stay text here; `Option.parse` alone parses and checks them."""

from __future__ import annotations

import inspect
from typing import Annotated, Any, Optional

import typer

from trainer.config import options


def option_flag(option: options.Option, panel: str) -> inspect.Parameter:
    """A flag for an option. Its value stays text here; `Option.parse` alone parses and checks values."""
    name = f"--{option.name}"
    default = option.default_text
    if option.is_switch:
        name, default = f"{name}/--no-{option.name}", f"{'' if option.default else 'no-'}{option.name}"
    return flag(
        option.field,
        name,
        bool if option.is_switch else list[str] if option.is_list else str,
        help_text=" ".join(
            part for part in (option.help, f"[{option.constraints}]" if option.constraints else "") if part
        ),
        default=default,
        metavar=None if option.is_switch else _metavar(option),
        panel=panel,
    )


def flag(
    field: str, name: str, kind: Any, *, help_text: str, default: str, metavar: str | None, panel: str
) -> inspect.Parameter:
    """A flag that is None if it is not given; the help text shows the default, and the launch applies it."""
    shown = f"{help_text} [default: {default}]" if default else help_text
    info = typer.Option(name, help=shown, metavar=metavar, rich_help_panel=panel, show_default=False)
    annotation = Annotated[Optional[kind], info]  # noqa: UP045
    return inspect.Parameter(field, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _metavar(option: options.Option) -> str:
    """INTEGER, TEXT and so on; the words of a choice in lower case, as you type them."""
    return option.type_name if "|" in option.type_name else option.type_name.upper()


def once(value: Any) -> Any:
    """The text of a list's flag that was given once, which may hold several parts; repeated, each text is a part."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value
