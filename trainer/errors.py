"""The errors of the engine, and the form of their messages."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class TrainerError(Exception):
    """The base class of the errors that this package raises on purpose."""


class UsageError(TrainerError):
    """Something that the user can fix: the command line shows only the message, and exits with 2.

    `what` is wrong, `where` (a file, a column, an option) and `fix` (what to do about it) each take one sentence or
    less, without a full stop at the end of `where`. `row` is the row of the data that is wrong, from 1.
    """

    def __init__(self, what: str, *, where: str = "", fix: str = "", row: int | None = None) -> None:
        self.what = what
        self.where = where
        self.fix = fix
        self.row = row
        what = what if row is None else f"{what} at row {row}"
        message = f"{where}: {what}" if where else what
        end = "" if message.endswith(("?", ".")) else "."
        super().__init__(f"{message}{end} {fix}" if fix else message)


class ChangeError(UsageError):
    """A change of the net or the optimizer in mid-training that cannot be obeyed. `by` says who made it."""

    def by(self, whom: str) -> ChangeError:
        """The same error with the plugin that made the change."""
        return ChangeError(f"{self.where}: {self.what}", where=whom, fix=self.fix)


class PluginError(TrainerError):
    """A plugin failed in a hook; the original exception is the `__cause__`."""


class SourceError(TrainerError):
    """A user's own source of rows failed; the original exception is the `__cause__`."""


LONGEST = 150
"""Characters of another package's message within one of ours."""


def first_line(error: BaseException) -> str:
    """The first line of the error's message, or the name of its class if the message is empty; not too long."""
    return in_short((message_of(error).splitlines() or [type(error).__name__])[0])


def in_short(text: str, most: int = LONGEST) -> str:
    """The text in one line of at most `most` characters; `…` stands for what was cut, and for a long quotation.

    Libraries quote what they have read, which may be anything.
    """
    text = re.sub(r"""(?<!\w)b?(['"])(?:(?!\1).){50,}\1""", "…", text, flags=re.DOTALL)
    text = "".join(char if char.isprintable() else " " for char in text)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def message_of(error: BaseException) -> str:
    """The error's message, of MXNet's errors without the traceback of its C++ code that precedes it."""
    message = str(error).strip()
    return message.splitlines()[-1] if message.startswith("Traceback") else message


def last_line(error: BaseException) -> str:
    """The reason in one of MXNet's messages: its last line that is not a frame or a source file, without the latter."""
    lines = [line.strip() for line in str(error).splitlines()]
    lines = [line for line in lines if line and not re.match(r"\[bt\]|File |Traceback|Stack trace", line)]
    return in_short(re.sub(r"^.*?Error: |^.*\.(?:cc|h|cu):\d+: ", "", lines[-1]) if lines else type(error).__name__)


def type_of(value: object) -> str:
    """The type of a value with its article: `an int`, `a DataFrame`."""
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


SHORTEST = 3
"""Letters that an abbreviation must have to be recognised."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`Did you mean 'epoch_end'?` if one of the `known` names is similar to `name`, otherwise empty."""
    # Separators and capitals are the most common mistakes, so the match ignores them.
    folded = {known_name.replace("_", "-").lower(): known_name for known_name in known}
    matches = difflib.get_close_matches(name.replace("_", "-").lower(), folded, n=1, cutoff=0.55)
    if not matches and len(name) >= SHORTEST:
        # `acc` for accuracy, `auc` for roc-auc.
        short = name.replace("_", "-").lower()
        matches = [known_name for known_name in folded if known_name.startswith(short) or known_name.endswith(short)]
    return f"Did you mean {folded[matches[0]]!r}?" if matches else ""


def choose_from(name: str, known: Iterable[str], *, label: str = "It has", limit: int = 20) -> str:
    """The fix for a name that is not known: the `known` name close to it, or else the list of them."""
    known = list(known)
    return did_you_mean(name, known) or f"{label}: {listed(known, limit)}."


def listed(names: Iterable[str], limit: int = 20) -> str:
    """The names, comma-separated; after `limit` names only the number of the rest."""
    names = list(names)
    shown = ", ".join(names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown or "none"


__all__ = [
    "PluginError",
    "SourceError",
    "TrainerError",
    "UsageError",
    "choose_from",
    "did_you_mean",
    "first_line",
    "listed",
]
