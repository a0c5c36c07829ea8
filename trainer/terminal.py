"""The one place that prints. Names from data and files cannot steer the terminal: control characters are escaped."""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback
import warnings
from contextlib import suppress
from types import TracebackType
from typing import TextIO

from trainer.errors import TrainerError

CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""C0, DEL and C1, what turns the direction of text or ends a line, and half characters of undecodable file names."""


def safe(text: str, *, keep: str = "\t") -> str:
    r"""The text with its control characters written out: `\x1b`, `\u009b`; those in `keep` stay.

    JSON stays JSON, since it has no raw characters below U+0020 inside strings.
    """
    return CONTROLS.sub(lambda found: found[0] if found[0] in keep else _written_out(found[0]), text)


def _written_out(character: str) -> str:
    names = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
    code = ord(character)
    return names.get(character) or (f"\\x{code:02x}" if code < 0x20 else f"\\u{code:04x}")


class OutputLost(TrainerError):  # noqa: N818  it says what it is
    """Standard output or standard error cannot be written to; the message says which and why."""


def say(text: str, *, err: bool = False, block: bool = False) -> None:
    """Prints a line on standard output or standard error; with `block`, a text of several lines.

    Raises BrokenPipeError if the reader has gone, and OutputLost if the output cannot be written for another reason.
    """
    stream: TextIO = sys.stderr if err else sys.stdout
    try:
        stream.write(safe(text, keep="\t\n" if block else "\t") + "\n")
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        name = "standard error" if err else "standard output"
        raise OutputLost(f"{name} cannot be written: {error.strerror or error}") from error


class RowOutput:
    """Standard output for rows of data: a pipe or a file gets their bytes, a terminal their text, escaped."""

    def __init__(self) -> None:
        # Of the bytes, because bars may stand in for the stream of text.
        self._file = sys.stdout.buffer
        self._encoding = sys.stdout.encoding or "utf-8"
        self._to_terminal = self._file.isatty()

    def write(self, rows: bytes) -> None:
        """Writes whole rows in UTF-8. Raises OSError if they cannot be written."""
        if self._to_terminal:
            text = safe(rows.decode(errors="replace"), keep="\t\n")
            rows = text.encode(self._encoding, errors="backslashreplace")
        self._file.write(rows)

    def flush(self) -> None:
        """Hands over what is buffered."""
        sys.stdout.flush()
        self._file.flush()


def say_warning(  # noqa: PLR0917  Python passes them by place
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Prints a warning of Python's, in place of `warnings.showwarning`."""
    text = warnings.formatwarning(message, category, filename, lineno, line)
    if file is not None:
        file.write(text)
        return
    # Like Python, which loses a warning that cannot be printed.
    with suppress(OSError, OutputLost):
        say(text.rstrip("\n"), err=True, block=True)


def drop_output() -> None:
    """Sends standard output nowhere, so that the interpreter does not complain at exit about what it cannot write."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say_traceback(error: BaseException, trace: TracebackType | None) -> None:
    """Prints a traceback on standard error."""
    say("".join(traceback.format_exception(type(error), error, trace)).rstrip("\n"), err=True, block=True)


NOTE = "note"
"""The attribute of a log record that is a note, and not a warning of something wrong."""


class SafeFormatter(logging.Formatter):
    """Formats log lines without control characters; those of notes begin with `note:`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, or several if the record has a traceback."""
        if getattr(record, NOTE, False):
            return safe(f"note: {record.getMessage()}")
        return safe(super().format(record), keep="\t\n")


class NotesOnce(logging.Filter):
    """Lets each note through once, however many runs a command trains."""

    def __init__(self) -> None:
        super().__init__()
        self._told: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is not a note that was told before."""
        text = record.getMessage()
        if not getattr(record, NOTE, False):
            return True
        is_new = text not in self._told
        self._told.add(text)
        return is_new


def prepare_streams() -> None:
    """Lets every text be printed: what a terminal's encoding lacks is written out, in place of an error."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
